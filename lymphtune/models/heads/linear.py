"""A single fully connected layer, the study's choice for pictures alone."""

from dataclasses import dataclass

from torch import Tensor, nn

from lymphtune.registry import heads


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


@heads.register("linear", Config)
class Linear(nn.Module):
    """One weight a feature and a bias."""

    def __init__(self, features: int, config: Config) -> None:
        super().__init__()
        self.layer = nn.Linear(features, 1)

    def forward(self, features_D: Tensor) -> Tensor:
        """Return logits [...] of features [..., D]."""
        return self.layer(features_D).squeeze(-1)
