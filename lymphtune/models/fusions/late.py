"""The mean of the probabilities of a pictures' expert and a clinical expert, each trained by its own loss."""

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
    """Two experts with independent losses; the model's probability is their mean."""

    def __init__(self, features: int, attributes: int, parts: Parts, config: Config) -> None:
        super().__init__(features, attributes, parts, config.hidden, config.learning_rate_factor)

    def forward(self, cells_BND: Tensor, mask_BN: Tensor, attributes_BA: Tensor) -> BagOutput:
        pictures, clinical_B = self.experts(cells_BND, mask_BN, attributes_BA)
        both_XB = torch.stack([pictures.probability_B, clinical_B])
        return pictures._replace(probability_B=both_XB.mean(dim=0), expert_probability_XB=both_XB, expert_loss=1.0)
