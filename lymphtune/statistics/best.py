"""The trials that cannot be told from the best one, and how often each is the best.

Shapes: S resamples, M trials.
"""

from typing import NamedTuple

import numpy as np

from lymphtune.statistics.bootstrap import LEVEL


class Best(NamedTuple):
    """tied_M: whether the trial cannot be told from the best; wins_M: share of resamples in which it is the best."""

    tied_M: np.ndarray
    wins_M: np.ndarray


def tied_with_best(loss_SM: np.ndarray, loss_M: np.ndarray) -> Best:
    """Return the set of trials that holds the truly best one in 95 of 100 such samples of patients.

    loss_SM: each trial's loss in every resample of the patients; loss_M: on all of them. A trial is out where its
    paired difference to the best one, in standard errors, exceeds what the largest of all such differences reaches
    by chance. Source: Hansen, Lunde and Nason 2011, section 3 (model confidence set), in one step.
    """
    best = int(np.argmin(loss_M))
    wins_M = np.bincount(np.argmin(loss_SM, axis=1), minlength=len(loss_M)) / len(loss_SM)
    gap_M, gap_SM = loss_M - loss_M[best], loss_SM - loss_SM[:, [best]]
    error_M = np.maximum(gap_SM.std(axis=0), 1e-12)
    error_M[best] = np.inf  # it is no rival of itself
    largest_S = ((gap_M - gap_SM) / error_M).max(axis=1)
    return Best(gap_M / error_M <= np.quantile(largest_S, LEVEL), wins_M)
