"""The median of the members' probabilities: robust to single outlying members."""

from dataclasses import dataclass

import numpy as np

from lymphtune.registry import combiners


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


@combiners.register("median", Config)
class Median:
    """The middle member's probability; with an even number of members, the mean of the middle two."""

    learns = ()

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, oof_MP: np.ndarray, labels_P: np.ndarray) -> "Median":
        return self

    def predict_proba(self, probabilities_MP: np.ndarray) -> np.ndarray:
        """Return the median over members [P]."""
        return np.median(probabilities_MP, axis=0)
