"""A single fully connected layer, the study's choice for pictures alone."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from lymphtune.registry import heads


@dataclass(frozen=True, kw_only=True)
class Config:
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # probability, of the features


@heads.register("linear", Config)
class Linear(nn.Module):
    """One weight a feature and a bias."""

    def __init__(self, features: int, config: Config) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.layer = nn.Linear(features, 1)

    def forward(self, features_D: Tensor) -> Tensor:
        """Return logits [...] of features [..., D]."""
        return self.layer(self.dropout(features_D)).squeeze(-1)
