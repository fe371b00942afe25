"""The mean of the members' ranks: members with different scales have the same influence.

Shapes: M members, P patients.
"""

from dataclasses import dataclass

import numpy as np

from lymphtune.registry import combiners


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


@combiners.register("rank_mean", Config)
class RankMean:
    """The mean rank of each member's probability among its own out-of-fold ones, mapped back to a probability.

    The mean of the members' quantile functions maps a rank to a probability, so a threshold keeps its meaning and a
    single member is returned unchanged. Both functions are linear between known probabilities, from 0 at 0 to 1 at 1.
    """

    learns = ("sorted_MP_",)

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, oof_MP: np.ndarray, labels_P: np.ndarray) -> "RankMean":
        self.sorted_MP_ = np.sort(oof_MP, axis=1)
        return self

    def predict_proba(self, probabilities_MP: np.ndarray) -> np.ndarray:
        """Return the mean quantile of the mean rank [P]."""
        scales = [_scale(known_P) for known_P in self.sorted_MP_]
        ranks_MP = [
            np.interp(probability_P, *scale) for probability_P, scale in zip(probabilities_MP, scales, strict=True)
        ]
        rank_P = np.mean(ranks_MP, axis=0)
        return np.mean([np.interp(rank_P, ranks, values) for values, ranks in scales], axis=0)


def _scale(known_P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct probabilities, 0 and 1 included, and the mid-rank of each as a fraction of the patients."""
    values, counts = np.unique(known_P, return_counts=True)
    ranks = (np.cumsum(counts) - counts / 2) / len(known_P)
    inner = (values > 0) & (values < 1)
    return np.concatenate([[0.0], values[inner], [1.0]]), np.concatenate([[0.0], ranks[inner], [1.0]])
