"""How well single attributes predict the label, each alone, out of fold, and what permuted labels reach by chance.

Shapes: S sets of labels (the true ones first, then permuted ones), P patients, T of them trained on, J judged, D
columns of one attribute, W weights of the regression (offset and slopes).
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from lymphtune import console
from lymphtune.statistics.bootstrap import BOUNDS
from lymphtune.statistics.metrics import THRESHOLD, class_weights

PERMUTATIONS = 200
STEPS = 15  # of Newton's method; far more than a few weights need
RIDGE = 1.0  # weight of half the squared slopes, beside a sum of losses over as many patients as there are
SMALLEST_SD = 1e-9
FEWEST = 3  # patients of a word; those of rarer ones go together


def audit(
    attributes: pd.DataFrame | Mapping[str, np.ndarray], labels_P: np.ndarray, fold_P: np.ndarray, seed: int = 0
) -> pd.DataFrame:
    """Return one row an attribute with what it predicts alone, best first.

    attributes: by name numbers [P], words [P] or several columns [P, D] that make one
    attribute. fold_P: where each patient is held out, -1: only trained on.

    Columns attribute, auc, balanced_accuracy, then for either `<metric>_low` and `<metric>_high`: the central 95 % of
    what permuted labels reach; p: share of permutations with as high an AUC; p_all: with as high an AUC of any of the
    attributes (Westfall and Young 1993, section 2.3: single step).

    A logistic regression on the attribute, standardised on its training patients, both classes weighing the same, is
    fitted on the other folds; labels are permuted within folds, which stay as stratified as they were.
    """
    labels_SP = _permuted(labels_P, fold_P, seed)
    judged = fold_P >= 0
    names = list(attributes)
    metrics_X2S = [
        _scores(in_columns(np.asarray(attributes[name])), labels_SP, fold_P, judged)
        for name in console.each(names, "Permuting labels", len(names))
    ]
    best_S = np.max([auc_S for auc_S, _ in metrics_X2S], axis=0)
    rows = []
    for name, (auc_S, accuracy_S) in zip(names, metrics_X2S, strict=True):
        row = {"attribute": name, "auc": auc_S[0], "balanced_accuracy": accuracy_S[0]}
        for metric, found_S in (("auc", auc_S), ("balanced_accuracy", accuracy_S)):
            low, high = np.quantile(found_S[1:], BOUNDS)
            row |= {f"{metric}_low": low, f"{metric}_high": high}
        rows.append(row | {"p": _p(auc_S[0], auc_S[1:]), "p_all": _p(auc_S[0], best_S[1:])})
    return pd.DataFrame(rows).sort_values("auc", ascending=False, kind="stable").reset_index(drop=True)


def in_columns(values: np.ndarray) -> np.ndarray:
    """Return an attribute's values as numbers [P, D]: words become a column of 0 and 1 for each that is not rare."""
    if values.dtype.kind in "OUS":
        known, number_P, count_W = np.unique(values.astype(str), return_inverse=True, return_counts=True)
        number_P = np.where(count_W[number_P] < FEWEST, len(known), number_P)
        values = (number_P[:, None] == np.unique(number_P)).astype(float)
    return values.reshape(len(values), -1).astype(float)


def _p(found: float, by_chance_S: np.ndarray) -> float:
    """Return the share that reaches as much, what was found among them."""
    return float((1 + (by_chance_S >= found - 1e-12).sum()) / (1 + len(by_chance_S)))


def _permuted(labels_P: np.ndarray, fold_P: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels_SP = np.tile(labels_P, (1 + PERMUTATIONS, 1))
    for fold in np.unique(fold_P):
        of = np.flatnonzero(fold_P == fold)
        labels_SP[1:, of] = rng.permuted(labels_SP[1:, of], axis=1)
    return labels_SP


def _scores(
    values_PD: np.ndarray, labels_SP: np.ndarray, fold_P: np.ndarray, judged: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return AUC and balanced accuracy [S] of the judged patients."""
    probability_SJ, tumoral_SJ = _out_of_fold(values_PD, labels_SP, fold_P)[:, judged], labels_SP[:, judged] == 1
    tumoral_S = tumoral_SJ.sum(axis=1)
    reactive_S = tumoral_SJ.shape[1] - tumoral_S
    # the area is Mann and Whitney's statistic: one ranking a set of labels, where metrics.auc takes one set at a time
    ranks_S = (rankdata(probability_SJ, axis=1) * tumoral_SJ).sum(axis=1)
    auc_S = (ranks_S - tumoral_S * (tumoral_S + 1) / 2) / (tumoral_S * reactive_S)
    called_SJ = probability_SJ >= THRESHOLD
    recall_S = (called_SJ & tumoral_SJ).sum(axis=1) / tumoral_S
    specificity_S = (~called_SJ & ~tumoral_SJ).sum(axis=1) / reactive_S
    return auc_S, (recall_S + specificity_S) / 2


def _out_of_fold(values_PD: np.ndarray, labels_SP: np.ndarray, fold_P: np.ndarray) -> np.ndarray:
    """Return the probability [S, P] of each patient's label by the regression that was fitted without its fold."""
    probability_SP = np.full(labels_SP.shape, np.nan)
    for fold in np.unique(fold_P[fold_P >= 0]):
        train, held = fold_P != fold, fold_P == fold
        mean_D, sd_D = values_PD[train].mean(axis=0), values_PD[train].std(axis=0)
        standard_PD = (values_PD - mean_D) / np.maximum(sd_D, SMALLEST_SD)
        weights_SW = _fit(standard_PD[train], labels_SP[:, train])
        probability_SP[:, held] = _sigmoid(weights_SW[:, :1] + weights_SW[:, 1:] @ standard_PD[held].T)
    return probability_SP


def _fit(values_TD: np.ndarray, labels_ST: np.ndarray) -> np.ndarray:
    """Return offset and slopes [S, W] of the regression on the training patients, by Newton's method."""
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
