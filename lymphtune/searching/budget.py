"""The time budget of a command: counted from its start, with a part kept back for stopping, writing and the report."""

import time
from collections.abc import Callable

from lymphtune.platforms import process_age_s

STOPPING_S = 8.0  # to end the workers, stop Ray and write what is left
MOST_STOPPING = 0.2  # of the budget at most is kept back for that
REPORT_S = 20.0  # kept back for the last report
MOST_REPORT = 0.25  # of the budget at most is kept back for the report
LONGEST_START_S = 300.0  # a process that is older was not started for this search


def process_started() -> float:
    """Return when this process started, by time.monotonic; now where the system does not tell."""
    now, age = time.monotonic(), process_age_s()
    return now - age if age is not None and 0 <= age <= LONGEST_START_S else now


class Budget:
    """What is left of a command's time; without a budget, always infinite.

    started: when the command started, by `clock`. report: whether a report is written at the end.
    """

    def __init__(
        self, total_s: float | None, started: float, report: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total_s, self.started, self.clock = total_s, started, clock
        self.report_s = REPORT_S if report else 0.0
        self.start_up_s = 0.0  # of Ray; stopping it on a busy machine takes longer as well

    @property
    def reserve_s(self) -> float:
        """Return the seconds kept back from the trials for what follows them."""
        if self.total_s is None:
            return 0.0
        stopping = min(max(STOPPING_S, self.start_up_s), MOST_STOPPING * self.total_s)
        return stopping + min(self.report_s, MOST_REPORT * self.total_s)

    @property
    def spent_s(self) -> float:
        return self.clock() - self.started

    @property
    def left_s(self) -> float:
        """Return the seconds until the command is to have ended."""
        return float("inf") if self.total_s is None else self.total_s - self.spent_s

    @property
    def over(self) -> bool:
        """Return whether the trials' part of the budget is spent."""
        return self.total_s is not None and self.left_s <= self.reserve_s
