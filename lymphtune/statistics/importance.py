"""How much each choice of a search mattered: functional analysis of variance of a forest over a conditional space.

Shapes: N trials, or configurations drawn from the space; C choices, F features of the forest, S resamples of the
trials, G values or bins of a choice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from lymphtune.statistics.bootstrap import Interval

RESAMPLES = 20
INTERVAL = (0.05, 0.95)  # of the resamples
BINS = 10  # of a number, with as many configurations in each
TREES, TREES_RESAMPLED = 150, 30
LEAF = 2  # trials, at least
ABSENT = -1e6
SHADOWS = 2  # random numbers that mean nothing
LEAST_EXPLAINED = 0.1  # out-of-bag R2 below which a forest has learnt nothing worth reading


@dataclass(frozen=True)
class Choice:
    """One thing that a space leaves open. labels: of a category's values, () of a number; log: an even change is a
    factor, not a difference; ordered: the labels stand in order."""

    name: str
    labels: tuple[str, ...] = ()
    log: bool = False
    ordered: bool = False


@dataclass(frozen=True)
class Points:
    """Configurations by what was chosen. values_NC: numbers, or indices of labels; NaN where the choice does not
    arise. branches_NC: under which branch it arose (-1: under none); one distribution of values in each."""

    values_NC: np.ndarray
    branches_NC: np.ndarray

    def __len__(self) -> int:
        return len(self.values_NC)

    def take(self, rows: np.ndarray) -> "Points":
        return Points(self.values_NC[rows], self.branches_NC[rows])


@dataclass(frozen=True)
class Marginal:
    """What the forest expects at each value or bin of a choice, the others as the space draws them.

    at_G: the bins' medians, or indices of labels; low_G, high_G: 5 and 95 % of the resamples.
    """

    at_G: np.ndarray
    mean_G: np.ndarray
    low_G: np.ndarray
    high_G: np.ndarray


@dataclass(frozen=True)
class Importance:
    """Shares of the forest's variance by choice, with intervals; what is left over is joint effects.

    explained: out-of-bag R2 of the forest; below .1 the shares say nothing. chance: what a random number that means
    nothing gets in 95 of 100 cases.
    """

    shares: tuple[Interval, ...]
    marginals: tuple[Marginal, ...]
    explained: float
    chance: float

    @property
    def order(self) -> list[int]:
        """Return the choices' places, the largest share first."""
        return sorted(range(len(self.shares)), key=lambda c: -self.shares[c].value)

    def stands_out(self, choice: int) -> bool:
        """Return whether the lower end of the choice's interval lies above what chance gives."""
        return self.explained >= LEAST_EXPLAINED and self.shares[choice].low > self.chance


def importance(
    choices: Sequence[Choice], trials: Points, losses_N: np.ndarray, drawn: Points, seed: int = 0
) -> Importance:
    """Return how much of what a random forest has learnt of the losses each choice accounts for, first order.

    drawn: configurations drawn from the space itself, over which the forest is integrated. The share of a choice that
    arises under some branches only is what its value adds to knowing the branch, so that shares never count twice:
    the sum over branches b of P(b) Var(E[f | x, b]) / Var(f). Intervals: the trials resampled, the forest grown anew.

    Source: Hutter, Hoos and Leyton-Brown 2014, An Efficient Approach for Assessing Hyperparameter Importance, sections
    3 and 4 (ICML 31), by sampling in place of their sums over leaves; the comparison with variables that mean nothing,
    Kursa and Rudnicki 2010, Feature Selection with the Boruta Package, section 2 (J. Stat. Softw. 36).
    """
    rng = np.random.default_rng(seed)
    known_NF, asked_NF = (_features(choices, points, rng) for points in (trials, drawn))
    groups = [_groups(choice, drawn, c) for c, choice in enumerate(choices)]
    shadows = [_Groups(_bins(asked_NF[:, -1 - s]), np.zeros(len(drawn), int)) for s in range(SHADOWS)]
    whole = _forest(TREES, seed).fit(known_NF[:, :-SHADOWS], losses_N)
    predicted_N = whole.predict(asked_NF[:, :-SHADOWS])
    predicted_SN = np.array(list(_resampled(known_NF, losses_N, asked_NF, rng)))
    shares = [_interval(_share(predicted_N, of), [_share(row_N, of) for row_N in predicted_SN]) for of in groups]
    noise = [_share(row_N, of) for row_N in predicted_SN for of in shadows]
    marginals = [_marginal(choice, drawn, c, predicted_N, predicted_SN) for c, choice in enumerate(choices)]
    return Importance(tuple(shares), tuple(marginals), float(whole.oob_score_), float(np.quantile(noise, INTERVAL[1])))


