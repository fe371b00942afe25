"""Bootstrap over patients: resamples of them, and the interval of what they gave.

Shapes: P patients, S resamples.
"""

from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95
BOUNDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)  # quantiles, between which it lies


@dataclass(frozen=True)
class Interval:
    """A value with the interval that holds the truth in 95 of 100 such samples of patients."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f})"


def resample(labels_P: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return counts [S, P]: how often each patient is drawn; the two classes keep their sizes."""
    rng = np.random.default_rng(seed)
    counts_SP = np.zeros((resamples, len(labels_P)), dtype=np.int64)
    for label in (0, 1):
        of = np.flatnonzero(labels_P == label)
        counts_SP[:, of] = rng.multinomial(len(of), np.full(len(of), 1 / len(of)), size=resamples)
    return counts_SP


def spread(value: float, drawn: np.ndarray) -> Interval:
    """Return the value with the central 95 % of what resamples gave."""
    low, high = np.quantile(drawn, BOUNDS)
    return Interval(value, float(low), float(high))
