"""A rise to the learning rate in the first part of the training, then a fall to zero."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from lymphtune.registry import schedules


@dataclass(frozen=True, kw_only=True)
class Config:
    rising: Annotated[float, Field(gt=0, lt=1)] = 0.3  # fraction of all steps


@schedules.register("one_cycle", Config)
def one_cycle(optimiser: Optimizer, steps_per_epoch: int, epochs: int, config: Config) -> LRScheduler:
    """Source: Smith and Topin 2019 (arXiv:1708.07120); the momentum does not change."""
    highest = [group["lr"] for group in optimiser.param_groups]
    total = steps_per_epoch * epochs + 1
    rising = max(config.rising, 1.5 / total)  # torch divides by the number of rising steps minus one
    return OneCycleLR(optimiser, highest, total_steps=total, pct_start=rising, cycle_momentum=False)
