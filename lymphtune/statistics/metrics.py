"""Metrics of probabilities against labels, over any number of models and weightings of the patients at once.

Shapes: P patients, ... any leading axes (models, resamples). Labels are 0 or 1. weights_P: how often each
patient counts (a resample of the patients is a vector of such counts); None = once each.
"""

import numpy as np

SMALLEST = 1e-6  # probabilities are kept this far from 0 and 1 in a logarithm
THRESHOLD = 0.5


def recall(probabilities_P: np.ndarray, labels_P: np.ndarray, weights_P: np.ndarray | None = None) -> np.ndarray:
    """Return the share [...] of tumoral patients called tumoral (probability at least 0.5)."""
    return _share(probabilities_P >= THRESHOLD, labels_P == 1, weights_P)


def specificity(probabilities_P: np.ndarray, labels_P: np.ndarray, weights_P: np.ndarray | None = None) -> np.ndarray:
    """Return the share [...] of reactive patients called reactive."""
    return _share(probabilities_P < THRESHOLD, labels_P == 0, weights_P)


def balanced_accuracy(
    probabilities_P: np.ndarray, labels_P: np.ndarray, weights_P: np.ndarray | None = None
) -> np.ndarray:
    """Return the mean of recall and specificity."""
    return 0.5 * (recall(probabilities_P, labels_P, weights_P) + specificity(probabilities_P, labels_P, weights_P))


def balanced_log_loss(
    probabilities_P: np.ndarray, labels_P: np.ndarray, weights_P: np.ndarray | None = None
) -> np.ndarray:
    """Return the mean of the two classes' mean log losses: moves with every patient, where accuracies jump."""
    probabilities_P = np.clip(probabilities_P, SMALLEST, 1 - SMALLEST)
    tumoral = _share(-np.log(probabilities_P), labels_P == 1, weights_P)
    return 0.5 * (tumoral + _share(-np.log1p(-probabilities_P), labels_P == 0, weights_P))


def auc(probabilities_P: np.ndarray, labels_P: np.ndarray, weights_P: np.ndarray | None = None) -> np.ndarray:
    """Return the chance [...] that a tumoral patient stands above a reactive one, ties counting half."""
    tumoral, reactive = labels_P == 1, labels_P == 0
    high, low = probabilities_P[..., tumoral, None], probabilities_P[..., None, reactive]
    wins = (high > low) + 0.5 * (high == low)
    weights = np.ones(len(labels_P)) if weights_P is None else np.asarray(weights_P, dtype=float)
    won = np.einsum("...i,...ij,...j->...", weights[..., tumoral], wins, weights[..., reactive], optimize=True)
    return won / (weights[..., tumoral].sum(-1) * weights[..., reactive].sum(-1))


def _share(values_P: np.ndarray, of_P: np.ndarray, weights_P: np.ndarray | None) -> np.ndarray:
    """Return the weighted mean of values_P over the patients in of_P."""
    weights = of_P if weights_P is None else weights_P * of_P
    return (values_P * weights).sum(-1) / weights.sum(-1)


METRICS = {
    "balanced_accuracy": balanced_accuracy,
    "recall": recall,
    "specificity": specificity,
    "auc": auc,
    "log_loss": balanced_log_loss,
}
