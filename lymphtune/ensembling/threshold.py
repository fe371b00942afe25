"""The lowest probability that is called tumoral: one half, or a threshold chosen on out-of-fold probabilities.

Shapes: P patients, T candidate thresholds.
"""

import math
from dataclasses import dataclass

import numpy as np

from lymphtune.errors import InputError
from lymphtune.statistics.metrics import THRESHOLD

LEAST_PATIENTS = 50  # labelled patients needed to choose a threshold
EXPECTED = "expected a number between 0 and 1, tuned, recall=0.95 or cost=FN:FP (such as cost=5:1)"


@dataclass(frozen=True)
class Threshold:
    """The rule that sets the threshold.

    rule: `fixed` uses `value`. `tuned` maximises balanced accuracy. `recall` is the highest threshold with a recall of
    at least `value`. `cost` minimises the cost at the prevalence of the cohort, if a false negative costs `value` times
    a false positive.
    """

    rule: str = "fixed"
    value: float = THRESHOLD
    text: str = str(THRESHOLD)

    @property
    def is_chosen(self) -> bool:
        return self.rule != "fixed"

    def check(self, labels_P: np.ndarray) -> None:
        """Raise InputError if there are too few patients to choose a threshold."""
        if self.is_chosen and len(labels_P) < LEAST_PATIENTS:
            raise InputError(
                f"--threshold {self.text}: needs {LEAST_PATIENTS} labelled patients or more; this run scored "
                f"{len(labels_P)}; use a fixed threshold"
            )

    def choose(self, probability_P: np.ndarray, labels_P: np.ndarray) -> float:
        """Return the rule's threshold for these patients; of equally good ones, the one nearest to one half."""
        if not self.is_chosen:
            return self.value
        candidate_T, false_negative_T, false_positive_T = _errors(probability_P, labels_P)
        tumoral, reactive = int((labels_P == 1).sum()), int((labels_P == 0).sum())
        if self.rule == "recall":
            enough_T = false_negative_T <= (1 - self.value) * tumoral + 1e-9
            return float(candidate_T[enough_T].max())
        if self.rule == "tuned":
            loss_T = false_negative_T / tumoral + false_positive_T / reactive
        else:
            loss_T = self.value * false_negative_T + false_positive_T
        best_T = candidate_T[loss_T <= loss_T.min() + 1e-12]
        return float(best_T[np.argmin(np.abs(best_T - THRESHOLD))])


def _errors(probability_P: np.ndarray, labels_P: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return candidate thresholds [T], and the numbers of false negatives and false positives [T] at each.

    Candidates lie between adjacent probabilities, beyond the extremes, and at one half.
    """
    values = np.unique(probability_P)
    beside = [values[0], np.nextafter(values[-1], np.inf), THRESHOLD]
    candidate_T = np.unique(np.concatenate([beside, (values[1:] + values[:-1]) / 2]))
    tumoral, reactive = (np.sort(probability_P[labels_P == label]) for label in (1, 0))
    false_negative_T = np.searchsorted(tumoral, candidate_T, side="left")
    return candidate_T, false_negative_T, len(reactive) - np.searchsorted(reactive, candidate_T, side="left")


def parse_threshold(text: str) -> Threshold:
    """Parse the value of --threshold; raises InputError."""
    rule, equals, value = text.partition("=")
    try:
        if text == "tuned":
            return Threshold("tuned", 0.0, text)
        if rule == "recall" and equals and 0 < float(value) <= 1:
            return Threshold("recall", float(value), text)
        if rule == "cost" and equals:
            negative, positive = (float(part) for part in value.split(":"))
            if negative > 0 and positive > 0 and 0 < negative / positive < math.inf:
                return Threshold("cost", negative / positive, text)
        elif not equals and 0 < float(text) < 1:
            return Threshold("fixed", float(text), text)
    except ValueError:  # not a number
        pass
    raise InputError(f"--threshold {text}: {EXPECTED}")
