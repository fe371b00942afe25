"""The median stopping rule: the worse half is stopped, and looked at often."""

from bisect import insort
from collections import defaultdict

from lymphtune.registry import stopping_rules
from lymphtune.searching.stopping import Options, Rule, RungScores

FEWEST = 4  # earlier trials without whom nobody is stopped


@stopping_rules.register("median", Options)
class Median(Rule):
    """A trial is stopped that is worse than the median of the earlier ones at the same epoch.

    Source: the median stopping rule of Golovin et al. 2017 (Google Vizier), which takes the trial's best score and the
    others' means since their beginning; here both are the smoothed score at the rung.
    """

    goes_on = 0.75  # half at the first rung, most at the later ones: fits benchmarks/stopping.py

    def __init__(self, options: Options) -> None:
        self.grace = options.grace
        self._ranked: defaultdict[int, list[float]] = defaultdict(list)

    def epochs(self, last: int) -> list[int]:
        """Return every multiple of grace."""
        return list(range(self.grace, last, self.grace))

    def should_stop(self, epoch: int, standing: RungScores) -> str:
        ranked, n = self._ranked[epoch], len(self._ranked[epoch])
        worse = n >= FEWEST and standing.score > (ranked[(n - 1) // 2] + ranked[n // 2]) / 2
        insort(ranked, standing.score)
        return "worse than the median" if worse else ""
