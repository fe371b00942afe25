"""The study's steps: a tenth of the learning rate after 10 epochs, a hundredth after 50."""

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR

from lymphtune.registry import schedules


@dataclass(frozen=True, kw_only=True)
class Config:
    after_epochs: list[Annotated[int, Field(ge=1)]] = field(default_factory=lambda: [10, 50])
    factor: Annotated[float, Field(gt=0, le=1)] = 0.1


@schedules.register("study_step", Config)
def study_step(optimiser: Optimizer, steps_per_epoch: int, epochs: int, config: Config) -> LRScheduler:
    """Source: Dessaint and Dalla-torre 2021, section 3.1 (5e-4, 5e-5, 5e-6)."""
    return MultiStepLR(optimiser, [epoch * steps_per_epoch for epoch in config.after_epochs], config.factor)
