"""Platt scaling: a logistic regression on the logit, which corrects scale and shift."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from lymphtune.registry import calibrations
from lymphtune.statistics.metrics import SMALLEST, class_weights


@dataclass(frozen=True, kw_only=True)
class Config:
    strength: float = 1.0  # strength of the L2 regularisation; 0 is none

    def __post_init__(self) -> None:
        if not self.strength >= 0:
            raise ValueError("expected a strength from 0")


@calibrations.register("platt", Config)
class Platt:
    """A slope below 0 is replaced by 0, so the ranking of patients is never reversed.

    An L2 penalty on the slope replaces Platt's smoothed targets. Source: Platt 1999.
    """

    least_patients = 50
    learns = ("slope_", "shift_")

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, probabilities_P: np.ndarray, labels_P: np.ndarray) -> "Platt":
        model = LogisticRegression(C=1 / max(self.config.strength, 1e-9))
        model.fit(_logit(probabilities_P)[:, None], labels_P, sample_weight=class_weights(labels_P) * len(labels_P))
        keeps_order = model.coef_[0] > 0  # otherwise the best constant, one half, is used
        self.slope_, self.shift_ = model.coef_[0] * keeps_order, model.intercept_ * keeps_order
        return self

    def apply(self, probabilities_P: np.ndarray) -> np.ndarray:
        """Return the regression's probabilities [P]."""
        return expit(self.slope_ * _logit(probabilities_P) + self.shift_)


def _logit(probabilities_P: np.ndarray) -> np.ndarray:
    return logit(np.clip(probabilities_P, SMALLEST, 1 - SMALLEST))
