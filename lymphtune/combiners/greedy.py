"""Greedy ensemble selection with replacement: each step adds the member that improves the mean most.

Shapes: M members, P patients, B bags.
"""

from dataclasses import dataclass

import numpy as np

from lymphtune.registry import combiners
from lymphtune.statistics.metrics import class_weights, log_losses

MOST = 1000  # largest number of bags, and of steps


@dataclass(frozen=True, kw_only=True)
class Config:
    start: int = 3  # number of best members that every bag starts with
    steps: int = 15  # number of members added to them, one per step
    bags: int = 10
    fraction: float = 0.5  # fraction of the members that a bag samples

    def __post_init__(self) -> None:
        few, many = min(self.start, self.bags) < 1 or self.steps < 0, max(self.bags, self.steps) > MOST
        if few or many or not 0 < self.fraction <= 1:
            raise ValueError(
                f"expected start and bags from 1, steps from 0, both to {MOST}, fraction above 0 and at most 1"
            )


@combiners.register("greedy", Config)
class Greedy:
    """A weighted mean; a member's weight is how often it was selected, over bags of members.

    Each bag samples members and starts with the best of them. Each step adds, with replacement, the member that lowers
    the class-balanced log loss of the mean most. A bag keeps the step with the lowest loss. If the mean of all bags has
    a higher loss than the mean of the best `start` members, the latter is used.
    Source: Caruana et al. 2004, sections 2.1 to 2.3.
    """

    learns = ("weights_M_",)

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, oof_MP: np.ndarray, labels_P: np.ndarray) -> "Greedy":
        weight_P = class_weights(labels_P)
        loss_M = log_losses(oof_MP, labels_P) @ weight_P
        order = np.lexsort([*oof_MP.T[::-1], loss_M])  # independent of the order of the members
        sorted_MP = oof_MP[order]
        count_M = self._selected(sorted_MP, labels_P, weight_P)
        start_M = np.zeros(len(order))
        start_M[: self.config.start] = 1
        options = [count / count.sum() for count in (count_M, start_M)]
        best = min(options, key=lambda weights_M: float(log_losses(weights_M @ sorted_MP, labels_P) @ weight_P))
        self.weights_M_ = best[np.argsort(order)]
        return self

    def predict_proba(self, probabilities_MP: np.ndarray) -> np.ndarray:
        """Return the weighted mean [P]."""
        return self.weights_M_ @ probabilities_MP

    def _selected(self, sorted_MP: np.ndarray, labels_P: np.ndarray, weight_P: np.ndarray) -> np.ndarray:
        """Return each member's mean weight [M] over the bags, the best member first."""
        bag_BM = self._bags(len(sorted_MP))
        count_BM = bag_BM & (np.cumsum(bag_BM, axis=1) <= self.config.start)
        count_BM = count_BM.astype(float)
        tumoral = labels_P == 1
        right_MP = np.where(tumoral, sorted_MP, 1 - sorted_MP)  # predicted probability of the true label
        sum_BP = count_BM @ right_MP
        lowest_B, best_BM = self._loss(sum_BP, count_BM, weight_P), count_BM / count_BM.sum(axis=1, keepdims=True)
        for _ in range(self.config.steps):
            size_B = count_BM.sum(axis=1) + 1
            tried_BMP = (sum_BP[:, None] + right_MP) / size_B[:, None, None]
            loss_BM = -np.log(np.maximum(tried_BMP, 1e-6)) @ weight_P
            added_B = np.argmin(np.where(bag_BM, loss_BM, np.inf), axis=1)
            bags = np.arange(len(added_B))
            count_BM[bags, added_B] += 1
            sum_BP += right_MP[added_B]
            better_B = loss_BM[bags, added_B] < lowest_B
            lowest_B = np.where(better_B, loss_BM[bags, added_B], lowest_B)
            best_BM = np.where(better_B[:, None], count_BM / size_B[:, None], best_BM)
        return best_BM.mean(axis=0)

    def _bags(self, members: int) -> np.ndarray:
        """Return the mask [B, M] of the members that each bag samples."""
        size = max(min(self.config.start, members), round(self.config.fraction * members))
        rng = np.random.default_rng(0)
        place_BM = np.argsort(rng.random((self.config.bags, members)), axis=1)
        return place_BM < size

    @staticmethod
    def _loss(sum_BP: np.ndarray, count_BM: np.ndarray, weight_P: np.ndarray) -> np.ndarray:
        mean_BP = sum_BP / count_BM.sum(axis=1, keepdims=True)
        return -np.log(np.maximum(mean_BP, 1e-6)) @ weight_P
