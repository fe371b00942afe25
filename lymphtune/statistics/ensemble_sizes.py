"""How steady an average is: ensembles of each size drawn from single runs, and where their variance comes from.

Shapes: T trials (configurations), R repeats (seeds) of each, N = T x R single runs, P patients, Q of one class;
E ensembles drawn, M members of each.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lymphtune.statistics.metrics import THRESHOLD, balanced_accuracy

BLOCK_VALUES = 4_000_000  # probabilities gathered at once
PAIRS = 2000  # of an ensemble and its twin: their variance is good to 3 %


@dataclass(frozen=True)
class Variances:
    """Of the balanced accuracy of a new ensemble on a new set of as many patients: patients and members add up.

    patients: another set of patients, the mean over all ensembles. members: another ensemble, the patients kept;
    that luck falls differently on different patients counts here. It is the sum of configuration (other
    configurations, the mean over their seeds) and seed (the same configurations trained again).
    NaN is what the runs cannot tell: members where all runs are in the ensemble, the split where R or T is 1.
    """

    patients: float
    members: float
    configuration: float
    seed: float

    @property
    def total(self) -> float:
        return self.patients + self.members


@dataclass(frozen=True)
class SizeStability:
    """Ensembles of one size: their balanced accuracies on the patients that there are, and the variances."""

    size: int
    scores_E: np.ndarray
    exhaustive: bool  # these are all ensembles of that size, not a sample of them
    gain: float  # median of what an ensemble scores above the mean of its own members
    variances: Variances

    @property
    def mean(self) -> float:
        return float(self.scores_E.mean())

    @property
    def sd(self) -> float:
        """Return the standard deviation between these draws, which share runs as well as the patients."""
        return math.sqrt(_variance(self.scores_E, self.exhaustive))

    @property
    def sd_new(self) -> float:
        """Return the standard deviation between ensembles of newly trained members, NaN where it cannot be told."""
        return math.sqrt(self.variances.members)

    def quantile(self, share: float) -> float:
        return float(np.quantile(self.scores_E, share))


def stability(
    oof_TRP: np.ndarray, labels_P: np.ndarray, sizes: Sequence[int], draws: int = 1000, seed: int = 0
) -> list[SizeStability]:
    """Return one entry a size; an ensemble is the mean probability of so many distinct single runs.

    All ensembles of a size are taken where there are at most `draws`, else as many at random. The order of
    trials and of repeats changes nothing.
    """
    ordered_TRP = _in_order(oof_TRP)
    return [_of_size(ordered_TRP, labels_P, size, draws, np.random.default_rng([seed, size])) for size in sizes]


def _in_order(oof_TRP: np.ndarray) -> np.ndarray:
    """Return the same runs in an order that follows from their probabilities alone."""
    trials = [np.array(sorted(runs_RP, key=lambda run_P: run_P.tobytes())) for runs_RP in oof_TRP]
    return np.array(sorted(trials, key=lambda runs_RP: runs_RP.tobytes()))


def _of_size(
    oof_TRP: np.ndarray, labels_P: np.ndarray, size: int, draws: int, rng: np.random.Generator
) -> SizeStability:
    n_trials, n_repeats, n_patients = oof_TRP.shape
    n_runs, oof_NP = n_trials * n_repeats, oof_TRP.reshape(-1, n_patients)
    exhaustive = math.comb(n_runs, size) <= draws
    members_EM = _draw(n_runs, size, draws, exhaustive, rng)
    probability_EP = _means(oof_NP, members_EM)
    scores_E = balanced_accuracy(probability_EP, labels_P)
    gains_E = scores_E - balanced_accuracy(oof_NP, labels_P)[members_EM].mean(axis=1)
    right_EP = (probability_EP >= THRESHOLD) == (labels_P == 1)
    patients = _patients_variance(right_EP, labels_P, size, n_runs)
    variances = Variances(patients, math.nan, math.nan, math.nan)
    if size < n_runs:
        spread = _variance(scores_E, exhaustive) * n_runs / (n_runs - size)
        paired_EM = members_EM[rng.integers(len(members_EM), size=PAIRS)]
        seed = _seed_variance(oof_TRP, labels_P, paired_EM, rng) if min(n_trials, n_repeats) > 1 else math.nan
        variances = _split(patients, spread, seed, n_trials, n_repeats)
    return SizeStability(size, scores_E, exhaustive, float(np.median(gains_E)), variances)


def _variance(scores_E: np.ndarray, exhaustive: bool) -> float:
    apart_E = scores_E - scores_E[0]  # exactly 0 where all are equal
    return float(apart_E.var(ddof=0 if exhaustive else 1))


def _draw(n_runs: int, size: int, draws: int, exhaustive: bool, rng: np.random.Generator) -> np.ndarray:
    """Return [E, M] rows of single runs, ascending and distinct within an ensemble."""
    if exhaustive:
        return np.array(list(itertools.combinations(range(n_runs), size)))
    return np.sort([rng.choice(n_runs, size, replace=False) for _ in range(draws)], axis=1)


def _means(oof_NP: np.ndarray, members_EM: np.ndarray) -> np.ndarray:
    """Return the mean probability [E, P] of each ensemble's members, gathered in blocks."""
    step = max(1, BLOCK_VALUES // (members_EM.shape[1] * oof_NP.shape[1]))
    blocks = [members_EM[start : start + step] for start in range(0, len(members_EM), step)]
    return np.concatenate([oof_NP[block_EM].mean(axis=1) for block_EM in blocks])


def _patients_variance(right_EP: np.ndarray, labels_P: np.ndarray, size: int, n_runs: int) -> float:
    """Return the variance between sets of patients, classes keeping their sizes, of the mean over all ensembles.

    Balanced accuracy is half a mean over one class plus half a mean over the other, so what a bootstrap over
    patients would give has a closed form. The share of ensembles that are right about a patient scatters with
    the runs that happen to be there as well; that part is taken off, as in the two-way random-effects analysis
    of variance (Searle, Casella and McCulloch 1992, chapter 4), to which this comes down for single runs.
    """
    luck_of_runs = size / (n_runs - size) if size < n_runs else 0.0
    variance = 0.0
    for label in (0, 1):
        right_EQ = right_EP[:, labels_P == label]
        if (n_patients := right_EQ.shape[1]) < 2:
            continue
        share_Q = right_EQ.mean(axis=0)
        between_ensembles = (share_Q * (1 - share_Q)).sum() - n_patients * right_EQ.mean(axis=1).var()
        residual = between_ensembles / (n_patients - 1)
        variance += (share_Q.var(ddof=1) - luck_of_runs * residual) / (4 * n_patients)
    return max(float(variance), 0.0)


def _seed_variance(
    oof_TRP: np.ndarray, labels_P: np.ndarray, members_EM: np.ndarray, rng: np.random.Generator
) -> float:
    """Return the variance between ensembles of the same configurations, each trained again from new seeds.

    Half the mean squared difference between an ensemble and its twin: the same configurations, their seeds drawn
    anew. Both draw from R seeds without replacement and may share some, for which the factor makes up. For single
    runs it is the mean square within trials.
    """
    n_trials, n_repeats, n_patients = oof_TRP.shape
    n_runs, size = n_trials * n_repeats, members_EM.shape[1]
    oof_NP = oof_TRP.reshape(n_runs, n_patients)
    if size == 1:
        scores_TR = balanced_accuracy(oof_TRP, labels_P)
        return float((scores_TR - scores_TR[:, :1]).var(axis=1, ddof=1).mean())
    counts_ET = np.zeros((len(members_EM), n_trials), dtype=np.int64)
    np.add.at(counts_ET, (np.arange(len(members_EM))[:, None], members_EM // n_repeats), 1)
    ranks_ETR = rng.random((len(members_EM), n_trials, n_repeats)).argsort(axis=2).argsort(axis=2)
    twins_EM = np.nonzero((ranks_ETR < counts_ET[:, :, None]).reshape(-1, n_runs))[1].reshape(members_EM.shape)
    scores_E, others_E = (balanced_accuracy(_means(oof_NP, rows_EM), labels_P) for rows_EM in (members_EM, twins_EM))
    shared = n_repeats * (n_runs - 1) / ((n_repeats - 1) * (n_runs - size))
    return float(((scores_E - others_E) ** 2).mean() / 2 * shared)


def _split(patients: float, spread: float, seed: float, n_trials: int, n_repeats: int) -> Variances:
    """Return the variances, none of them negative; `spread` is that between draws, times N / (N - M).

    Draws of M of N runs share runs, so they scatter less than new ensembles would: for a mean by (N - M) / N
    (Cochran 1977, theorem 2.2), in general about as much (the delete-d jackknife, Shao and Wu 1989). Within it
    configurations count (N - R) / (N - 1) times, as the R runs of one share it. For single runs the result is
    that of the one-way random-effects analysis of variance, restricted likelihood where configurations differ by
    less than their seeds would make them: none of their own then, and all of the spread is the seeds' (Searle,
    Casella and McCulloch 1992, chapter 3).
    """
    if n_repeats == 1:
        return Variances(patients, spread, math.nan, math.nan)
    if n_trials == 1:
        return Variances(patients, spread, math.nan, spread)
    if seed >= spread:
        return Variances(patients, spread, 0.0, spread)
    n_runs = n_trials * n_repeats
    configuration = (spread - seed) * (n_runs - 1) / (n_runs - n_repeats)
    return Variances(patients, seed + configuration, configuration, seed)
