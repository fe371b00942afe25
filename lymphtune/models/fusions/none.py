"""Pictures only."""

from dataclasses import dataclass

from torch import Tensor, nn

from lymphtune.models.output import BagOutput
from lymphtune.models.parts import Parts
from lymphtune.registry import fusions


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


@fusions.register("none", Config)
class PicturesOnly(nn.Module):
    """The model ignores the clinical attributes."""

    def __init__(self, features: int, attributes: int, parts: Parts, config: Config) -> None:
        super().__init__()
        self.aggregator = parts.aggregator(features)
        self.head = parts.head(features)

    def forward(self, cells_BND: Tensor, mask_BN: Tensor, attributes_BA: Tensor) -> BagOutput:
        return self.aggregator(cells_BND, mask_BN, self.head)
