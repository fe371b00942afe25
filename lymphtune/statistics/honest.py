"""The honest score: what a whole procedure, its choosing included, is worth on patients that chose nothing.

A procedure is repeated in every resample of the patients, on the drawn ones alone, and scored on those left out.
Shapes: S resamples, P patients; two classes, reactive first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from lymphtune.statistics.bootstrap import LEVEL, Interval, resample, spread
from lymphtune.statistics.metrics import (
    BINS,
    THRESHOLD,
    calibration_bin,
    class_weights,
    log_losses,
    placements,
)

PAIRED = 300  # resamples of which all pairs are compared
Z = float(norm.ppf((1 + LEVEL) / 2))


@dataclass(frozen=True)
class ResampledPredictions:
    """What a procedure says of every patient after learning from each resample's drawn patients.

    said_SP: probabilities; threshold_S: from which a patient is called tumoral; kept_SP: whom it does not refer to
    another examination (None: it keeps everyone).
    """

    probability_SP: np.ndarray
    threshold_S: np.ndarray
    kept_SP: np.ndarray | None = None

    @classmethod
    def plain(cls, probability_SP: np.ndarray) -> "ResampledPredictions":
        """Return probabilities judged at one half."""
        return cls(probability_SP, np.full(len(probability_SP), THRESHOLD))


class Gain(NamedTuple):
    """A difference between two procedures, and the probability that it is above 0 (below, for losses)."""

    difference: Interval
    better: float


class _Score(NamedTuple):
    """How a metric is made of its patients' values: `values` gives [S, P]; the metric is the sum of the two classes'
    means times `share`, its variance the sum of their variances times the squares of `variance`."""

    values: Callable[[ResampledPredictions, np.ndarray, np.ndarray], np.ndarray]
    share: tuple[float, float]
    variance: tuple[float, float]
    proportion: bool = True
    of_calls: bool = False  # each patient is right or wrong
    lower_is_better: bool = False
    most: float = 1.0


def _right(judged: ResampledPredictions, labels_P: np.ndarray, left_out_SP: np.ndarray) -> np.ndarray:
    return ((judged.probability_SP >= judged.threshold_S[:, None]) == (labels_P == 1)).astype(float)


def _placed(judged: ResampledPredictions, labels_P: np.ndarray, left_out_SP: np.ndarray) -> np.ndarray:
    return placements(judged.probability_SP, labels_P, left_out_SP)  # NaN where no patient of one class is left out


def _loss(judged: ResampledPredictions, labels_P: np.ndarray, left_out_SP: np.ndarray) -> np.ndarray:
    return log_losses(judged.probability_SP, labels_P)


def _squared(judged: ResampledPredictions, labels_P: np.ndarray, left_out_SP: np.ndarray) -> np.ndarray:
    return (judged.probability_SP - labels_P) ** 2


SCORES = {
    "balanced_accuracy": _Score(_right, (0.5, 0.5), (0.5, 0.5), of_calls=True),
    "recall": _Score(_right, (0, 1), (0, 1), of_calls=True),
    "specificity": _Score(_right, (1, 0), (1, 0), of_calls=True),
    "auc": _Score(_placed, (0.5, 0.5), (1, 1)),  # both classes' mean placements are the area: DeLong et al. 1988
    "log_loss": _Score(_loss, (0.5, 0.5), (0.5, 0.5), proportion=False, lower_is_better=True, most=np.inf),
    "brier": _Score(_squared, (0.5, 0.5), (0.5, 0.5), proportion=False, lower_is_better=True),
}


@dataclass(frozen=True)
class LeftOut:
    """Scores of procedures on the patients that each resample leaves out; counts_SP: how often each is drawn.

    Source: Tsamardinos, Greasidou and Borboudakis 2018 (BBC-CV; arXiv:1708.07180), averaged over
    resamples for each patient first: the leave-one-out bootstrap of Efron and Tibshirani 1997.
    Raises ValueError where patients are too few for every one of them to be left out.
    """

    labels_P: np.ndarray
    counts_SP: np.ndarray
    group_P: np.ndarray | None = None  # of patients that are drawn together: as `resample` takes it

    def __post_init__(self) -> None:
        if not self.left_out_SP.any(axis=0).all():
            raise ValueError("some patients are in every resample: a class has too few to leave any out")

    @property
    def left_out_SP(self) -> np.ndarray:
        return self.counts_SP == 0

    def score(self, judged: ResampledPredictions, metric: str) -> Interval:
        """Return the metric's honest value with its 95 % interval (see docs/statistics.md)."""
        if metric == "calibration_error":
            return self._calibration_error(judged)
        score = SCORES[metric]
        return self._of(score, *self._values(score, judged)).interval()

    def gain(self, one: ResampledPredictions, other: ResampledPredictions, metric: str) -> Gain:
        """Return the paired difference `one` - `other` of a metric, on the same patients left out.

        Of calls, the variance counts two patients more in each class, one for either side, so that two procedures
        that agree on every patient are not said to be surely alike. Source: Bonett and Price 2012.
        """
        score = SCORES[metric]
        (mine_SP, held_SP), (theirs_SP, also_SP) = self._values(score, one), self._values(score, other)
        return self._of(score, mine_SP - theirs_SP, held_SP & also_SP).difference()

    def share(self, values_SP: np.ndarray) -> Interval:
        """Return the mean of the two classes' shares of left-out patients of whom something is true."""
        held_SP = self.left_out_SP
        return self._of(SCORES["balanced_accuracy"], np.where(held_SP, values_SP, 0.0), held_SP).interval()

    def called(self, judged: ResampledPredictions) -> np.ndarray:
        """Return in which share of the resamples that leave a patient out it is called tumoral [P].

        Nothing is averaged before it is called: the mean of what many resamples say would be a larger ensemble.
        """
        out_SP = self.left_out_SP
        return ((judged.probability_SP >= judged.threshold_S[:, None]) & out_SP).sum(axis=0) / out_SP.sum(axis=0)

    def called_at(self, probability_SP: np.ndarray, thresholds_T: np.ndarray) -> np.ndarray:
        """Return the same [P, T] at thresholds that are alike in all resamples."""
        each = [
            self.called(ResampledPredictions(probability_SP, np.full(len(probability_SP), threshold)))
            for threshold in thresholds_T
        ]
        return np.stack(each, axis=1)

    def reliability(self, judged: ResampledPredictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return for each bin of probability [BINS] how many patients it holds, what was said and what was true.

        What was said and true weigh both classes the same, as everything here does.
        """
        share_PB, probability_PB = self._bins(judged)
        weight_P = class_weights(self.labels_P)
        in_B = np.maximum(weight_P @ share_PB, 1e-12)
        true_B = (weight_P * self.labels_P) @ share_PB / in_B
        return share_PB.sum(axis=0), weight_P @ probability_PB / in_B, true_B

    def _bins(self, judged: ResampledPredictions) -> tuple[np.ndarray, np.ndarray]:
        """Return for each patient and bin of probability [P, BINS] its share there and the sum of what was said."""
        out_SP, bin_SP = self.left_out_SP, calibration_bin(judged.probability_SP)
        times_P = out_SP.sum(axis=0)
        share_PB, probability_PB = (np.zeros((len(self.labels_P), BINS)) for _ in range(2))
        for number in range(BINS):
            inside_SP = out_SP & (bin_SP == number)
            share_PB[:, number] = inside_SP.sum(axis=0) / times_P
            probability_PB[:, number] = (inside_SP * judged.probability_SP).sum(axis=0) / times_P
        return share_PB, probability_PB

    def _of(self, score: _Score, values_SP: np.ndarray, held_SP: np.ndarray) -> "_Values":
        return _Values(score, values_SP, held_SP, self.left_out_SP, self.labels_P, self.group_P)

    def _values(self, score: _Score, judged: ResampledPredictions) -> tuple[np.ndarray, np.ndarray]:
        """Return the values [S, P], and where they count."""
        held_SP = self.left_out_SP if judged.kept_SP is None else self.left_out_SP & judged.kept_SP
        values_SP = score.values(judged, self.labels_P, held_SP.astype(float))
        held_SP = held_SP & np.isfinite(values_SP)
        return np.where(held_SP, values_SP, 0.0), held_SP

    def _calibration_error(self, judged: ResampledPredictions) -> Interval:
        """Return the calibration error of all that was said of left-out patients, each patient counting once.

        The interval is the scatter over resampled patients, laid round the value: resampling makes the error larger.
        """
        share_PB, probability_PB = self._bins(judged)
        gap_PB = share_PB * self.labels_P[:, None] - probability_PB
        counts_SP = resample(self.labels_P, len(self.counts_SP), 1, self.group_P)
        drawn_S = np.abs(class_weights(self.labels_P, counts_SP) @ gap_PB).sum(axis=-1)
        value = float(np.abs(class_weights(self.labels_P) @ gap_PB).sum())
        found = spread(value, drawn_S - drawn_S.mean() + value)
        return Interval(value, max(0.0, found.low), found.high)


def fixed_score(
    probabilities_P: np.ndarray,
    labels_P: np.ndarray,
    metric: str,
    threshold: float = THRESHOLD,
    group_P: np.ndarray | None = None,
) -> Interval:
    """Return the metric of one model that was fixed before it met these patients, with its 95 % interval."""
    judged, everybody = ResampledPredictions(probabilities_P[None], np.array([threshold])), np.ones((1, len(labels_P)))
    score = SCORES[metric]
    held = everybody > 0
    return _Values(score, score.values(judged, labels_P, everybody), held, held, labels_P, group_P).interval()


class _Values:
    """One metric's values of patients [S, P], where they are held to count among those left out, and what follows."""

    def __init__(
        self, score: _Score, values_SP: np.ndarray, held_SP: np.ndarray, out_SP: np.ndarray, labels_P: np.ndarray,
        group_P: np.ndarray | None,
    ) -> None:  # fmt: skip
        self.score = score
        times_P = held_SP.sum(axis=0)
        mean_P = values_SP.sum(axis=0) / np.maximum(times_P, 1)
        weight_P = times_P / out_SP.sum(axis=0)  # below 1 for patients that are sometimes referred
        group_P = np.arange(len(labels_P)) if group_P is None else group_P
        self.classes = [_Class(mean_P[of], weight_P[of], group_P[of]) for of in (labels_P == 0, labels_P == 1)]
        self.value = float(sum(w * of.mean for w, of in zip(score.share, self.classes, strict=True) if w))
        self.choice_variance = choice_variance(values_SP, held_SP, labels_P, score.share, score.variance)

    @property
    def used(self) -> list[tuple[float, "_Class"]]:
        return [(w, of) for w, of in zip(self.score.variance, self.classes, strict=True) if w]

    @property
    def variance(self) -> float:
        """Return the squared standard error: of the patients, and of which trials were chosen."""
        return sum(w**2 * of.variance for w, of in self.used) + self.choice_variance

    @property
    def freedom(self) -> int:
        """Return the degrees of freedom of the smaller class."""
        return max(min(of.n_groups for _, of in self.used) - 1, 1)

    @property
    def quantile(self) -> float:
        return float(student.ppf((1 + LEVEL) / 2, self.freedom))

    def interval(self) -> Interval:
        """Return the value with its 95 % interval."""
        return self.proportion() if self.score.proportion else self.positive()

    def proportion(self) -> Interval:
        """Return a metric in [0, 1] with an interval that never leaves it and never has width 0.

        Wilson intervals of the two classes joined by the square-and-add rule (Newcombe 1998, method 10; Zou and
        Donner 2008), for as many patients as would give the variance found: that of the left-out means where the
        procedure is near chance, the binomial one where nearly everybody is right.
        """
        if not np.isfinite(self.value):
            return Interval(float("nan"), 0.0, 1.0)
        if self.score.variance == (1, 1):
            return self._area()
        binomial = sum(w**2 * of.mean * (1 - of.mean) / of.independent for w, of in self.used)
        found = self._towards(binomial)
        factor = float(np.clip(binomial / found, 0.1, 10)) if found > 0 and binomial > 0 else 1.0
        below = above = 0.0
        for w, of in self.used:
            low, high = wilson(of.mean, of.independent * factor, self.quantile)
            below, above = below + (w * (of.mean - low)) ** 2, above + (w * (high - of.mean)) ** 2
        return Interval(self.value, max(0.0, self.value - below**0.5), min(1.0, self.value + above**0.5))

    def _area(self) -> Interval:
        """Return the area under the curve with its interval; its binomial variance is Hanley and McNeil's (1982)."""
        area, (reactive, tumoral) = self.value, (of.independent for of in self.classes)
        first, second = area / (2 - area), 2 * area**2 / (1 + area)
        among = (tumoral - 1) * (first - area**2) + (reactive - 1) * (second - area**2)
        found = self._towards((area * (1 - area) + among) / (tumoral * reactive))
        most = reactive + tumoral
        size = min(area * (1 - area) / found, most) if found > 0 else most
        return Interval(area, *wilson(area, max(size, 1.0), self.quantile))

    def _towards(self, binomial: float) -> float:
        """Return the variance found, drawn towards the binomial one the further from chance the value is."""
        return self.variance + abs(2 * self.value - 1) * max(0.0, binomial - self.variance)

    def positive(self) -> Interval:
        """Return a loss with its interval on the logarithmic scale."""
        factor = float(np.exp(min(self.quantile * self.variance**0.5 / max(self.value, 1e-12), 50.0)))
        return Interval(self.value, self.value / factor, min(self.value * factor, self.score.most))

    def difference(self) -> Gain:
        """Return the value as a difference between two procedures."""
        variance = self.choice_variance
        for w, of in self.used:
            variance += w**2 * (of.variance_with_two_more if self.score.of_calls else of.variance)
        error = max(variance, 1e-18) ** 0.5
        half = self.quantile * error
        better = float(student.cdf((-self.value if self.score.lower_is_better else self.value) / error, self.freedom))
        return Gain(Interval(self.value, self.value - half, self.value + half), better)


class _Class(NamedTuple):
    """Patients of one class: each one's mean value when left out, and how often that counts."""

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
        """Return the mean, NaN where all of them are referred."""
        return float((self.mean_P * self.weight_P).sum() / self.size) if self.size else float("nan")

    @property
    def variance(self) -> float:
        """Return the squared standard error of the mean over patients, those of one group counting as one."""
        return self._variance(np.unique(self.group_P, return_inverse=True)[1])

    def _variance(self, group_P: np.ndarray) -> float:
        if not self.size:
            return float("nan")
        off_G = np.bincount(group_P, self.weight_P * (self.mean_P - self.mean))
        n = max(len(off_G), 2)
        return float((off_G**2).sum() / self.size**2 * n / (n - 1))

    @property
    def independent(self) -> float:
        """Return how many patients who know nothing of each other tell as much: all of them, unless there are groups.

        The size by the design effect (Kish 1965, section 5.4), with as many as there are groups where nobody differs.
        """
        if self.n_groups == len(self.mean_P) or not self.size:
            return self.size
        alone, most = self._variance(np.arange(len(self.mean_P))), len(self.mean_P) / self.n_groups
        return self.size / (float(np.clip(self.variance / alone, 1, most)) if alone > 0 else most)

    @property
    def variance_with_two_more(self) -> float:
        alone = self.group_P.max(initial=0) + np.array([1, 2])
        more = _Class(*map(np.append, self, ([-1.0, 1.0], [1.0, 1.0], alone)))
        return more.variance


def wilson(mean: float, size: float, quantile: float = Z) -> tuple[float, float]:
    """Return the interval of a proportion `mean` seen in `size` patients. Source: Wilson 1927."""
    spread_ = quantile**2 / size
    middle = (mean + spread_ / 2) / (1 + spread_)
    half = quantile / (1 + spread_) * (max(mean * (1 - mean), 0.0) / size + spread_ / (4 * size)) ** 0.5
    return max(0.0, min(middle - half, mean)), min(1.0, max(middle + half, mean))


def choice_variance(
    values_SP: np.ndarray,
    held_SP: np.ndarray,
    labels_P: np.ndarray,
    share: tuple[float, float],
    variance: tuple[float, float],
) -> float:
    """Return how much the truth itself varies with what is chosen in a resample, as a variance.

    Half the mean squared difference between two resamples' scores on the patients that both leave out, less what
    these few patients alone would make of it; 0 where that leaves nothing.
    """
    few, held = values_SP[:PAIRED], held_SP[:PAIRED].astype(float)
    difference_SS, noise_SS = (np.zeros((len(few), len(few))) for _ in range(2))
    sound_SS = ~np.eye(len(few), dtype=bool)
    for label, part, own in zip((0, 1), share, variance, strict=True):
        if not part:
            continue
        of = labels_P == label
        shared_SS = held[:, of] @ held[:, of].T
        mine_SS = few[:, of] @ held[:, of].T
        squares_SS = few[:, of] ** 2 @ held[:, of].T
        sums = np.maximum(shared_SS, 1)
        mean_SS = (mine_SS - mine_SS.T) / sums
        apart_SS = (squares_SS + squares_SS.T - 2 * few[:, of] @ few[:, of].T) / sums
        difference_SS = difference_SS + part * mean_SS
        noise_SS = noise_SS + own**2 * (apart_SS - mean_SS**2) / np.maximum(shared_SS - 1, 1)
        sound_SS &= shared_SS >= 2
    if not sound_SS.any():
        return 0.0
    return max(0.0, 0.5 * float((difference_SS**2 - noise_SS)[sound_SS].mean()))
