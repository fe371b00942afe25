"""The mean of a pictures' expert's and a clinical expert's probability, each trained by its own loss."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lymphtune.models.experts import FACTOR, Experts, Factor, Hidden
from lymphtune.models.output import BagOutput
from lymphtune.models.parts import Parts
from lymphtune.registry import fusions


@dataclass(frozen=True, kw_only=True)
class Config:
    hidden: Hidden = field(default_factory=lambda: [8])  # of the clinical expert; [] is logistic regression
    learning_rate_factor: Factor = FACTOR  # of the clinical expert's own learning rate


@fusions.register("late", Config)
class Late(Experts):
    """Neither expert's loss sees the other: each is the best it can be alone, and they meet in the mean."""

    def __init__(self, features: int, attributes: int, parts: Parts, config: Config) -> None:
        super().__init__(features, attributes, parts, config.hidden, config.learning_rate_factor)

    def forward(self, cells_BND: Tensor, mask_BN: Tensor, attributes_BA: Tensor) -> BagOutput:
        seen, clinical_B = self.experts(cells_BND, mask_BN, attributes_BA)
        both_XB = torch.stack([seen.probability_B, clinical_B])
        return seen._replace(probability_B=both_XB.mean(dim=0), expert_probability_XB=both_XB, expert_loss=1.0)
