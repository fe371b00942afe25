"""The study's aggregation: a probability for every cell, then their mean over the bag."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from lymphtune.models.output import BagOutput, each_cell, equal_weights
from lymphtune.registry import aggregators


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


@aggregators.register("prediction_mean", Config)
class PredictionMean(nn.Module):
    """Mean of the cells' own probabilities.

    Source: Dessaint and Dalla-torre 2021, section 2.4.3.
    """

    def __init__(self, features: int, config: Config) -> None:
        super().__init__()

    def forward(self, cells_BND: Tensor, mask_BN: Tensor, head: Callable[[Tensor], Tensor]) -> BagOutput:
        probability_BN = each_cell(head, cells_BND, mask_BN)
        weight_BN = equal_weights(mask_BN)
        return BagOutput((weight_BN * probability_BN).sum(dim=1), weight_BN, probability_BN)
