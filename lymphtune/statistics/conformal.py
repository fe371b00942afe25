"""Conformal prediction sets: the labels that a patient's probability does not reject at a chosen error rate.

Shapes: P patients with known labels, K folds, Q patients to predict.
"""

from dataclasses import dataclass

import numpy as np

NAMES = ("neither", "reactive", "tumoral", "both")


@dataclass(frozen=True)
class CrossConformal:
    """Class-conditional cross-conformal predictor, calibrated on out-of-fold probabilities.

    In each class, the fraction of sets without the true label is about the error rate, as long as patients come from
    the same population. In the worst case it is about twice that, or more in a class with few patients.
    Source: Vovk 2015, section 3 (cross-conformal); Vovk 2012, section 3 (class-conditional).
    """

    probability_P: np.ndarray
    labels_P: np.ndarray
    fold_P: np.ndarray  # the fold whose models predicted probability_P

    @classmethod
    def split(cls, probability_P: np.ndarray, labels_P: np.ndarray) -> "CrossConformal":
        """Return a split-conformal predictor: one model for all patients, as one fold."""
        return cls(probability_P, labels_P, np.zeros(len(labels_P), dtype=int))

    def p_values(self, probability_KQ: np.ndarray) -> np.ndarray:
        """Return the p-value [2, Q] of each label; probability_KQ: predictions of each fold's models."""
        values = []
        for label in (0, 1):
            at_least = np.zeros(probability_KQ.shape[1])
            for fold, probability_Q in enumerate(probability_KQ):
                of_label = (self.labels_P == label) & (self.fold_P == fold)
                known = np.sort(_nonconformity(self.probability_P[of_label], label))
                at_least += len(known) - np.searchsorted(known, _nonconformity(probability_Q, label), side="left")
            values.append((1 + at_least) / (1 + (self.labels_P == label).sum()))
        return np.array(values)

    def sets(self, probability_KQ: np.ndarray, error_rate: float) -> np.ndarray:
        """Return whether each label [2, Q] belongs to the patient's prediction set."""
        return self.p_values(probability_KQ) > error_rate


def set_names(sets_2Q: np.ndarray) -> list[str]:
    """Return the name of each set: neither, reactive, tumoral or both."""
    return [NAMES[int(reactive) + 2 * int(tumoral)] for reactive, tumoral in sets_2Q.T]


def _nonconformity(probability_P: np.ndarray, label: int) -> np.ndarray:
    """Return one minus the probability of the label."""
    return 1 - probability_P if label else probability_P
