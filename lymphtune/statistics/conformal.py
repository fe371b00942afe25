"""Prediction sets: which of the two labels a patient's probability does not rule out, at a chosen error rate.

Shapes: P patients with known labels, K folds, Q patients to judge.
"""

from dataclasses import dataclass

import numpy as np

NAMES = ("neither", "reactive", "tumoral", "both")


@dataclass(frozen=True)
class CrossConformal:
    """Out-of-fold probabilities against which a new patient's are held, each class by itself.

    The share of sets that miss the true label is about the error rate in each class, as long as patients come from
    the same population; in the worst case about twice that, more where a class has few patients.
    Source: Vovk 2015, section 3 (cross-conformal); Vovk 2012, section 3 (each class by itself).
    """

    probability_P: np.ndarray
    labels_P: np.ndarray
    fold_P: np.ndarray  # the fold whose models said probability_P

    @classmethod
    def split(cls, probability_P: np.ndarray, labels_P: np.ndarray) -> "CrossConformal":
        """Return the comparison for one model that is the same for everyone."""
        return cls(probability_P, labels_P, np.zeros(len(labels_P), dtype=int))

    def p_values(self, probability_KQ: np.ndarray) -> np.ndarray:
        """Return the p-value [2, Q] of either label; said_KQ: what each fold's models say of the patients."""
        values = []
        for label in (0, 1):
            at_least = np.zeros(probability_KQ.shape[1])
            for fold, probability_Q in enumerate(probability_KQ):
                of = (self.labels_P == label) & (self.fold_P == fold)
                strange = np.sort(_strangeness(self.probability_P[of], label))
                at_least += len(strange) - np.searchsorted(strange, _strangeness(probability_Q, label), side="left")
            values.append((1 + at_least) / (1 + (self.labels_P == label).sum()))
        return np.array(values)

    def sets(self, probability_KQ: np.ndarray, error_rate: float) -> np.ndarray:
        """Return whether either label [2, Q] belongs to the patient's set."""
        return self.p_values(probability_KQ) > error_rate


def set_names(sets_2Q: np.ndarray) -> list[str]:
    """Return each set in a word: neither, reactive, tumoral or both."""
    return [NAMES[int(reactive) + 2 * int(tumoral)] for reactive, tumoral in sets_2Q.T]


def _strangeness(probability_P: np.ndarray, label: int) -> np.ndarray:
    return 1 - probability_P if label else probability_P
