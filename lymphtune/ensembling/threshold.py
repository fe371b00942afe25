"""The threshold from which a patient is called tumoral: one half, or one chosen on out-of-fold probabilities.

Shapes: P patients, T thresholds tried.
"""

import math
from dataclasses import dataclass

import numpy as np

from lymphtune.errors import InputError
from lymphtune.statistics.metrics import THRESHOLD

LEAST_PATIENTS = 50  # with a label, to choose one by
EXPECTED = "expected a number between 0 and 1, tuned, recall=0.95 or cost=FN:FP (say cost=5:1)"


@dataclass(frozen=True)
class Threshold:
    """How it is found.

    rule `fixed`: the value; `tuned`: highest balanced accuracy; `recall`: the highest threshold that calls at least
    the share `value` of tumoral patients tumoral; `cost`: least cost, where missing a tumoral patient costs `value`
    times a false alarm, patients counted as frequent as they are in the cohort.
    """

    rule: str = "fixed"
    value: float = THRESHOLD
    text: str = str(THRESHOLD)

    @property
    def is_chosen(self) -> bool:
        return self.rule != "fixed"

    def check(self, labels_P: np.ndarray) -> None:
        """Raise InputError where patients are too few to choose by."""
        if self.is_chosen and len(labels_P) < LEAST_PATIENTS:
            raise InputError(
                f"--threshold {self.text}: chosen on {LEAST_PATIENTS} labelled patients or more; this run judged "
                f"{len(labels_P)}; use a fixed one"
            )

    def choose(self, probability_P: np.ndarray, labels_P: np.ndarray) -> float:
        """Return the threshold that these patients ask for; of equally good ones the one nearest to one half."""
        if not self.is_chosen:
            return self.value
        tried_T, missed_T, alarms_T = _errors(probability_P, labels_P)
        tumoral, reactive = int((labels_P == 1).sum()), int((labels_P == 0).sum())
        if self.rule == "recall":
            enough_T = missed_T <= (1 - self.value) * tumoral + 1e-9
            return float(tried_T[enough_T].max())
        if self.rule == "tuned":
            loss_T = missed_T / tumoral + alarms_T / reactive
        else:
            loss_T = self.value * missed_T + alarms_T
        best_T = tried_T[loss_T <= loss_T.min() + 1e-12]
        return float(best_T[np.argmin(np.abs(best_T - THRESHOLD))])


def _errors(probability_P: np.ndarray, labels_P: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return thresholds between and beside all probabilities and at one half, and the errors of both kinds at each."""
    values = np.unique(probability_P)
    beside = [values[0], np.nextafter(values[-1], np.inf), THRESHOLD]
    tried_T = np.unique(np.concatenate([beside, (values[1:] + values[:-1]) / 2]))
    tumoral, reactive = (np.sort(probability_P[labels_P == label]) for label in (1, 0))
    missed_T = np.searchsorted(tumoral, tried_T, side="left")
    return tried_T, missed_T, len(reactive) - np.searchsorted(reactive, tried_T, side="left")


def parse_threshold(text: str) -> Threshold:
    """Return the threshold that a command asked for; raises InputError."""
    rule, equals, value = text.partition("=")
    try:
        if text == "tuned":
            return Threshold("tuned", 0.0, text)
        if rule == "recall" and equals and 0 < float(value) <= 1:
            return Threshold("recall", float(value), text)
        if rule == "cost" and equals:
            missed, alarm = (float(part) for part in value.split(":"))
            if missed > 0 and alarm > 0 and 0 < missed / alarm < math.inf:
                return Threshold("cost", missed / alarm, text)
        elif not equals and 0 < float(text) < 1:
            return Threshold("fixed", float(text), text)
    except ValueError:  # no number where one belongs
        pass
    raise InputError(f"--threshold {text}: {EXPECTED}")
