"""Bootstrap over patients: resamples of them, and the interval of what they gave.

Shapes: P patients, S resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95
LEAST_GROUPS = 20  # fewer say too little of other groups to stand for them
BOUNDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)  # quantiles, between which it lies


@dataclass(frozen=True)
class Interval:
    """A value with the interval that holds the truth in 95 of 100 such samples of patients."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f})"


def resample(labels_P: np.ndarray, resamples: int, seed: int, group_P: np.ndarray | None = None) -> np.ndarray:
    """Return counts [S, P]: how often each patient is drawn; the two classes keep their sizes.

    group_P: the group of each patient, from 0 on; groups are then drawn whole, those of one class among themselves and
    those of both among themselves (the cluster bootstrap of Davison and Hinkley 1997, section 3.8). A group of one
    patient is that patient.
    """
    rng = np.random.default_rng(seed)
    group_P = np.arange(len(labels_P)) if group_P is None else group_P
    share_G = np.bincount(group_P, labels_P) / np.bincount(group_P)
    counts_SG = np.zeros((resamples, len(share_G)), dtype=np.int64)
    for of in _strata(share_G):
        if n := int(of.sum()):
            counts_SG[:, of] = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
    return counts_SG[:, group_P]


def _strata(share_G: np.ndarray) -> list[np.ndarray]:
    """Return which groups [G] are drawn among each other: those of either class alone, and those of both.

    A lone group would be in every resample. It is drawn with the groups of both classes where there are any; the one
    group of both classes is drawn with the class of more groups. Either class stays in every resample.
    """
    reactive, tumoral, both = share_G == 0, share_G == 1, (share_G > 0) & (share_G < 1)
    for pure in (reactive, tumoral):
        if pure.sum() == 1 and both.any():
            both, pure[...] = both | pure, False
    if both.sum() == 1:
        larger = reactive if reactive.sum() >= tumoral.sum() else tumoral
        larger[...], both = larger | both, np.zeros_like(both)
    return [reactive, tumoral, both]


def grouping(groups: Sequence[str] | np.ndarray) -> np.ndarray | None:
    """Return the groups as numbers from 0 on, None where every patient is alone, or where they are too few to draw."""
    names, group_P = np.unique(np.asarray(groups), return_inverse=True)
    return group_P if LEAST_GROUPS <= len(names) < len(group_P) else None


def spread(value: float, drawn: np.ndarray) -> Interval:
    """Return the value with the central 95 % of what resamples gave."""
    low, high = np.quantile(drawn, BOUNDS)
    return Interval(value, float(low), float(high))
