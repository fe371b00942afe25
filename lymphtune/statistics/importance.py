"""Hyperparameter importance: functional analysis of variance of a random forest over a conditional space.

Shapes: N trials, or configurations sampled from the space; C choices (hyperparameters), F features of the forest,
S resamples of the trials, G values or bins of a choice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from lymphtune.statistics.bootstrap import Interval

RESAMPLES = 20
INTERVAL = (0.05, 0.95)  # quantiles of the resamples
BINS = 10  # bins of a numeric choice, with equally many configurations in each
TREES, TREES_RESAMPLED = 150, 30
LEAF = 2  # smallest number of trials in a leaf
ABSENT = -1e6
SHADOWS = 2  # shadow features: random numbers without any effect
LEAST_EXPLAINED = 0.1  # out-of-bag R2 below which importances are not interpreted


@dataclass(frozen=True)
class Choice:
    """One hyperparameter of a space.

    labels: names of the values of a categorical choice, () for a number. log: whether the scale is logarithmic.
    ordered: whether the labels are ordered.
    """

    name: str
    labels: tuple[str, ...] = ()
    log: bool = False
    ordered: bool = False


@dataclass(frozen=True)
class Points:
    """Configurations as arrays.

    values_NC: numbers or indices of labels; NaN where the choice is inactive. branches_NC: the branch of the space in
    which the choice is active, -1 where it is inactive; each branch has its own distribution of values.
    """

    values_NC: np.ndarray
    branches_NC: np.ndarray

    def __len__(self) -> int:
        return len(self.values_NC)

    def take(self, rows: np.ndarray) -> "Points":
        return Points(self.values_NC[rows], self.branches_NC[rows])


@dataclass(frozen=True)
class Marginal:
    """Partial dependence: the forest's mean prediction at each value or bin of a choice, over the other choices.

    at_G: medians of the bins, or indices of labels. low_G, high_G: 5 % and 95 % quantiles of the resamples.
    """

    at_G: np.ndarray
    mean_G: np.ndarray
    low_G: np.ndarray
    high_G: np.ndarray


@dataclass(frozen=True)
class Importance:
    """Fraction of the forest's variance explained by each choice alone, with intervals; the rest is interactions.

    explained: out-of-bag R2 of the forest; below LEAST_EXPLAINED the fractions mean nothing. chance: 95 % quantile of
    the fraction that a shadow feature reaches.
    """

    shares: tuple[Interval, ...]
    marginals: tuple[Marginal, ...]
    explained: float
    chance: float

    @property
    def order(self) -> list[int]:
        """Return the indices of the choices, the largest fraction first."""
        return sorted(range(len(self.shares)), key=lambda c: -self.shares[c].value)

    def stands_out(self, choice: int) -> bool:
        """Return whether the lower end of the choice's interval lies above `chance`."""
        return self.explained >= LEAST_EXPLAINED and self.shares[choice].low > self.chance


def importance(
    choices: Sequence[Choice], trials: Points, losses_N: np.ndarray, sampled: Points, seed: int = 0
) -> Importance:
    """Return the first-order importance of each choice for the loss that a random forest predicts.

    sampled: configurations sampled from the space, over which the forest is integrated. For a choice that is active in
    some branches only, the fraction is the contribution of its value beyond that of the branch, so no variance counts
    twice: the sum over branches b of P(b) Var(E[f | x, b]) / Var(f). Intervals come from forests fitted on resampled
    trials.

    Source: Hutter, Hoos and Leyton-Brown 2014, An Efficient Approach for Assessing Hyperparameter Importance, sections
    3 and 4 (ICML 31), with sampling in place of their sums over leaves. Shadow features: Kursa and Rudnicki 2010,
    Feature Selection with the Boruta Package, section 2 (J. Stat. Softw. 36).
    """
    rng = np.random.default_rng(seed)
    known_NF, asked_NF = (_features(choices, points, rng) for points in (trials, sampled))
    groups = [_groups(choice, sampled, c) for c, choice in enumerate(choices)]
    shadows = [_Groups(_bins(asked_NF[:, -1 - s]), np.zeros(len(sampled), int)) for s in range(SHADOWS)]
    whole = _forest(TREES, seed).fit(known_NF[:, :-SHADOWS], losses_N)
    predicted_N = whole.predict(asked_NF[:, :-SHADOWS])
    predicted_SN = np.array(list(_resampled(known_NF, losses_N, asked_NF, rng)))
    shares = [_interval(_share(predicted_N, of), [_share(row_N, of) for row_N in predicted_SN]) for of in groups]
    noise = [_share(row_N, of) for row_N in predicted_SN for of in shadows]
    marginals = [_marginal(choice, sampled, c, predicted_N, predicted_SN) for c, choice in enumerate(choices)]
    return Importance(tuple(shares), tuple(marginals), float(whole.oob_score_), float(np.quantile(noise, INTERVAL[1])))


def _forest(trees: int, seed: int) -> RandomForestRegressor:
    return RandomForestRegressor(
        trees, min_samples_leaf=LEAF, max_features=0.7, oob_score=trees == TREES, random_state=seed
    )


