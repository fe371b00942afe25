"""The same learning rate throughout."""

from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler

from lymphtune.registry import schedules


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


@schedules.register("constant", Config)
def constant(optimiser: Optimizer, steps_per_epoch: int, epochs: int, config: Config) -> LRScheduler:
    return ConstantLR(optimiser, factor=1.0)
