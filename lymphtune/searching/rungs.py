"""Who is stopped early: successive halving in the order of the trials' numbers, so that it always comes out the same.

A trial that reaches a rung goes on if it stands in the best 1/reduction of the trials with numbers up to its own
that reached that rung. Trials with higher numbers never matter, however fast they are: the decision is a function
of the scores alone, not of which worker was quicker. It falls when the earlier trials have reached the rung or
ended; until then the trial trains on, and if it is then stopped, what came after the rung is discarded.
"""

import math
from collections.abc import Sequence

SMOOTHED_EPOCHS = 3  # a score is the mean over this many epochs


def smoothed(scores: Sequence[float]) -> float:
    """Return the mean of the last epochs' scores (lower is better)."""
    last = scores[-SMOOTHED_EPOCHS:]
    return sum(last) / len(last)


class Rungs:
    """Scores at the rungs, and the stops that follow from them.

    Source: the stopping rule of asynchronous successive halving, Li et al. 2020, algorithm 2
    (arXiv:1810.05934), with the trials taken in order.
    """

    def __init__(self, epochs: Sequence[int], n_trials: int, reduction: int) -> None:
        self.epochs, self.n_trials, self.reduction = list(epochs), n_trials, reduction
        self.stopped_at: dict[int, int] = {}  # number -> epoch of the rung at which it was stopped
        self._scores: list[dict[int, float]] = [{} for _ in self.epochs]
        self._ranked: list[list[float]] = [[] for _ in self.epochs]  # scores of the trials decided so far
        self._next = [0] * len(self.epochs)  # the first number not decided yet
        self._ended: set[int] = set()

    def reach(self, number: int, epoch: int, score: float) -> None:
        """Note a trial's smoothed score if the epoch is a rung."""
        if epoch in self.epochs:
            self._scores[self.epochs.index(epoch)].setdefault(number, score)
            self._decide()

    def end(self, number: int) -> None:
        """Note that the trial will report no more."""
        self._ended.add(number)
        self._decide()

    def decided(self, number: int) -> bool:
        """Return whether no later report of any trial can change this trial's fate."""
        return number in self.stopped_at or all(number < following for following in self._next)

    def _decide(self) -> None:
        for rung in range(len(self.epochs)):
            while self._next[rung] < self.n_trials and self._decide_one(rung, self._next[rung]):
                self._next[rung] += 1

    def _decide_one(self, rung: int, number: int) -> bool:
        """Decide one trial at one rung if that can be done now."""
        if self.stopped_at.get(number, math.inf) < self.epochs[rung]:
            return True
        if rung and number >= self._next[rung - 1]:
            return False
        score = self._scores[rung].get(number)
        if score is None:
            return number in self._ended
        ranked = self._ranked[rung]
        ranked.append(score)
        better = sum(other < score for other in ranked)
        if better >= math.ceil(len(ranked) / self.reduction):
            self.stopped_at[number] = self.epochs[rung]
        return True
