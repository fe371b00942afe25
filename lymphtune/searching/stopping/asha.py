"""Successive halving: the best 1/reduction of the trials continue at each rung, and rungs grow further apart."""

import math
from bisect import bisect_left
from collections import defaultdict

from lymphtune.registry import stopping_rules
from lymphtune.searching.stopping import Options, Rule, RungScores


@stopping_rules.register("asha", Options)
class Halving(Rule):
    """A trial continues if it is in the best 1/reduction of the trials up to it; the first one always does.

    Source: the stopping rule of asynchronous successive halving, Li et al. 2020, algorithm 2
    (arXiv:1810.05934), with the trials taken in order.
    """

    def __init__(self, options: Options) -> None:
        self.grace, self.reduction = options.grace, options.reduction
        self.goes_on = 1 / options.reduction
        self._ranked: defaultdict[int, list[float]] = defaultdict(list)

    def epochs(self, last: int) -> list[int]:
        """Return grace, times reduction, times reduction again."""
        found, rung = [], self.grace
        while rung < last:
            found.append(rung)
            rung *= self.reduction
        return found

    def should_stop(self, epoch: int, standing: RungScores) -> str:
        ranked = self._ranked[epoch]
        better = bisect_left(ranked, standing.score)
        ranked.insert(better, standing.score)
        return f"not in the best 1/{self.reduction}" if better >= math.ceil(len(ranked) / self.reduction) else ""
