"""Two experts, one on the pictures and one on the clinical attributes, shared by the fusions that join them late.

Shapes: B bags, N cells in the longest bag, D features, A attributes.
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from lymphtune.models.output import BagOutput
from lymphtune.models.parts import Parts

Hidden = list[Annotated[int, Field(ge=1, le=4096)]]
Factor = Annotated[float, Field(gt=0, le=100)]
FACTOR = 10.0  # few weights move further than those of an encoder, in the same number of steps


class Experts(nn.Module):
    """The configured aggregator and head on the cells, and a small fully connected network on the attributes."""

    def __init__(self, features: int, attributes: int, parts: Parts, hidden: list[int], factor: float) -> None:
        super().__init__()
        self.aggregator = parts.aggregator(features)
        self.head = parts.head(features)
        self.clinical = SmallNetwork(attributes, hidden, factor)

    def experts(self, cells_BND: Tensor, mask_BN: Tensor, attributes_BA: Tensor) -> tuple[BagOutput, Tensor]:
        """Return the output of the pictures' expert and the probability [B] of the attributes' expert."""
        clinical_B = self.clinical(attributes_BA).squeeze(-1).float().sigmoid()
        return self.aggregator(cells_BND, mask_BN, self.head), clinical_B


class SmallNetwork(nn.Sequential):
    """Fully connected layers with tanh between, down to one logit; no hidden layer is logistic regression."""

    def __init__(self, inputs: int, hidden: list[int], learning_rate_factor: float = 1.0) -> None:
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(inputs, width), nn.Tanh()]
            inputs = width
        super().__init__(*layers, nn.Linear(inputs, 1))
        self.learning_rate_factor = learning_rate_factor
