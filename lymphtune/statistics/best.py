"""The trials that cannot be told from the best one.

Shapes: S resamples, M trials.
"""

import numpy as np

from lymphtune.statistics.bootstrap import LEVEL


def tied_with_best(loss_SM: np.ndarray, loss_M: np.ndarray) -> np.ndarray:
    """Return which trials [M] cannot be told from the best: a set that holds the truly best one with about 95 %.

    loss_SM: each trial's loss in every resample of the patients; loss_M: on all of them. A trial is out where its
    paired difference to the best one, in standard errors, exceeds what the largest of all such differences reaches
    by chance. Source: Hansen, Lunde and Nason 2011 (model confidence set), in one step.
    """
    best = int(np.argmin(loss_M))
    gap_M, gap_SM = loss_M - loss_M[best], loss_SM - loss_SM[:, [best]]
    error_M = np.maximum(gap_SM.std(axis=0), 1e-12)
    error_M[best] = np.inf  # it is no rival of itself
    largest_S = ((gap_SM - gap_M) / error_M).max(axis=1)
    return gap_M / error_M <= np.quantile(largest_S, LEVEL)
