"""The model confidence set: trials that are not significantly worse than the best one.

Shapes: S resamples, M trials.
"""

import numpy as np

from lymphtune.statistics.bootstrap import LEVEL


def tied_with_best(loss_SM: np.ndarray, loss_M: np.ndarray) -> np.ndarray:
    """Return the mask [M] of trials tied with the best; it holds the truly best trial with about 95 % confidence.

    loss_SM: each trial's loss in every resample of the patients. loss_M: its loss on all patients. A trial is excluded
    if its paired difference to the best one, in standard errors, exceeds the 95 % quantile of the largest such
    difference over resamples. Source: Hansen, Lunde and Nason 2011 (model confidence set), in one step.
    """
    best = int(np.argmin(loss_M))
    gap_M, gap_SM = loss_M - loss_M[best], loss_SM - loss_SM[:, [best]]
    error_M = np.maximum(gap_SM.std(axis=0), 1e-12)
    error_M[best] = np.inf  # the best trial is not compared with itself
    largest_S = ((gap_SM - gap_M) / error_M).max(axis=1)
    return gap_M / error_M <= np.quantile(largest_S, LEVEL)
