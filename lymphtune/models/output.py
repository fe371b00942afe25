"""The output of a bag classifier for a batch of bags, with weights and probabilities of cells as explanation.

Shapes: B bags, N cells in the longest bag, D features, X experts.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class BagOutput(NamedTuple):
    """Probabilities of bags and what they consist of.

    probability_B: of being tumoral; weight_BN: weight of each cell, 0 on padding, sums to 1 over a bag;
    cell_probability_BN: each cell's own probability, None for an aggregator that scores whole bags only;
    expert_probability_XB: of the pictures' expert and the attributes' expert, None for a model without experts;
    gate_B: weight of the pictures' expert, None where it is not learned;
    expert_loss: weight of the mean of the experts' losses; the loss of probability_B has weight 1 - expert_loss.
    """

    probability_B: Tensor
    weight_BN: Tensor
    cell_probability_BN: Tensor | None = None
    expert_probability_XB: Tensor | None = None
    gate_B: Tensor | None = None
    expert_loss: float = 0.0


def equal_weights(mask_BN: Tensor) -> Tensor:
    """Return 1/n for each real cell of a bag of n, float32."""
    return mask_BN / mask_BN.sum(dim=1, keepdim=True)


def each_cell(head: Callable[[Tensor], Tensor], cells_BND: Tensor, mask_BN: Tensor) -> Tensor:
    """Return the head's probability of each cell [B, N], float32, 0 on padding."""
    # Counting the real cells would synchronise with a GPU, and an exported graph has no branches.
    if torch.compiler.is_exporting() or mask_BN.device.type != "cpu" or mask_BN.all():
        return head(cells_BND).float().sigmoid() * mask_BN
    probability_M = head(cells_BND[mask_BN]).float().sigmoid()
    return probability_M.new_zeros(mask_BN.shape).masked_scatter(mask_BN, probability_M)


def weighted_sum(weight_BN: Tensor, cells_BND: Tensor) -> Tensor:
    """Return the weighted sum of each bag's cells [B, D]."""
    return (weight_BN.to(cells_BND.dtype)[:, None] @ cells_BND).squeeze(1)
