"""A soft maximum of the cells' probabilities."""

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
    sharpness: Annotated[float, Field(ge=0.01, le=100)] = 4.0  # near 0: the mean; large: the maximum


@aggregators.register("log_sum_exp", Config)
class LogSumExp(nn.Module):
    """log(mean(exp(r p))) / r over the bag's probabilities p; a cell's weight is its share of the gradient.

    Source: Pinheiro and Collobert 2015, eq. 6 (arXiv:1411.6228).
    """

    def __init__(self, features: int, config: Config) -> None:
        super().__init__()
        self.sharpness = config.sharpness

    def forward(self, cells_BND: Tensor, mask_BN: Tensor, head: Callable[[Tensor], Tensor]) -> BagOutput:
        probability_BN = each_cell(head, cells_BND, mask_BN)
        top_B1 = probability_BN.detach().amax(dim=1, keepdim=True)  # the result never exceeds it by rounding
        scaled_BN = (self.sharpness * (probability_BN - top_B1)).masked_fill(~mask_BN, -torch.inf)
        mean_B = (scaled_BN.exp().sum(dim=1) / mask_BN.sum(dim=1)).log()
        return BagOutput(top_B1.squeeze(1) + mean_B / self.sharpness, scaled_BN.softmax(dim=1), probability_BN)
