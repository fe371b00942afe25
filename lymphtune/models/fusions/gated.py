"""Mixture of experts: a gate weighs the pictures against the clinical attributes for each patient."""

from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from lymphtune.models.experts import FACTOR, Experts, Factor, Hidden, SmallNetwork
from lymphtune.models.output import BagOutput, equal_weights, weighted_sum
from lymphtune.models.parts import Parts
from lymphtune.registry import fusions


@dataclass(frozen=True, kw_only=True)
class Config:
    hidden: Hidden = field(default_factory=lambda: [8])  # of the clinical expert; [] is logistic regression
    gate_hidden: Hidden = field(default_factory=lambda: [8])
    learning_rate_factor: Factor = FACTOR  # of the clinical expert's own learning rate
    # Weight of the experts' own losses; the mixture's loss has the rest and alone trains the gate.
    expert_loss: Annotated[float, Field(ge=0, lt=1)] = 0.5


@fusions.register("gated", Config)
class Gated(Experts):
    """pi times the pictures' probability plus (1 - pi) times the attributes'; pi from both.

    The mixture is of probabilities: a model that mixes logits and applies a second sigmoid hardly trains. The experts'
    own losses train the weaker expert also while the gate prefers the other. The gate's input is the bag's mean
    features; it sends no gradient into them.
    Source: Sahasrabudhe et al. 2020, section III-C; Dessaint and Dalla-torre 2021, section 2.4.5.
    """

    def __init__(self, features: int, attributes: int, parts: Parts, config: Config) -> None:
        super().__init__(features, attributes, parts, config.hidden, config.learning_rate_factor)
        self.scale = nn.LayerNorm(features)
        self.gate = SmallNetwork(features + attributes, config.gate_hidden)
        self.expert_loss = config.expert_loss

    def forward(self, cells_BND: Tensor, mask_BN: Tensor, attributes_BA: Tensor) -> BagOutput:
        pictures, clinical_B = self.experts(cells_BND, mask_BN, attributes_BA)
        bag_BD = self.scale(weighted_sum(equal_weights(mask_BN), cells_BND.detach()).float())
        gate_B = self.gate(torch.cat([bag_BD, attributes_BA], dim=1)).squeeze(-1).float().sigmoid()
        both_XB = torch.stack([pictures.probability_B, clinical_B])
        mixed_B = gate_B * both_XB[0] + (1 - gate_B) * both_XB[1]
        return pictures._replace(
            probability_B=mixed_B, expert_probability_XB=both_XB, gate_B=gate_B, expert_loss=self.expert_loss
        )
