"""What a bag classifier says of a batch of bags, cell by cell so that it can be explained.

Shapes: B bags, N cells in the longest bag.
"""

from typing import NamedTuple

from torch import Tensor


class BagOutput(NamedTuple):
    """probability_B: of being tumoral; weight_BN: share of each cell, 0 on padding, sums to 1 a bag;
    cell_probability_BN: each cell's own probability, None where the model judges whole bags only."""

    probability_B: Tensor
    weight_BN: Tensor
    cell_probability_BN: Tensor | None = None


def equal_weights(mask_BN: Tensor) -> Tensor:
    """Return 1/n for each real cell of a bag of n, float32."""
    return mask_BN / mask_BN.sum(dim=1, keepdim=True)
