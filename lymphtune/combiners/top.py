"""The unweighted mean of the members' probabilities: nothing is fitted, so nothing can overfit."""

from dataclasses import dataclass

import numpy as np

from lymphtune.registry import combiners


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


@combiners.register("top", Config)
class Top:
    """All members have equal weights."""

    learns = ("weights_M_",)

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, oof_MP: np.ndarray, labels_P: np.ndarray) -> "Top":
        self.weights_M_ = np.full(len(oof_MP), 1 / len(oof_MP))
        return self

    def predict_proba(self, probabilities_MP: np.ndarray) -> np.ndarray:
        """Return the mean over members [P]."""
        return probabilities_MP.mean(axis=0)
