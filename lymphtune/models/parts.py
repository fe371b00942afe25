"""What a fusion builds itself from: the configured aggregator and head, for any number of features."""

from dataclasses import dataclass

from torch import nn

from lymphtune.config import Model
from lymphtune.registry import aggregators, heads


@dataclass(frozen=True)
class Parts:
    """Makes fresh aggregators and heads as `model` names them."""

    model: Model

    def aggregator(self, features: int) -> nn.Module:
        part = self.model.aggregator
        return aggregators[part.word].build(features, part.options)

    def head(self, features: int) -> nn.Module:
        part = self.model.head
        return heads[part.word].build(features, part.options)
