"""ROC curves of shares of calls, and their bands over resampled patients.

Shapes: P patients, T thresholds from high to low, S resamples, G false positive rates of a grid.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import auc as area  # NumPy's own has another name before 2.0

from lymphtune.statistics.bootstrap import BOUNDS, RESAMPLES, resample

GRID_G = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Roc:
    """A curve from (0, 0) to (1, 1), a point a threshold, with the central 95 % of its resampled kin on GRID_G."""

    false_positive_T: np.ndarray
    true_positive_T: np.ndarray
    low_G: np.ndarray
    high_G: np.ndarray

    @property
    def auc(self) -> float:
        """Return the area under the curve, by trapezoids."""
        return float(area(self.false_positive_T, self.true_positive_T))


def roc(
    called_PT: np.ndarray,
    labels_P: np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = 0,
    group_P: np.ndarray | None = None,
) -> Roc:
    """Return the curve of how often each patient is called tumoral at each threshold, 0 or 1 where it is said once.

    The band is that of patients resampled within their classes, read off at each false positive rate (Fawcett 2006,
    section 9.1, vertical averaging); it closes where nobody is misplaced, which few patients do not prove.
    """
    reactive_P, tumoral_P = labels_P == 0, labels_P == 1
    counts_SP = resample(labels_P, resamples, seed, group_P).astype(float)
    false_T, true_T = called_PT[reactive_P].mean(axis=0), called_PT[tumoral_P].mean(axis=0)
    false_ST, true_ST = (
        counts_SP[:, of] @ called_PT[of] / np.maximum(counts_SP[:, of].sum(axis=1, keepdims=True), 1)
        for of in (reactive_P, tumoral_P)
    )
    true_SG = np.stack([_read_off(*pair) for pair in zip(false_ST, true_ST, strict=True)])
    low_G, high_G = np.quantile(true_SG, BOUNDS, axis=0)
    there_G = _read_off(false_T, true_T)
    return Roc(false_T, true_T, np.minimum(low_G, there_G), np.maximum(high_G, there_G))


def calls(probabilities_P: np.ndarray) -> np.ndarray:
    """Return whether each patient is called at each probability said, from none of them to all [P, T]."""
    thresholds_T = np.concatenate([[np.inf], np.unique(probabilities_P)[::-1]])
    return (probabilities_P[:, None] >= thresholds_T).astype(float)


def _read_off(false_T: np.ndarray, true_T: np.ndarray) -> np.ndarray:
    """Return the true positive rates at GRID_G, the highest one where the curve goes straight up."""
    return np.interp(GRID_G, false_T.round(12), true_T)
