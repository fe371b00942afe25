"""Half a cosine from the learning rate down to zero."""

from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from lymphtune.registry import schedules


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


@schedules.register("cosine", Config)
def cosine(optimiser: Optimizer, steps_per_epoch: int, epochs: int, config: Config) -> LRScheduler:
    """Source: Loshchilov and Hutter 2017, eq. 5, without restarts (arXiv:1608.03983)."""
    return CosineAnnealingLR(optimiser, T_max=steps_per_epoch * epochs)
