"""Bootstrap over patients: resampling counts and percentile intervals.

Shapes: P patients, S resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95
LEAST_GROUPS = 20  # with fewer groups, a cluster bootstrap underestimates the variance between groups
BOUNDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)  # quantiles at the two ends of an interval


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f})"


def resample(labels_P: np.ndarray, resamples: int, seed: int, group_P: np.ndarray | None = None) -> np.ndarray:
    """Return counts [S, P] of how often each resample holds each patient; the two classes keep their sizes.

    group_P: the group number of each patient, from 0. Whole groups are resampled then, in three strata: groups of
    reactive patients, groups of tumoral patients, and groups with both (the cluster bootstrap of Davison and Hinkley
    1997, section 3.8). A group of one patient is resampled as that patient.
    """
    rng = np.random.default_rng(seed)
    group_P = np.arange(len(labels_P)) if group_P is None else group_P
    share_G = np.bincount(group_P, labels_P) / np.bincount(group_P)
    counts_SG = np.zeros((resamples, len(share_G)), dtype=np.int64)
    for stratum_G in _strata(share_G):
        if n := int(stratum_G.sum()):
            counts_SG[:, stratum_G] = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
    return counts_SG[:, group_P]


def _strata(share_G: np.ndarray) -> list[np.ndarray]:
    """Return the masks [G] of the strata: groups of reactive patients, of tumoral patients, and of both classes.

    A stratum of one group would put that group in every resample. A lone group of one class therefore joins the groups
    of both classes, if there are any. A lone group of both classes joins the class that has more groups. Every
    resample still holds both classes.
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
    """Return group numbers [P] from 0; None if every group has one patient or there are fewer than LEAST_GROUPS."""
    names, group_P = np.unique(np.asarray(groups), return_inverse=True)
    return group_P if LEAST_GROUPS <= len(names) < len(group_P) else None


def percentile_interval(value: float, resampled_S: np.ndarray) -> Interval:
    """Return the value with the central 95 % of its values in the resamples."""
    low, high = np.quantile(resampled_S, BOUNDS)
    return Interval(value, float(low), float(high))
