"""The study's mixed model: the clinical attributes are concatenated to every cell's features."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lymphtune.models.output import BagOutput
from lymphtune.models.parts import Parts
from lymphtune.registry import fusions


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


@fusions.register("concat", Config)
class Concat(nn.Module):
    """[features, attributes] of each cell into the aggregation and the head.

    Source: Dessaint and Dalla-torre 2021, section 2.4.4.
    """

    def __init__(self, features: int, attributes: int, parts: Parts, config: Config) -> None:
        super().__init__()
        self.aggregator = parts.aggregator(features + attributes)
        self.head = parts.head(features + attributes)

    def forward(self, cells_BND: Tensor, mask_BN: Tensor, attributes_BA: Tensor) -> BagOutput:
        attributes_BNA = attributes_BA.to(cells_BND.dtype)[:, None].expand(-1, cells_BND.shape[1], -1)
        return self.aggregator(torch.cat([cells_BND, attributes_BNA], dim=2), mask_BN, self.head)
