"""ROC curves with confidence bands over resampled patients.

Shapes: P patients, T thresholds from high to low, S resamples, G false positive rates of a grid.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import auc as area  # np.trapezoid does not exist before NumPy 2.0

from lymphtune.statistics.bootstrap import BOUNDS, RESAMPLES, resample

GRID_G = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Roc:
    """A curve from (0, 0) to (1, 1), one point per threshold, and its 95 % band at the false positive rates GRID_G."""

    false_positive_T: np.ndarray
    true_positive_T: np.ndarray
    low_G: np.ndarray
    high_G: np.ndarray

    @property
    def auc(self) -> float:
        """Return the area under the curve by the trapezoidal rule."""
        return float(area(self.false_positive_T, self.true_positive_T))


def roc(
    called_PT: np.ndarray,
    labels_P: np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = 0,
    group_P: np.ndarray | None = None,
) -> Roc:
    """Return the ROC curve of `called_PT`, the fraction of calls in which each patient is tumoral at each threshold.

    With one call per patient the fractions are 0 or 1. The band comes from patients resampled within their classes, at
    each false positive rate (vertical averaging: Fawcett 2006, section 9.1). Its width is 0 where no patient is
    misranked, which in a small sample is no evidence of a perfect model.
    """
    reactive_P, tumoral_P = labels_P == 0, labels_P == 1
    counts_SP = resample(labels_P, resamples, seed, group_P).astype(float)
    false_T, true_T = called_PT[reactive_P].mean(axis=0), called_PT[tumoral_P].mean(axis=0)
    false_ST, true_ST = (
        counts_SP[:, of_P] @ called_PT[of_P] / np.maximum(counts_SP[:, of_P].sum(axis=1, keepdims=True), 1)
        for of_P in (reactive_P, tumoral_P)
    )
    true_SG = np.stack([_interpolated(*pair) for pair in zip(false_ST, true_ST, strict=True)])
    low_G, high_G = np.quantile(true_SG, BOUNDS, axis=0)
    true_G = _interpolated(false_T, true_T)
    return Roc(false_T, true_T, np.minimum(low_G, true_G), np.maximum(high_G, true_G))


def calls(probabilities_P: np.ndarray) -> np.ndarray:
    """Return the calls [P, T] at every distinct probability as a threshold, from no patient called to all."""
    thresholds_T = np.concatenate([[np.inf], np.unique(probabilities_P)[::-1]])
    return (probabilities_P[:, None] >= thresholds_T).astype(float)


def _interpolated(false_T: np.ndarray, true_T: np.ndarray) -> np.ndarray:
    """Return the true positive rates at GRID_G, the highest one where the curve is vertical."""
    return np.interp(GRID_G, false_T.round(12), true_T)
