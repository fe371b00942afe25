"""Fully connected layers with ReLU and dropout between: 1000-500-100-1 in the study's mixed model."""

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from lymphtune.registry import heads


@dataclass(frozen=True, kw_only=True)
class Config:
    hidden: Annotated[list[Annotated[int, Field(ge=1, le=8192)]], Field(min_length=1)] = field(
        default_factory=lambda: [1000, 500, 100]
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5  # probability, after each hidden layer


@heads.register("mlp", Config)
class Mlp(nn.Module):
    """Source: Dessaint and Dalla-torre 2021, section 2.4.4."""

    def __init__(self, features: int, config: Config) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip([features, *config.hidden[:-1]], config.hidden, strict=True):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True), nn.Dropout(config.dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear([features, *config.hidden][-1], 1))

    def forward(self, features_D: Tensor) -> Tensor:
        """Return logits [...] of features [..., D]."""
        return self.layers(features_D).squeeze(-1)
