"""Stopping rules: why a trial that reached a rung is to be stopped there.

A rule says at which epochs it decides, and is then asked about one trial after the other *in the order of their
numbers*, once for each that reached the rung and was not stopped at one before. What it remembers of the earlier ones
is its own; later ones it never sees. A scheduler (`asha`, `median`, `none`) is a rule that a word of the command line
names, built with (options); `racing` goes beside any of them. P patients that were held out.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every scheduler is built with, whether it needs it or not."""

    grace: int = 3  # epochs before the first rung
    reduction: int = 3  # the best 1/reduction continues


@dataclass(frozen=True)
class RungScores:
    """A trial at a rung; score and losses are log losses, means over the last epochs, lower is better.

    The score is the mean of the two classes' means of losses_P.
    """

    score: float
    trial: str = ""  # as a reason names it
    losses_P: np.ndarray = field(default_factory=lambda: np.empty(0))
    labels_P: np.ndarray = field(default_factory=lambda: np.empty(0))
    folds_P: np.ndarray = field(default_factory=lambda: np.empty(0))


class Rule(ABC):
    """Why trials are stopped; asked in the order of their numbers."""

    goes_on = 1.0  # share of the trials at a rung that a dry run takes to pass it

    @abstractmethod
    def epochs(self, last: int) -> list[int]:
        """Return the epochs before the last at which the rule decides; a larger `last` only adds to them."""

    @abstractmethod
    def should_stop(self, epoch: int, standing: RungScores) -> str:
        """Return why the trial is stopped at this epoch, "" if it continues; remember it for those that follow."""
