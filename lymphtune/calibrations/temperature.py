"""Temperature scaling: all logits divided by one number."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from lymphtune.registry import calibrations
from lymphtune.statistics.metrics import SMALLEST, balanced_log_loss


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


@calibrations.register("temperature", Config)
class Temperature:
    """A probability of 0.5 is unchanged, and so is every call at 0.5.

    Source: Guo et al. 2017, eq. 9 (arXiv:1706.04599).
    """

    least_patients = 50
    learns = ("temperature_",)

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, probabilities_P: np.ndarray, labels_P: np.ndarray) -> "Temperature":
        logit_P = logit(np.clip(probabilities_P, SMALLEST, 1 - SMALLEST))

        def loss(log_temperature: float) -> float:
            return float(balanced_log_loss(expit(logit_P / np.exp(log_temperature)), labels_P))

        found = minimize_scalar(loss, bounds=(-3, 3), method="bounded")
        self.temperature_ = np.exp([found.x])
        return self

    def apply(self, probabilities_P: np.ndarray) -> np.ndarray:
        """Return the probabilities at the fitted temperature [P]."""
        return expit(logit(np.clip(probabilities_P, SMALLEST, 1 - SMALLEST)) / self.temperature_)
