"""An exponential moving average of a network's weights: what is evaluated and kept, steadier than any one step."""

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class MovingAverage(Generic[Network]):
    """A copy of `live` that follows it; early steps are forgotten faster, so a short training is not held back."""

    def __init__(self, live: Network, decay: float) -> None:
        self.model = copy.deepcopy(live).eval().requires_grad_(False)
        self.decay, self.steps = decay, 0
        pairs = list(zip(self.model.state_dict().values(), live.state_dict().values(), strict=True))
        self.floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self.others = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the live weights and batch statistics by one step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_([kept for kept, _ in self.floats], [new for _, new in self.floats], 1 - decay)
        for kept, new in self.others:
            kept.copy_(new)
