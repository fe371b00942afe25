"""Attention over the cells of a bag: one learned weight per cell, one feature vector per bag; for two aggregators.

Shapes: B bags, N cells in the longest bag, D features, H hidden units.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from lymphtune.models.output import BagOutput, weighted_sum


@dataclass(frozen=True, kw_only=True)
class Config:
    hidden: Annotated[int, Field(ge=1, le=4096)] = 128
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.25  # probability; on the input of the scores only


class AttentionPooling(nn.Module):
    """Probability of the weighted mean of a bag's cells; weights are positive and sum to 1 over real cells."""

    def __init__(self, features: int, config: Config, gated: bool) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.content = nn.Linear(features, config.hidden)
        self.gate = nn.Linear(features, config.hidden) if gated else None
        self.score = nn.Linear(config.hidden, 1, bias=False)

    def forward(self, cells_BND: Tensor, mask_BN: Tensor, head: Callable[[Tensor], Tensor]) -> BagOutput:
        input_BND = self.dropout(cells_BND)
        hidden_BNH = self.content(input_BND).tanh()
        if self.gate is not None:
            hidden_BNH = hidden_BNH * self.gate(input_BND).sigmoid()
        score_BN = self.score(hidden_BNH).squeeze(-1).float()
        weight_BN = score_BN.masked_fill(~mask_BN, -torch.inf).softmax(dim=1)
        return BagOutput(head(weighted_sum(weight_BN, cells_BND)).float().sigmoid(), weight_BN)
