"""Isotonic regression: the best non-decreasing function; it needs many patients."""

from dataclasses import dataclass

import numpy as np
from sklearn.isotonic import IsotonicRegression

from lymphtune.registry import calibrations
from lymphtune.statistics.metrics import class_weights


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


@calibrations.register("isotonic", Config)
class Isotonic:
    """Linear between steps; bounded to [1 / 2n, 1 - 1 / 2n] for n patients.

    Source: Zadrozny and Elkan 2002, section 3.
    """

    least_patients = 150
    # The names are keys of learnt.safetensors: input and output probabilities at the steps.
    learns = ("said_", "meant_")

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, probabilities_P: np.ndarray, labels_P: np.ndarray) -> "Isotonic":
        lowest = 1 / (2 * len(labels_P))
        model = IsotonicRegression(y_min=lowest, y_max=1 - lowest, out_of_bounds="clip")
        model.fit(probabilities_P, labels_P, sample_weight=class_weights(labels_P))
        self.said_, self.meant_ = model.X_thresholds_, model.y_thresholds_
        return self

    def apply(self, probabilities_P: np.ndarray) -> np.ndarray:
        """Return the interpolated values of the steps [P]."""
        return np.interp(probabilities_P, self.said_, self.meant_)
