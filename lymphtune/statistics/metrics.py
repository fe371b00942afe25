"""Metrics of probabilities against labels, for any number of models and patient weightings at once.

Shapes: P patients, ... any leading axes (models, resamples). Labels are 0 or 1. weights_P: how often each
patient counts (a resample of the patients is a vector of such counts); None counts each patient once.

If one class has no patients or no weight, recall or specificity of the other class is still defined; every other
metric is NaN, without a warning. `cohort.folds` makes sure that the metrics of a search have patients of both classes.
"""

import numpy as np

SMALLEST = 1e-6  # probabilities are clipped this far from 0 and 1 before a logarithm
THRESHOLD = 0.5
BINS = 10  # bins of the calibration error


def recall(probabilities_P: np.ndarray, labels_P: np.ndarray, weights_P: np.ndarray | None = None) -> np.ndarray:
    """Return the fraction [...] of tumoral patients called tumoral (probability at least 0.5)."""
    return _share(probabilities_P >= THRESHOLD, labels_P == 1, weights_P)


def specificity(probabilities_P: np.ndarray, labels_P: np.ndarray, weights_P: np.ndarray | None = None) -> np.ndarray:
    """Return the fraction [...] of reactive patients called reactive."""
    return _share(probabilities_P < THRESHOLD, labels_P == 0, weights_P)


def balanced_accuracy(
    probabilities_P: np.ndarray, labels_P: np.ndarray, weights_P: np.ndarray | None = None
) -> np.ndarray:
    """Return the mean of recall and specificity."""
    return 0.5 * (recall(probabilities_P, labels_P, weights_P) + specificity(probabilities_P, labels_P, weights_P))


def balanced_log_loss(
    probabilities_P: np.ndarray, labels_P: np.ndarray, weights_P: np.ndarray | None = None
) -> np.ndarray:
    """Return the mean of the two classes' mean log losses; unlike an accuracy it is continuous in the probabilities."""
    return _class_mean(log_losses(probabilities_P, labels_P), labels_P, weights_P)


def brier(probabilities_P: np.ndarray, labels_P: np.ndarray, weights_P: np.ndarray | None = None) -> np.ndarray:
    """Return the mean of the two classes' mean squared errors."""
    return _class_mean((probabilities_P - labels_P) ** 2, labels_P, weights_P)


def calibration_error(
    probabilities_P: np.ndarray, labels_P: np.ndarray, weights_P: np.ndarray | None = None
) -> np.ndarray:
    """Return the class-balanced expected calibration error over ten bins of equal width.

    It is biased upwards in small samples: a perfectly calibrated model has about 0.1 on 100 patients.
    Source: Guo et al. 2017, eq. 3 (arXiv:1706.04599).
    """
    gap_B = calibration_gaps(probabilities_P, labels_P, class_weights(labels_P, weights_P))
    return np.abs(gap_B).sum(-1) + (0.0 if len(labels_P) else np.nan)  # NaN without patients, as the other metrics


def calibration_gaps(probabilities_P: np.ndarray, labels_P: np.ndarray, weights_P: np.ndarray) -> np.ndarray:
    """Return, for each of ten bins of equal width [..., BINS], the weighted sum of label minus probability."""
    bin_P, gap_P = calibration_bin(probabilities_P), weights_P * (labels_P - probabilities_P)
    return np.stack([(gap_P * (bin_P == number)).sum(-1) for number in range(BINS)], axis=-1)


def calibration_bin(probabilities_P: np.ndarray) -> np.ndarray:
    """Return the index of the equal-width bin of each probability."""
    return np.minimum((probabilities_P * BINS).astype(int), BINS - 1)


def auc(probabilities_P: np.ndarray, labels_P: np.ndarray, weights_P: np.ndarray | None = None) -> np.ndarray:
    """Return the probability [...] that a tumoral patient ranks above a reactive one, ties counting half."""
    return _share(placements(probabilities_P, labels_P, weights_P), labels_P == 1, weights_P)


