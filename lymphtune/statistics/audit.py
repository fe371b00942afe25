"""Out-of-fold prediction of the label from each attribute alone, compared with a permutation test.

Shapes: S sets of labels (the true ones first, then permuted ones), P patients, T of them in training, Q of them scored,
D columns of one attribute, W weights of the regression (intercept and slopes).
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from lymphtune import console
from lymphtune.statistics.bootstrap import BOUNDS
from lymphtune.statistics.metrics import THRESHOLD, class_weights

PERMUTATIONS = 200
STEPS = 15  # steps of Newton's method; a few weights converge in far fewer
RIDGE = 1.0  # L2 penalty: weight of half the squared slopes, added to the sum of losses over patients
SMALLEST_SD = 1e-9
FEWEST = 3  # patients with a category; rarer categories are merged


def audit(
    attributes: pd.DataFrame | Mapping[str, np.ndarray], labels_P: np.ndarray, fold_P: np.ndarray, seed: int = 0
) -> pd.DataFrame:
    """Return one row per attribute with the scores of a model on this attribute alone, best first.

    attributes: by name, numbers [P], categories [P] or several columns [P, D] that form one attribute. fold_P: the fold
    in which each patient is held out; -1 for a patient that is only in training.

    Columns: attribute, auc, balanced_accuracy; `<metric>_low` and `<metric>_high`, the central 95 % under permuted
    labels; p, the fraction of permutations with an AUC at least as high; p_all, the same for the highest AUC over all
    attributes (Westfall and Young 1993, section 2.3: single step).

    The model is a class-balanced logistic regression on the attribute, standardised on the training patients and fitted
    on the other folds. Labels are permuted within folds, so the folds stay stratified.
    """
    labels_SP = _permuted(labels_P, fold_P, seed)
    scored = fold_P >= 0
    names = list(attributes)
    metrics_X2S = [
        _scores(in_columns(np.asarray(attributes[name])), labels_SP, fold_P, scored)
        for name in console.each(names, "Permuting labels", len(names))
    ]
    best_S = np.max([auc_S for auc_S, _ in metrics_X2S], axis=0)
    rows = []
    for name, (auc_S, accuracy_S) in zip(names, metrics_X2S, strict=True):
        row = {"attribute": name, "auc": auc_S[0], "balanced_accuracy": accuracy_S[0]}
        for metric, value_S in (("auc", auc_S), ("balanced_accuracy", accuracy_S)):
            low, high = np.quantile(value_S[1:], BOUNDS)
            row |= {f"{metric}_low": low, f"{metric}_high": high}
        rows.append(row | {"p": _p(auc_S[0], auc_S[1:]), "p_all": _p(auc_S[0], best_S[1:])})
    return pd.DataFrame(rows).sort_values("auc", ascending=False, kind="stable").reset_index(drop=True)


def in_columns(values: np.ndarray) -> np.ndarray:
    """Return an attribute's values as numbers [P, D]; categories are one-hot encoded, rare ones as one category."""
    if values.dtype.kind in "OUS":
        known, number_P, count_W = np.unique(values.astype(str), return_inverse=True, return_counts=True)
        number_P = np.where(count_W[number_P] < FEWEST, len(known), number_P)
        values = (number_P[:, None] == np.unique(number_P)).astype(float)
    return values.reshape(len(values), -1).astype(float)


def _p(observed: float, permuted_S: np.ndarray) -> float:
    """Return the p-value of a permutation test: the fraction of values, the observed one included, at least as high."""
    return float((1 + (permuted_S >= observed - 1e-12).sum()) / (1 + len(permuted_S)))


def _permuted(labels_P: np.ndarray, fold_P: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels_SP = np.tile(labels_P, (1 + PERMUTATIONS, 1))
    for fold in np.unique(fold_P):
        members = np.flatnonzero(fold_P == fold)
        labels_SP[1:, members] = rng.permuted(labels_SP[1:, members], axis=1)
    return labels_SP


def _scores(
    values_PD: np.ndarray, labels_SP: np.ndarray, fold_P: np.ndarray, scored: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return AUC and balanced accuracy [S] on the scored patients."""
    probability_SQ, tumoral_SQ = _out_of_fold(values_PD, labels_SP, fold_P)[:, scored], labels_SP[:, scored] == 1
    tumoral_S = tumoral_SQ.sum(axis=1)
    reactive_S = tumoral_SQ.shape[1] - tumoral_S
    # The AUC is the Mann-Whitney statistic; one ranking per set of labels, where metrics.auc takes one set at a time.
    ranks_S = (rankdata(probability_SQ, axis=1) * tumoral_SQ).sum(axis=1)
    auc_S = (ranks_S - tumoral_S * (tumoral_S + 1) / 2) / (tumoral_S * reactive_S)
    called_SQ = probability_SQ >= THRESHOLD
    recall_S = (called_SQ & tumoral_SQ).sum(axis=1) / tumoral_S
    specificity_S = (~called_SQ & ~tumoral_SQ).sum(axis=1) / reactive_S
    return auc_S, (recall_S + specificity_S) / 2


def _out_of_fold(values_PD: np.ndarray, labels_SP: np.ndarray, fold_P: np.ndarray) -> np.ndarray:
    """Return the out-of-fold probability [S, P] of tumoral."""
    probability_SP = np.full(labels_SP.shape, np.nan)
    for fold in np.unique(fold_P[fold_P >= 0]):
        train, held = fold_P != fold, fold_P == fold
        mean_D, sd_D = values_PD[train].mean(axis=0), values_PD[train].std(axis=0)
        standard_PD = (values_PD - mean_D) / np.maximum(sd_D, SMALLEST_SD)
        weights_SW = _fit(standard_PD[train], labels_SP[:, train])
        probability_SP[:, held] = _sigmoid(weights_SW[:, :1] + weights_SW[:, 1:] @ standard_PD[held].T)
    return probability_SP


def _fit(values_TD: np.ndarray, labels_ST: np.ndarray) -> np.ndarray:
    """Fit the regression on the training patients by Newton's method; return intercept and slopes [S, W]."""
    weight_ST = np.stack([class_weights(labels_T, None) for labels_T in labels_ST]) * labels_ST.shape[1]
    given_TW = np.column_stack([np.ones(len(values_TD)), values_TD])
    ridge_W = np.full(given_TW.shape[1], RIDGE)
    ridge_W[0] = 0.0
    pairs_TWW = given_TW[:, :, None] * given_TW[:, None, :]
    weights_SW = np.zeros((len(labels_ST), given_TW.shape[1]))
    for _ in range(STEPS):
        probability_ST = _sigmoid(weights_SW @ given_TW.T)
        slope_SW = (weight_ST * (probability_ST - labels_ST)) @ given_TW + ridge_W * weights_SW
        curve_ST = weight_ST * probability_ST * (1 - probability_ST)
        curve_SWW = (curve_ST @ pairs_TWW.reshape(len(given_TW), -1)).reshape(-1, *pairs_TWW.shape[1:])
        weights_SW = weights_SW - np.linalg.solve(curve_SWW + np.diag(ridge_W), slope_SW[..., None])[..., 0]
    return weights_SW


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(logit, -30, 30)))
