"""The time that a search still takes, as a range, from what the trials seen so far took.

The range is wide while it rests on few trials, and says so: quick trials report first, so the first of them say little.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lymphtune import console
from lymphtune.searching.plan import Plan
from lymphtune.searching.record import Record
from lymphtune.searching.rungs import deciding

KNOWN_AFTER = 3  # trials that ended: at least so many, and KNOWN_SHARE of all
KNOWN_SHARE = 0.05
STANDARD_ERRORS = 2.0  # on both sides of the mean cost of the trials not yet seen
FIRST_FACTOR = 4.0  # of a first guess: between the quickest and this multiple of the slowest trial seen
MOST_OVERHEAD = 2.0  # waiting and start-up beside training, as a multiple of the training time


class TimeLeft(NamedTuple):
    """Seconds that are left, at least and at most; known_after: trials to end until this is more than a guess."""

    low_s: float
    high_s: float
    known_after: int = 0

    def __str__(self) -> str:
        low, high = console.duration(self.low_s), console.duration(self.high_s)
        text = f"about {low}" if low == high else f"{low} to {high}"
        trials = f"{console.counted(self.known_after, 'more trial')}"
        end = "ends" if self.known_after == 1 else "end"
        return f"{text} left" + (f" (a first guess until {trials} {end})" if self.known_after else "")

    def within(self, limit_s: float) -> "TimeLeft":
        """Return the range, cut where a time budget ends."""
        limit_s = max(limit_s, 0.0)
        return TimeLeft(min(self.low_s, limit_s), min(self.high_s, limit_s), self.known_after)


def time_left(plan: Plan, records: Mapping[int, Record], slots: int, overhead: float = 1.0) -> TimeLeft | None:
    """Return the time left for the networks, None before one of them has ended an epoch, and when all have ended.

    slots: trials at once. overhead: wall time of the workers over their training time.
    """
    networks = [record for record in records.values() if record.trial.number >= 0]
    seen = [record.epoch_s for record in networks if record.epochs]
    going = [record for record in networks if not record.is_over]
    proposed_later = plan.count - len(networks)
    if not seen or not (going or proposed_later):
        return None
    ended = len(networks) - len(going)
    missing = min(max(KNOWN_AFTER, math.ceil(KNOWN_SHARE * plan.count)), plan.count) - ended
    low_epoch_s, high_epoch_s = _epoch_range(seen, len(going) + proposed_later, first=missing > 0)
    low, high = _work(going, low_epoch_s), _work(going, high_epoch_s)
    share, later = share_trained(plan), proposed_later * plan.epochs
    low_s = (sum(low) + later * low_epoch_s) * share / slots
    high_s = max((sum(high) + later * high_epoch_s) / slots, max(high, default=0.0))  # the last trial runs alone
    return TimeLeft(low_s, high_s * min(max(overhead, 1.0), MOST_OVERHEAD), max(missing, 0))


def _work(going: Sequence[Record], epoch_s: float) -> list[float]:
    """Return the seconds that each trial still trains if none is stopped; one not heard of costs `epoch_s` an epoch."""
    return [(record.trial.epochs - record.epochs) * (record.epoch_s if record.epochs else epoch_s) for record in going]


def _epoch_range(epoch_s: Sequence[float], unseen: int, first: bool) -> tuple[float, float]:
    """Return the mean seconds of an epoch of so many trials not yet seen, at least and at most."""
    if first or len(epoch_s) < 2:
        return min(epoch_s), FIRST_FACTOR * max(epoch_s)
    margin = STANDARD_ERRORS * float(np.std(epoch_s, ddof=1)) * math.sqrt(1 / len(epoch_s) + 1 / unseen)
    mean = float(np.mean(epoch_s))
    return max(mean - margin, min(epoch_s)), mean + margin


def share_trained(plan: Plan) -> float:
    """Return the fraction of all epochs that is trained if every rule stops as many trials as expected.

    Exact for asha where trials come in random order; an estimate for median and racing (see their `goes_on`).
    """
    going, trained, since = 1.0, 0.0, 0
    for epoch, rules in deciding(plan.rules(), plan.epochs).items():
        trained, since = trained + going * (epoch - since), epoch
        going *= math.prod(rule.goes_on for rule in rules)
    return (trained + going * (plan.epochs - since)) / plan.epochs