def _features(choices: Sequence[Choice], points: Points, rng: np.random.Generator) -> np.ndarray:
    """Return the forest's features [N, F].

    Numbers and ordered labels take one column, with ABSENT where inactive; other labels are one-hot encoded; the last
    SHADOWS columns are random.
    """
    columns = []
    for c, choice in enumerate(choices):
        value_N = points.values_NC[:, c]
        if choice.labels and not choice.ordered:
            columns += [(value_N == label).astype(float) for label in range(len(choice.labels))]
        else:
            scaled_N = np.log(value_N) if choice.log else value_N
            columns.append(np.where(np.isnan(scaled_N), -np.inf, scaled_N))
    columns += [rng.random(len(points)) for _ in range(SHADOWS)]
    return np.nan_to_num(np.column_stack(columns), neginf=ABSENT)


@dataclass(frozen=True)
class _Groups:
    """The value or bin [N] and the branch [N] of each configuration, -1 where the choice is inactive."""

    value_N: np.ndarray
    branch_N: np.ndarray


def _groups(choice: Choice, sampled: Points, c: int) -> _Groups:
    value_N, branch_N = sampled.values_NC[:, c], sampled.branches_NC[:, c]
    if choice.labels:
        return _Groups(np.where(np.isnan(value_N), -1, value_N).astype(int), branch_N)
    bin_N = np.full(len(value_N), -1)
    for branch in np.unique(branch_N[branch_N >= 0]):
        bin_N[branch_N == branch] = _bins(value_N[branch_N == branch])
    return _Groups(bin_N, branch_N)


def _bins(value_N: np.ndarray) -> np.ndarray:
    """Return the bin of each value: quantile bins, or one bin per value if there are at most BINS distinct ones."""
    distinct, bin_N = np.unique(value_N, return_inverse=True)
    if len(distinct) <= BINS:
        return bin_N
    edges = np.quantile(value_N, np.linspace(0, 1, BINS + 1)[1:-1])
    return np.searchsorted(edges, value_N, side="right")


def _share(predicted_N: np.ndarray, groups: _Groups) -> float:
    """Return the fraction of the variance that lies between values within branches, corrected for finite groups.

    The correction is that of epsilon squared (Kelley 1935): the mean of a group of n configurations has 1/n of the
    variance within groups, which is not an effect of the choice.
    """
    total = float(((predicted_N - predicted_N.mean()) ** 2).sum())
    if total < 1e-18 * len(predicted_N):
        return 0.0
    between = 0.0
    for branch in np.unique(groups.branch_N[groups.branch_N >= 0]):
        of_branch = groups.branch_N == branch
        between += _between(predicted_N[of_branch], groups.value_N[of_branch])
    return min(max(between / total, 0.0), 1.0)


def _between(predicted_N: np.ndarray, group_N: np.ndarray) -> float:
    count_G = np.bincount(group_N)
    mean_G = np.bincount(group_N, predicted_N) / np.maximum(count_G, 1)
    n_groups, n = int((count_G > 0).sum()), len(predicted_N)
    between = float((count_G * (mean_G - predicted_N.mean()) ** 2).sum())
    within = float(((predicted_N - mean_G[group_N]) ** 2).sum())
    return between - (n_groups - 1) * within / max(n - n_groups, 1)


def _resampled(
    known_NF: np.ndarray, losses_N: np.ndarray, asked_NF: np.ndarray, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield the predictions of forests fitted on trials resampled with replacement, with new shadow features."""
    for _ in range(RESAMPLES):
        rows = rng.integers(len(losses_N), size=len(losses_N))
        known_NF = known_NF.copy()
        known_NF[:, -SHADOWS:] = rng.random((len(known_NF), SHADOWS))
        forest = _forest(TREES_RESAMPLED, int(rng.integers(2**31)))
        yield forest.fit(known_NF[rows], losses_N[rows]).predict(asked_NF)


def _interval(value: float, sampled: Sequence[float]) -> Interval:
    low, high = np.quantile(sampled, INTERVAL)
    return Interval(value, min(float(low), value), max(float(high), value))


def _marginal(choice: Choice, sampled: Points, c: int, predicted_N: np.ndarray, predicted_SN: np.ndarray) -> Marginal:
    """Return the forest's mean prediction by value, over the configurations in which the choice is active."""
    active = sampled.branches_NC[:, c] >= 0
    value_N, predicted_SN = sampled.values_NC[active, c], np.vstack([predicted_N, predicted_SN])[:, active]
    group_N = value_N.astype(int) if choice.labels else _bins(value_N)
    groups = np.unique(group_N)
    mean_SG = np.array([predicted_SN[:, group_N == group].mean(axis=1) for group in groups]).reshape(len(groups), -1).T
    at_G = np.array([np.median(value_N[group_N == group]) for group in groups])
    low_G, high_G = np.quantile(mean_SG[1:], INTERVAL, axis=0)
    return Marginal(at_G, mean_SG[0], np.minimum(low_G, mean_SG[0]), np.maximum(high_G, mean_SG[0]))
