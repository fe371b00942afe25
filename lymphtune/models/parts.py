"""The configured aggregator and head, which a fusion builds for the number of features that it needs."""

from dataclasses import dataclass

from torch import nn

from lymphtune.config import Model
from lymphtune.registry import aggregators, heads


@dataclass(frozen=True)
class Parts:
    """Builds new aggregators and heads as `model` configures them."""

    model: Model

    def aggregator(self, features: int) -> nn.Module:
        part = self.model.aggregator
        return aggregators[part.word].build(features, part.options)

    def head(self, features: int) -> nn.Module:
        part = self.model.head
        return heads[part.word].build(features, part.options)
