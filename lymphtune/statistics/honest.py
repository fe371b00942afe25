"""The honest score: an estimate of a whole procedure's performance, its selection of trials included.

A procedure is repeated on every bootstrap resample of the patients and scored on the patients that the resample does
not hold: the held-out patients of this module. Shapes: S resamples, P patients; two classes, reactive first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from lymphtune.statistics.bootstrap import LEVEL, Interval, percentile_interval, resample
from lymphtune.statistics.metrics import BINS, THRESHOLD, calibration_bin, class_weights, log_losses, placements

PAIRED = 300  # number of resamples that are compared pairwise
Z = float(norm.ppf((1 + LEVEL) / 2))


@dataclass(frozen=True)
class ResampledPredictions:
    """Predictions for every patient by a procedure fitted on each resample.

    probability_SP: probability of tumoral. threshold_S: lowest probability that is called tumoral. not_referred_SP:
    which patients are not referred to another examination; None if none is referred.
    """

    probability_SP: np.ndarray
    threshold_S: np.ndarray
    not_referred_SP: np.ndarray | None = None

    @classmethod
    def plain(cls, probability_SP: np.ndarray) -> "ResampledPredictions":
        """Return predictions with the threshold at one half and no referrals."""
        return cls(probability_SP, np.full(len(probability_SP), THRESHOLD))


class Gain(NamedTuple):
    """The difference between two procedures, and the probability that it is above 0 (below 0 for losses)."""

    difference: Interval
    better: float


class _Metric(NamedTuple):
    """A metric as a weighted sum of the two classes' mean values.

    values: function that returns each patient's value [S, P]. share: weights of the class means. variance: weights
    whose squares multiply the variances of the class means. of_calls: whether a value is a correct or wrong call.
    most: largest possible value.
    """

    values: Callable[[ResampledPredictions, np.ndarray, np.ndarray], np.ndarray]
    share: tuple[float, float]
    variance: tuple[float, float]
    proportion: bool = True
    of_calls: bool = False
    lower_is_better: bool = False
    most: float = 1.0


def _right(predictions: ResampledPredictions, labels_P: np.ndarray, held_out_SP: np.ndarray) -> np.ndarray:
    return ((predictions.probability_SP >= predictions.threshold_S[:, None]) == (labels_P == 1)).astype(float)


def _placed(predictions: ResampledPredictions, labels_P: np.ndarray, held_out_SP: np.ndarray) -> np.ndarray:
    # NaN where a resample holds out no patient of one class.
    return placements(predictions.probability_SP, labels_P, held_out_SP)


def _loss(predictions: ResampledPredictions, labels_P: np.ndarray, held_out_SP: np.ndarray) -> np.ndarray:
    return log_losses(predictions.probability_SP, labels_P)


def _squared(predictions: ResampledPredictions, labels_P: np.ndarray, held_out_SP: np.ndarray) -> np.ndarray:
    return (predictions.probability_SP - labels_P) ** 2


SCORES = {
    "balanced_accuracy": _Metric(_right, (0.5, 0.5), (0.5, 0.5), of_calls=True),
    "recall": _Metric(_right, (0, 1), (0, 1), of_calls=True),
    "specificity": _Metric(_right, (1, 0), (1, 0), of_calls=True),
    "auc": _Metric(_placed, (0.5, 0.5), (1, 1)),  # the mean placement of either class is the AUC: DeLong et al. 1988
    "log_loss": _Metric(_loss, (0.5, 0.5), (0.5, 0.5), proportion=False, lower_is_better=True, most=np.inf),
    "brier": _Metric(_squared, (0.5, 0.5), (0.5, 0.5), proportion=False, lower_is_better=True),
}


@dataclass(frozen=True)
class HeldOutScorer:
    """Scores of procedures on the patients that each resample holds out.

    counts_SP: how often each resample holds each patient. group_P: group numbers, as `resample` takes them.
    Source: Tsamardinos, Greasidou and Borboudakis 2018 (BBC-CV; arXiv:1708.07180), averaged over resamples for each
    patient first: the leave-one-out bootstrap of Efron and Tibshirani 1997.
    Raises ValueError if some patient is in every resample, because a class has too few patients.
    """

    labels_P: np.ndarray
    counts_SP: np.ndarray
    group_P: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not self.held_out_SP.any(axis=0).all():
            raise ValueError("some patients are in every resample: a class has too few to hold any out")

    @property
    def held_out_SP(self) -> np.ndarray:
        return self.counts_SP == 0

    def score(self, predictions: ResampledPredictions, metric: str) -> Interval:
        """Return the metric's honest value with its 95 % interval (see docs/statistics.md)."""
        if metric == "calibration_error":
            return self._calibration_error(predictions)
        definition = SCORES[metric]
        return self._of(definition, *self._values(definition, predictions)).interval()

    def gain(self, one: ResampledPredictions, other: ResampledPredictions, metric: str) -> Gain:
        """Return the paired difference `one` - `other` of a metric on the same held-out patients.

        For metrics of calls, the variance counts two more patients in each class, one in favour of each procedure, so
        that the interval of two procedures that agree on every patient does not have width 0.
        Source: Bonett and Price 2012.
        """
        definition = SCORES[metric]
        one_SP, one_counted_SP = self._values(definition, one)
        other_SP, other_counted_SP = self._values(definition, other)
        return self._of(definition, one_SP - other_SP, one_counted_SP & other_counted_SP).difference()

    def share(self, values_SP: np.ndarray) -> Interval:
        """Return the fraction of held-out patients whose value is 1 (not 0), as the mean over the two classes."""
        counted_SP = self.held_out_SP
        return self._of(SCORES["balanced_accuracy"], np.where(counted_SP, values_SP, 0.0), counted_SP).interval()

    def called(self, predictions: ResampledPredictions) -> np.ndarray:
        """Return how often each patient [P] is called tumoral, as a fraction of the resamples that hold it out.

        Probabilities are not averaged over resamples before the call: that would score a larger ensemble.
        """
        held_out_SP = self.held_out_SP
        called_SP = (predictions.probability_SP >= predictions.threshold_S[:, None]) & held_out_SP
        return called_SP.sum(axis=0) / held_out_SP.sum(axis=0)

    def called_at(self, probability_SP: np.ndarray, thresholds_T: np.ndarray) -> np.ndarray:
        """Return the same fraction [P, T] at thresholds that are equal in all resamples."""
        called_TP = [
            self.called(ResampledPredictions(probability_SP, np.full(len(probability_SP), threshold)))
            for threshold in thresholds_T
        ]
        return np.stack(called_TP, axis=1)

    def reliability(self, predictions: ResampledPredictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return per probability bin [BINS] the number of patients, their mean probability and fraction of tumoral.

        The mean and the fraction are class-balanced.
        """
        share_PB, probability_PB = self._bins(predictions)
        weight_P = class_weights(self.labels_P)
        in_B = np.maximum(weight_P @ share_PB, 1e-12)
        true_B = (weight_P * self.labels_P) @ share_PB / in_B
        return share_PB.sum(axis=0), weight_P @ probability_PB / in_B, true_B

    def _bins(self, predictions: ResampledPredictions) -> tuple[np.ndarray, np.ndarray]:
        """Return per patient and probability bin [P, BINS] the number of predictions in it, and their sum.

        Both are divided by the number of resamples that hold the patient out.
        """
        held_out_SP, bin_SP = self.held_out_SP, calibration_bin(predictions.probability_SP)
        times_P = held_out_SP.sum(axis=0)
        share_PB, probability_PB = (np.zeros((len(self.labels_P), BINS)) for _ in range(2))
        for number in range(BINS):
            inside_SP = held_out_SP & (bin_SP == number)
            share_PB[:, number] = inside_SP.sum(axis=0) / times_P
            probability_PB[:, number] = (inside_SP * predictions.probability_SP).sum(axis=0) / times_P
        return share_PB, probability_PB

    def _of(self, definition: _Metric, values_SP: np.ndarray, counted_SP: np.ndarray) -> "_PatientValues":
        return _PatientValues(definition, values_SP, counted_SP, self.held_out_SP, self.labels_P, self.group_P)

    def _values(self, definition: _Metric, predictions: ResampledPredictions) -> tuple[np.ndarray, np.ndarray]:
        """Return the patients' values [S, P], and the mask of those that count: held out and not referred."""
        counted_SP = self.held_out_SP
        if predictions.not_referred_SP is not None:
            counted_SP = counted_SP & predictions.not_referred_SP
        values_SP = definition.values(predictions, self.labels_P, counted_SP.astype(float))
        counted_SP = counted_SP & np.isfinite(values_SP)
        return np.where(counted_SP, values_SP, 0.0), counted_SP

    def _calibration_error(self, predictions: ResampledPredictions) -> Interval:
        """Return the calibration error of all predictions for held-out patients, each patient counting once.

        The interval is that of resampled patients, shifted to be centred on the value, because resampling biases the
        calibration error upwards.
        """
        share_PB, probability_PB = self._bins(predictions)
        gap_PB = share_PB * self.labels_P[:, None] - probability_PB
        counts_SP = resample(self.labels_P, len(self.counts_SP), 1, self.group_P)
        error_S = np.abs(class_weights(self.labels_P, counts_SP) @ gap_PB).sum(axis=-1)
        value = float(np.abs(class_weights(self.labels_P) @ gap_PB).sum())
        found = percentile_interval(value, error_S - error_S.mean() + value)
        return Interval(value, max(0.0, found.low), found.high)


def fixed_score(
    probabilities_P: np.ndarray,
    labels_P: np.ndarray,
    metric: str,
    threshold: float = THRESHOLD,
    group_P: np.ndarray | None = None,
) -> Interval:
    """Return the metric of one model on patients that were not used to make it, with its 95 % interval."""
    predictions = ResampledPredictions(probabilities_P[None], np.array([threshold]))
    definition, weights_SP = SCORES[metric], np.ones((1, len(labels_P)))
    values_SP, every_SP = definition.values(predictions, labels_P, weights_SP), weights_SP > 0
    return _PatientValues(definition, values_SP, every_SP, every_SP, labels_P, group_P).interval()


class _PatientValues:
    """The value and standard error of one metric, from the patients' values.

    values_SP: each patient's value. counted_SP: where it counts. held_out_SP: where the resample holds the patient out.
    """

    def __init__(
        self,
        definition: _Metric,
        values_SP: np.ndarray,
        counted_SP: np.ndarray,
        held_out_SP: np.ndarray,
        labels_P: np.ndarray,
        group_P: np.ndarray | None,
    ) -> None:
        self.definition = definition
        times_P = counted_SP.sum(axis=0)
        mean_P = values_SP.sum(axis=0) / np.maximum(times_P, 1)
        weight_P = times_P / held_out_SP.sum(axis=0)  # below 1 for patients that are sometimes referred
        group_P = np.arange(len(labels_P)) if group_P is None else group_P
        self.classes = [_ClassValues(mean_P[of], weight_P[of], group_P[of]) for of in (labels_P == 0, labels_P == 1)]
        self.value = float(sum(w * one.mean for w, one in zip(definition.share, self.classes, strict=True) if w))
        self.choice_variance = choice_variance(values_SP, counted_SP, labels_P, definition)

    @property
    def used(self) -> list[tuple[float, "_ClassValues"]]:
        """Return the classes that the metric depends on, with the weights of their variances."""
        return [(w, one) for w, one in zip(self.definition.variance, self.classes, strict=True) if w]

    @property
    def variance(self) -> float:
        """Return the squared standard error: the variance over patients plus that over the trials chosen."""
        return sum(w**2 * one.variance for w, one in self.used) + self.choice_variance

    @property
    def freedom(self) -> int:
        """Return the degrees of freedom of the smaller class."""
        return max(min(one.n_groups for _, one in self.used) - 1, 1)

    @property
    def quantile(self) -> float:
        return float(student.ppf((1 + LEVEL) / 2, self.freedom))

    def interval(self) -> Interval:
        """Return the value with its 95 % interval."""
        return self.proportion() if self.definition.proportion else self.positive()

    def proportion(self) -> Interval:
        """Return a metric in [0, 1] with an interval that stays in [0, 1] and never has width 0.

        The Wilson intervals of the two classes are combined by the square-and-add rule (Newcombe 1998, method 10; Zou
        and Donner 2008). Their sample size is the one that gives the estimated variance: near chance that of the
        patients' mean values, near perfection the binomial one.
        """
        if not np.isfinite(self.value):
            return Interval(float("nan"), 0.0, 1.0)
        if self.definition.variance == (1, 1):
            return self._area()
        binomial = sum(w**2 * one.mean * (1 - one.mean) / one.effective_size for w, one in self.used)
        variance = self._shrunk_towards(binomial)
        factor = float(np.clip(binomial / variance, 0.1, 10)) if variance > 0 and binomial > 0 else 1.0
        below = above = 0.0
        for w, one in self.used:
            low, high = wilson(one.mean, one.effective_size * factor, self.quantile)
            below, above = below + (w * (one.mean - low)) ** 2, above + (w * (high - one.mean)) ** 2
        return Interval(self.value, max(0.0, self.value - below**0.5), min(1.0, self.value + above**0.5))

    def _area(self) -> Interval:
        """Return the AUC with its interval; its variance near perfection is Hanley and McNeil's (1982)."""
        area, (reactive, tumoral) = self.value, (one.effective_size for one in self.classes)
        first, second = area / (2 - area), 2 * area**2 / (1 + area)
        pairs = (tumoral - 1) * (first - area**2) + (reactive - 1) * (second - area**2)
        variance = self._shrunk_towards((area * (1 - area) + pairs) / (tumoral * reactive))
        most = reactive + tumoral
        size = min(area * (1 - area) / variance, most) if variance > 0 else most
        return Interval(area, *wilson(area, max(size, 1.0), self.quantile))

    def _shrunk_towards(self, binomial: float) -> float:
        """Return the variance, moved towards a larger binomial one in proportion to the value's distance from 1/2."""
        return self.variance + abs(2 * self.value - 1) * max(0.0, binomial - self.variance)

    def positive(self) -> Interval:
        """Return a loss with its interval on the logarithmic scale."""
        factor = float(np.exp(min(self.quantile * self.variance**0.5 / max(self.value, 1e-12), 50.0)))
        return Interval(self.value, self.value / factor, min(self.value * factor, self.definition.most))

    def difference(self) -> Gain:
        """Return the value as a difference between two procedures, with its interval."""
        variance = self.choice_variance
        for w, one in self.used:
            variance += w**2 * (one.variance_with_two_more if self.definition.of_calls else one.variance)
        error = max(variance, 1e-18) ** 0.5
        half = self.quantile * error
        gain = -self.value if self.definition.lower_is_better else self.value
        better = float(student.cdf(gain / error, self.freedom))
        return Gain(Interval(self.value, self.value - half, self.value + half), better)


class _ClassValues(NamedTuple):
    """The patients of one class: each one's mean value over the resamples that hold it out, and its weight."""

    mean_P: np.ndarray
    weight_P: np.ndarray
    group_P: np.ndarray

    @property
    def n_groups(self) -> int:
        return len(np.unique(self.group_P))

    @property
    def size(self) -> float:
        return float(self.weight_P.sum())

    @property
    def mean(self) -> float:
        """Return the weighted mean, NaN if all patients are referred."""
        return float((self.mean_P * self.weight_P).sum() / self.size) if self.size else float("nan")

    @property
    def variance(self) -> float:
        """Return the squared standard error of the mean over patients, clustered by group."""
        return self._variance(np.unique(self.group_P, return_inverse=True)[1])

    def _variance(self, group_P: np.ndarray) -> float:
        if not self.size:
            return float("nan")
        residual_G = np.bincount(group_P, self.weight_P * (self.mean_P - self.mean))
        n = max(len(residual_G), 2)
        return float((residual_G**2).sum() / self.size**2 * n / (n - 1))

    @property
    def effective_size(self) -> float:
        """Return the effective sample size: the number of patients divided by the design effect of their groups.

        The design effect (Kish 1965, section 5.4) is 1 without groups, and the mean group size if all values are equal.
        """
        if self.n_groups == len(self.mean_P) or not self.size:
            return self.size
        alone, most = self._variance(np.arange(len(self.mean_P))), len(self.mean_P) / self.n_groups
        return self.size / (float(np.clip(self.variance / alone, 1, most)) if alone > 0 else most)

    @property
    def variance_with_two_more(self) -> float:
        """Return the variance with two more patients, each a group of its own, with the values -1 and 1."""
        alone = self.group_P.max(initial=0) + np.array([1, 2])
        more = _ClassValues(*map(np.append, self, ([-1.0, 1.0], [1.0, 1.0], alone)))
        return more.variance


def wilson(mean: float, size: float, quantile: float = Z) -> tuple[float, float]:
    """Return the interval of a proportion `mean` among `size` patients. Source: Wilson 1927."""
    ratio = quantile**2 / size
    middle = (mean + ratio / 2) / (1 + ratio)
    half = quantile / (1 + ratio) * (max(mean * (1 - mean), 0.0) / size + ratio / (4 * size)) ** 0.5
    return max(0.0, min(middle - half, mean)), min(1.0, max(middle + half, mean))


def choice_variance(values_SP: np.ndarray, counted_SP: np.ndarray, labels_P: np.ndarray, definition: _Metric) -> float:
    """Return the variance of the true score between the selections that different resamples make.

    It is half the mean squared difference between the scores of two resamples on the patients that both hold out,
    minus the part that the sampling of these patients explains; negative estimates become 0.
    """
    few_SP, counts_SP = values_SP[:PAIRED], counted_SP[:PAIRED].astype(float)
    difference_SS, noise_SS = (np.zeros((len(few_SP), len(few_SP))) for _ in range(2))
    sound_SS = ~np.eye(len(few_SP), dtype=bool)
    for label, weight, root in zip((0, 1), definition.share, definition.variance, strict=True):
        if not weight:
            continue
        values_SC, counts_SC = few_SP[:, labels_P == label], counts_SP[:, labels_P == label]
        shared_SS = counts_SC @ counts_SC.T
        sum_SS = values_SC @ counts_SC.T
        squares_SS = values_SC**2 @ counts_SC.T
        n_SS = np.maximum(shared_SS, 1)
        mean_SS = (sum_SS - sum_SS.T) / n_SS
        mean_square_SS = (squares_SS + squares_SS.T - 2 * values_SC @ values_SC.T) / n_SS
        difference_SS = difference_SS + weight * mean_SS
        noise_SS = noise_SS + root**2 * (mean_square_SS - mean_SS**2) / np.maximum(shared_SS - 1, 1)
        sound_SS &= shared_SS >= 2
    if not sound_SS.any():
        return 0.0
    return max(0.0, 0.5 * float((difference_SS**2 - noise_SS)[sound_SS].mean()))
