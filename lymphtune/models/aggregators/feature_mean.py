"""Mean of the cells' features, then one prediction for the bag."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from lymphtune.models.output import BagOutput, equal_weights, weighted_sum
from lymphtune.registry import aggregators


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


@aggregators.register("feature_mean", Config)
class FeatureMean(nn.Module):
    """Probability of the mean feature vector.

    Source: Dessaint and Dalla-torre 2021, section 2.4.3 (the variant with the lower score there).
    """

    def __init__(self, features: int, config: Config) -> None:
        super().__init__()

    def forward(self, cells_BND: Tensor, mask_BN: Tensor, head: Callable[[Tensor], Tensor]) -> BagOutput:
        weight_BN = equal_weights(mask_BN)
        return BagOutput(head(weighted_sum(weight_BN, cells_BND)).float().sigmoid(), weight_BN)
