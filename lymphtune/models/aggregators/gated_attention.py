"""Gated attention: a learned gate multiplies the hidden layer of the weights."""

from lymphtune.models.attention import AttentionPooling, Config
from lymphtune.registry import aggregators


@aggregators.register("gated_attention", Config)
class GatedAttention(AttentionPooling):
    """As `attention`, with tanh times sigmoid in the hidden layer.

    Source: Ilse, Tomczak and Welling 2018, eq. 7 and 9 (arXiv:1802.04712).
    """

    def __init__(self, features: int, config: Config) -> None:
        super().__init__(features, config, gated=True)
