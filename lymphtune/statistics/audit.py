"""How well single attributes predict the label, each alone, out of fold, and what permuted labels reach by chance.

Shapes: S sets of labels (the true ones first, then permuted ones), P patients, J patients judged, X attributes.
"""

import numpy as np
import pandas as pd

from lymphtune.statistics.bootstrap import BOUNDS
from lymphtune.statistics.metrics import auc, balanced_accuracy, class_weights

PERMUTATIONS = 200
STEPS = 15  # of Newton's method; far more than two weights need
RIDGE = 1.0  # weight of half the squared slope, beside a sum of losses over as many patients as there are
SMALLEST_SD = 1e-9


def audit(attributes_PX: pd.DataFrame, labels_P: np.ndarray, fold_P: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """Return one row an attribute (a column of `attributes_PX`) with what it predicts alone, best first.

    Columns attribute, auc, balanced_accuracy, then for either `<metric>_low` and `<metric>_high`: the central 95 % of
    what permuted labels reach; p: share of permutations with as high an AUC; p_all: with as high an AUC of any of the
    attributes (Westfall and Young 1993, section 2.3: single step). fold_P: where each patient is held out, -1: only
    trained on.

    A logistic regression on the attribute, standardised on its training patients, both classes weighing the same, is
    fitted on the other folds; labels are permuted within folds, which stay as stratified as they were.
    """
    labels_SP = _permuted(labels_P, fold_P, seed)
    judged = fold_P >= 0
    metrics_X2S = [_scores(attributes_PX[name].to_numpy(), labels_SP, fold_P, judged) for name in attributes_PX]
    auc_XS = np.array([auc_S for auc_S, _ in metrics_X2S])
    best_S = auc_XS.max(axis=0)
    rows = []
    for name, (auc_S, accuracy_S) in zip(attributes_PX, metrics_X2S, strict=True):
        row = {"attribute": name, "auc": auc_S[0], "balanced_accuracy": accuracy_S[0]}
        for metric, found_S in (("auc", auc_S), ("balanced_accuracy", accuracy_S)):
            low, high = np.quantile(found_S[1:], BOUNDS)
            row |= {f"{metric}_low": low, f"{metric}_high": high}
        rows.append(row | {"p": _p(auc_S[0], auc_S[1:]), "p_all": _p(auc_S[0], best_S[1:])})
    return pd.DataFrame(rows).sort_values("auc", ascending=False, kind="stable").reset_index(drop=True)


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
    value_P: np.ndarray, labels_SP: np.ndarray, fold_P: np.ndarray, judged: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return AUC and balanced accuracy [S] of the judged patients."""
    said_SP = _out_of_fold(value_P, labels_SP, fold_P)[:, judged]
    pairs = list(zip(said_SP, labels_SP[:, judged], strict=True))
    return tuple(  # type: ignore[return-value]
        np.array([float(metric(said_J, labels_J)) for said_J, labels_J in pairs]) for metric in (auc, balanced_accuracy)
    )


def _out_of_fold(value_P: np.ndarray, labels_SP: np.ndarray, fold_P: np.ndarray) -> np.ndarray:
    """Return the probability [S, P] of each patient's label by the regression that was fitted without its fold."""
    said_SP = np.full(labels_SP.shape, np.nan)
    for fold in np.unique(fold_P[fold_P >= 0]):
        train, held = fold_P != fold, fold_P == fold
        standard_P = (value_P - value_P[train].mean()) / max(value_P[train].std(), SMALLEST_SD)
        offset_S, slope_S = _fit(standard_P[train], labels_SP[:, train])
        said_SP[:, held] = _sigmoid(offset_S[:, None] + slope_S[:, None] * standard_P[held])
    return said_SP


def _fit(value_T: np.ndarray, labels_ST: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return offset and slope [S] of the regression on the training patients, by Newton's method."""
    weight_ST = np.stack([class_weights(labels_T, None) for labels_T in labels_ST]) * labels_ST.shape[1]
    offset_S, slope_S = np.zeros(len(labels_ST)), np.zeros(len(labels_ST))
    for _ in range(STEPS):
        said_ST = _sigmoid(offset_S[:, None] + slope_S[:, None] * value_T)
        miss_ST, curve_ST = weight_ST * (said_ST - labels_ST), weight_ST * said_ST * (1 - said_ST)
        first_S, second_S = miss_ST.sum(axis=1), miss_ST @ value_T + RIDGE * slope_S
        a_S, b_S, c_S = curve_ST.sum(axis=1), curve_ST @ value_T, curve_ST @ value_T**2 + RIDGE
        determinant_S = a_S * c_S - b_S**2
        offset_S = offset_S - (c_S * first_S - b_S * second_S) / determinant_S
        slope_S = slope_S - (a_S * second_S - b_S * first_S) / determinant_S
    return offset_S, slope_S


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(logit, -30, 30)))
