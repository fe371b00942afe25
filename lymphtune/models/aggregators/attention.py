"""Attention: one learned weight per cell, from a hidden layer with tanh."""

from lymphtune.models.attention import AttentionPooling, Config
from lymphtune.registry import aggregators


@aggregators.register("attention", Config)
class Attention(AttentionPooling):
    """The weighted mean of the cells, then one prediction for the bag.

    Source: Ilse, Tomczak and Welling 2018, eq. 7 and 8 (arXiv:1802.04712).
    """

    def __init__(self, features: int, config: Config) -> None:
        super().__init__(features, config, gated=False)