def placements(probabilities_P: np.ndarray, labels_P: np.ndarray, weights_P: np.ndarray | None = None) -> np.ndarray:
    """Return for each patient the weighted fraction [..., P] of the other class that it ranks correctly against.

    Ties count half. The mean over one class is the area under the ROC curve.
    Source: DeLong, DeLong and Clarke-Pearson 1988, eq. 6.
    """
    weights_P = np.ones(len(labels_P)) if weights_P is None else np.asarray(weights_P, dtype=float)
    probabilities_P, weights_P = np.broadcast_arrays(probabilities_P, weights_P)
    order = np.argsort(probabilities_P, axis=-1)
    sorted_P, label_P = np.take_along_axis(probabilities_P, order, -1), labels_P[order]
    position = np.arange(len(labels_P))
    starts = np.concatenate([np.ones_like(sorted_P[..., :1], bool), sorted_P[..., 1:] != sorted_P[..., :-1]], axis=-1)
    ends = np.concatenate([starts[..., 1:], np.ones_like(starts[..., :1])], axis=-1)
    # The first and the last position of each patient's ties.
    first = np.maximum.accumulate(np.where(starts, position, 0), axis=-1)
    last = np.minimum.accumulate(np.where(ends, position, len(position))[..., ::-1], axis=-1)[..., ::-1]
    placement_P = np.zeros(sorted_P.shape)
    for label in (0, 1):
        weight_P = np.take_along_axis(weights_P, order, -1) * (label_P != label)
        cumulated_P = np.cumsum(weight_P, axis=-1)
        below_P = np.take_along_axis(cumulated_P - weight_P, first, -1)
        share_P = _ratio((below_P + np.take_along_axis(cumulated_P, last, -1)) / 2, cumulated_P[..., -1:])
        placement_P = np.where(label_P == label, share_P if label else 1 - share_P, placement_P)
    result_P = np.empty_like(placement_P)
    np.put_along_axis(result_P, order, placement_P, -1)
    return result_P


def log_losses(probabilities_P: np.ndarray, labels_P: np.ndarray) -> np.ndarray:
    """Return each patient's log loss [..., P]."""
    probabilities_P = np.clip(probabilities_P, SMALLEST, 1 - SMALLEST)
    return -np.log(np.where(labels_P == 1, probabilities_P, 1 - probabilities_P))


def class_weights(labels_P: np.ndarray, weights_P: np.ndarray | None = None) -> np.ndarray:
    """Return the patients' weights [..., P], scaled so that those of each class sum to 1/2."""
    weights_P = np.ones(len(labels_P)) if weights_P is None else np.asarray(weights_P, dtype=float)
    shares_P = np.zeros(weights_P.shape)
    for label in (0, 1):
        of_P = weights_P * (labels_P == label)
        shares_P += _ratio(0.5 * of_P, of_P.sum(-1, keepdims=True))
    return shares_P


def _class_mean(values_P: np.ndarray, labels_P: np.ndarray, weights_P: np.ndarray | None) -> np.ndarray:
    """Return the mean [...] of the two classes' means."""
    return 0.5 * (_share(values_P, labels_P == 1, weights_P) + _share(values_P, labels_P == 0, weights_P))


def _share(values_P: np.ndarray, of_P: np.ndarray, weights_P: np.ndarray | None) -> np.ndarray:
    """Return the weighted mean of values_P over the patients in of_P."""
    weights = of_P if weights_P is None else weights_P * of_P
    return _ratio((values_P * weights).sum(-1), weights.sum(-1))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, NaN where the whole is 0; a scalar for scalars."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.asarray(whole) == 0, np.nan, part / whole)[()]


METRICS = {
    "balanced_accuracy": balanced_accuracy,
    "recall": recall,
    "specificity": specificity,
    "auc": auc,
    "log_loss": balanced_log_loss,
    "brier": brier,
    "calibration_error": calibration_error,
}