def _forest(trees: int, seed: int) -> RandomForestRegressor:
    return RandomForestRegressor(
        trees, min_samples_leaf=LEAF, max_features=0.7, oob_score=trees == TREES, random_state=seed
    )


def _features(choices: Sequence[Choice], points: Points, rng: np.random.Generator) -> np.ndarray:
    """Return what the forest sees [N, F]: numbers, far below all where absent; a column a label; random numbers."""
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
    """Configurations by value or bin [N] and by branch [N], -1 where the choice does not arise."""

    value_N: np.ndarray
    branch_N: np.ndarray


def _groups(choice: Choice, drawn: Points, c: int) -> _Groups:
    value_N, branch_N = drawn.values_NC[:, c], drawn.branches_NC[:, c]
    if choice.labels:
        return _Groups(np.where(np.isnan(value_N), -1, value_N).astype(int), branch_N)
    bin_N = np.full(len(value_N), -1)
    for branch in np.unique(branch_N[branch_N >= 0]):
        bin_N[branch_N == branch] = _bins(value_N[branch_N == branch])
    return _Groups(bin_N, branch_N)


def _bins(value_N: np.ndarray) -> np.ndarray:
    """Return the bin of each value; bins hold as many each, and few different values are their own bins."""
    different, place_N = np.unique(value_N, return_inverse=True)
    if len(different) <= BINS:
        return place_N
    edges = np.quantile(value_N, np.linspace(0, 1, BINS + 1)[1:-1])
    return np.searchsorted(edges, value_N, side="right")


def _share(predicted_N: np.ndarray, groups: _Groups) -> float:
    """Return the share of the variance between values, within branches; what finite groups scatter is taken off.

    The correction is that of epsilon squared (Kelley 1935): a group's mean of n configurations has 1/n of the
    variance within groups, which is no effect of the choice.
    """
    total = float(((predicted_N - predicted_N.mean()) ** 2).sum())
    if total < 1e-18 * len(predicted_N):
        return 0.0
    between = 0.0
    for branch in np.unique(groups.branch_N[groups.branch_N >= 0]):
        of = groups.branch_N == branch
        between += _between(predicted_N[of], groups.value_N[of])
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
    """Yield what a forest says that was grown on trials drawn with replacement, and on other random numbers."""
    for _ in range(RESAMPLES):
        rows = rng.integers(len(losses_N), size=len(losses_N))
        known_NF = known_NF.copy()
        known_NF[:, -SHADOWS:] = rng.random((len(known_NF), SHADOWS))
        forest = _forest(TREES_RESAMPLED, int(rng.integers(2**31)))
        yield forest.fit(known_NF[rows], losses_N[rows]).predict(asked_NF)


def _interval(value: float, drawn: Sequence[float]) -> Interval:
    low, high = np.quantile(drawn, INTERVAL)
    return Interval(value, min(float(low), value), max(float(high), value))


def _marginal(choice: Choice, drawn: Points, c: int, predicted_N: np.ndarray, predicted_SN: np.ndarray) -> Marginal:
    """Return the forest's mean by value, over all configurations in which the choice arises."""
    there = drawn.branches_NC[:, c] >= 0
    value_N, predicted_SN = drawn.values_NC[there, c], np.vstack([predicted_N, predicted_SN])[:, there]
    group_N = value_N.astype(int) if choice.labels else _bins(value_N)
    groups = np.unique(group_N)
    mean_SG = np.array([predicted_SN[:, group_N == group].mean(axis=1) for group in groups]).reshape(len(groups), -1).T
    at_G = np.array([np.median(value_N[group_N == group]) for group in groups])
    low_G, high_G = np.quantile(mean_SG[1:], INTERVAL, axis=0)
    return Marginal(at_G, mean_SG[0], np.minimum(low_G, mean_SG[0]), np.maximum(high_G, mean_SG[0]))
