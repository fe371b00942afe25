"""No scheduler: every trial is trained to its end."""

from lymphtune.registry import stopping_rules
from lymphtune.searching.stopping import Options, Rule, Standing


@stopping_rules.register("none", Options)
class Nobody(Rule):
    """Stops no trial; it has no source."""

    def __init__(self, options: Options) -> None:
        pass

    def epochs(self, last: int) -> list[int]:
        return []

    def judge(self, epoch: int, standing: Standing) -> str:
        return ""
