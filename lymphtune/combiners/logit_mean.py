"""The mean of the members' logits: a confident member has more influence than in the mean of probabilities."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from lymphtune.registry import combiners
from lymphtune.statistics.metrics import SMALLEST


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


@combiners.register("logit_mean", Config)
class LogitMean:
    """The geometric mean of the members' odds."""

    learns = ()

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, oof_MP: np.ndarray, labels_P: np.ndarray) -> "LogitMean":
        return self

    def predict_proba(self, probabilities_MP: np.ndarray) -> np.ndarray:
        """Return the probability of the mean logit [P]."""
        return expit(logit(np.clip(probabilities_MP, SMALLEST, 1 - SMALLEST)).mean(axis=0))
