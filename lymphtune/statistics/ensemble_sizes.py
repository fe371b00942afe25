"""Stability by ensemble size: ensembles sampled from single runs, and the components of their variance.

Shapes: T trials (configurations), R repeats (seeds) of each, N = T x R single runs, P patients, Q of one class;
E sampled ensembles, M members of each.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lymphtune.statistics.metrics import THRESHOLD, balanced_accuracy

BLOCK_VALUES = 4_000_000  # probabilities gathered at once, to bound memory
PAIRS = 2000  # pairs of an ensemble and its twin; the standard error of their variance is then 3 %


@dataclass(frozen=True)
class Variances:
    """Variance components of the balanced accuracy of a new ensemble on as many new patients.

    patients: between sets of patients, of the mean over all ensembles. members: between ensembles on the same patients,
    the interaction with the patients included. `members` is the sum of configuration (between configurations, of the
    mean over their seeds) and seed (between trainings of the same configurations). The total is patients + members.
    A component that the runs do not identify is NaN: members if the ensemble holds all runs, the split if R or T is 1.
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
    """Ensembles of one size: their balanced accuracies on the run's patients, and the variance components."""

    size: int
    scores_E: np.ndarray
    exhaustive: bool  # whether scores_E covers every ensemble of that size instead of a sample
    gain: float  # median over ensembles of the score minus the mean score of the members
    variances: Variances

    @property
    def mean(self) -> float:
        return float(self.scores_E.mean())

    @property
    def sd(self) -> float:
        """Return the standard deviation between the sampled ensembles, which share runs as well as patients."""
        return math.sqrt(_variance(self.scores_E, self.exhaustive))

    @property
    def sd_new(self) -> float:
        """Return the standard deviation between ensembles of newly trained members, NaN if it is not identified."""
        return math.sqrt(self.variances.members)

    def quantile(self, share: float) -> float:
        return float(np.quantile(self.scores_E, share))


def stability(
    oof_TRP: np.ndarray, labels_P: np.ndarray, sizes: Sequence[int], draws: int = 1000, seed: int = 0
) -> list[SizeStability]:
    """Return one entry per size; an ensemble is the mean probability of that many distinct single runs.

    Every ensemble of a size is used if there are at most `draws`, else a random sample of `draws`. The order of trials
    and of repeats changes nothing.
    """
    ordered_TRP = _in_order(oof_TRP)
    return [_of_size(ordered_TRP, labels_P, size, draws, np.random.default_rng([seed, size])) for size in sizes]


def _in_order(oof_TRP: np.ndarray) -> np.ndarray:
    """Return the same runs sorted by their probabilities, so that the input order has no influence."""
    trials = [np.array(sorted(runs_RP, key=lambda run_P: run_P.tobytes())) for runs_RP in oof_TRP]
    return np.array(sorted(trials, key=lambda runs_RP: runs_RP.tobytes()))


def _of_size(
    oof_TRP: np.ndarray, labels_P: np.ndarray, size: int, draws: int, rng: np.random.Generator
) -> SizeStability:
    n_trials, n_repeats, n_patients = oof_TRP.shape
    n_runs, oof_NP = n_trials * n_repeats, oof_TRP.reshape(-1, n_patients)
    exhaustive = math.comb(n_runs, size) <= draws
    members_EM = _sample(n_runs, size, draws, exhaustive, rng)
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
    centred_E = scores_E - scores_E[0]  # exactly 0 if all are equal
    return float(centred_E.var(ddof=0 if exhaustive else 1))


def _sample(n_runs: int, size: int, draws: int, exhaustive: bool, rng: np.random.Generator) -> np.ndarray:
    """Return the rows [E, M] of single runs in each ensemble, ascending and distinct within an ensemble."""
    if exhaustive:
        return np.array(list(itertools.combinations(range(n_runs), size)))
    return np.sort([rng.choice(n_runs, size, replace=False) for _ in range(draws)], axis=1)


def _means(oof_NP: np.ndarray, members_EM: np.ndarray) -> np.ndarray:
    """Return the mean probability [E, P] of each ensemble's members, computed in blocks."""
    step = max(1, BLOCK_VALUES // (members_EM.shape[1] * oof_NP.shape[1]))
    blocks = [members_EM[start : start + step] for start in range(0, len(members_EM), step)]
    return np.concatenate([oof_NP[block_EM].mean(axis=1) for block_EM in blocks])


def _patients_variance(right_EP: np.ndarray, labels_P: np.ndarray, size: int, n_runs: int) -> float:
    """Return the variance between stratified samples of patients of the mean over all ensembles.

    Balanced accuracy is half a mean over one class plus half a mean over the other, so the bootstrap variance over
    patients has a closed form. The fraction of ensembles that classify a patient correctly also varies with the
    available runs. That part is subtracted, as in the two-way random-effects analysis of variance (Searle, Casella and
    McCulloch 1992, chapter 4), to which this formula reduces for single runs.
    """
    weight_of_runs = size / (n_runs - size) if size < n_runs else 0.0
    variance = 0.0
    for label in (0, 1):
        right_EQ = right_EP[:, labels_P == label]
        if (n_patients := right_EQ.shape[1]) < 2:
            continue
        share_Q = right_EQ.mean(axis=0)
        between_ensembles = (share_Q * (1 - share_Q)).sum() - n_patients * right_EQ.mean(axis=1).var()
        residual = between_ensembles / (n_patients - 1)
        variance += (share_Q.var(ddof=1) - weight_of_runs * residual) / (4 * n_patients)
    return max(float(variance), 0.0)


def _seed_variance(
    oof_TRP: np.ndarray, labels_P: np.ndarray, members_EM: np.ndarray, rng: np.random.Generator
) -> float:
    """Return the variance between ensembles of the same configurations, each trained again from new seeds.

    It is half the mean squared difference between an ensemble and its twin, which has the same configurations with
    resampled seeds. Both sample R seeds without replacement and may share some; the factor `shared` corrects for that.
    For single runs the variance is the mean square within trials.
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
    """Return the variance components, none of them negative.

    spread: variance between sampled ensembles, times N / (N - M). Samples of M of N runs share runs, so their variance
    is smaller than between new ensembles: by (N - M) / N for a mean (Cochran 1977, theorem 2.2), and by about the same
    factor in general (the delete-d jackknife, Shao and Wu 1989). The variance between configurations contributes
    (N - R) / (N - 1) of itself to it, because the R runs of a configuration share it. For single runs the result is
    that of the one-way random-effects analysis of variance. If configurations differ by less than their seeds explain,
    restricted likelihood attributes all of the spread to the seeds (Searle, Casella and McCulloch 1992, chapter 3).
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
