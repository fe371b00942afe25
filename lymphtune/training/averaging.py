"""An exponential moving average of a network's weights, used for prediction: steadier than the weights of one step."""

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class MovingAverage(Generic[Network]):
    """An averaged copy of `live`; the decay grows with the number of steps, so that a short training does not lag."""

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
        torch._foreach_lerp_([average for average, _ in self.floats], [new for _, new in self.floats], 1 - decay)
        for average, new in self.others:
            average.copy_(new)
