"""A linear rise to the learning rate, then half a cosine down to zero."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from lymphtune.registry import schedules


@dataclass(frozen=True, kw_only=True)
class Config:
    warmup: Annotated[float, Field(gt=0, lt=1)] = 0.1  # fraction of all steps


@schedules.register("warmup_cosine", Config)
def warmup_cosine(optimiser: Optimizer, steps_per_epoch: int, epochs: int, config: Config) -> LRScheduler:
    """Source: Goyal et al. 2017, section 2.2 (arXiv:1706.02677); Loshchilov and Hutter 2017, eq. 5."""
    total = steps_per_epoch * epochs
    climb = max(1, round(config.warmup * total))
    rise = LinearLR(optimiser, start_factor=1 / (climb + 1), total_iters=climb)
    fall = CosineAnnealingLR(optimiser, T_max=max(1, total - climb))
    return SequentialLR(optimiser, [rise, fall], milestones=[climb])
