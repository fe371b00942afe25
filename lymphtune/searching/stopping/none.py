"""No scheduler: every trial is trained to its end."""

from lymphtune.registry import stopping_rules
from lymphtune.searching.stopping import Options, Rule, RungScores


@stopping_rules.register("none", Options)
class NoStopping(Rule):
    """Stops no trial; it has no source."""

    def __init__(self, options: Options) -> None:
        pass

    def epochs(self, last: int) -> list[int]:
        return []

    def should_stop(self, epoch: int, standing: RungScores) -> str:
        return ""
