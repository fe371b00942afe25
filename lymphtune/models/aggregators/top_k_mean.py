"""Mean of the highest cell probabilities."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from lymphtune.models.output import BagOutput, each_cell
from lymphtune.registry import aggregators


@dataclass(frozen=True, kw_only=True)
class Config:
    share: Annotated[float, Field(gt=0, le=1)] = 0.5  # of the bag's cells, rounded up to whole cells


@aggregators.register("top_k_mean", Config)
class TopKMean(nn.Module):
    """Mean over the k cells of highest probability; k is a fraction of the bag, so that bags of any size compare.

    Source: Courtiol et al. 2018, section 2.3, its top instances only (arXiv:1802.02212).
    """

    def __init__(self, features: int, config: Config) -> None:
        super().__init__()
        self.share = config.share

    def forward(self, cells_BND: Tensor, mask_BN: Tensor, head: Callable[[Tensor], Tensor]) -> BagOutput:
        probability_BN = each_cell(head, cells_BND, mask_BN)
        rank_BN = probability_BN.masked_fill(~mask_BN, -1).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        count_B = (
            torch.ceil(mask_BN.sum(dim=1).double() * self.share - 1e-6).clamp_min(1).float()
        )  # without the 1e-6, 0.1 of 30 would be 4
        weight_BN = (rank_BN < count_B[:, None]) / count_B[:, None]
        return BagOutput((weight_BN * probability_BN).sum(dim=1), weight_BN, probability_BN)
