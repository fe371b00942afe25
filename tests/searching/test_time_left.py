"""The time left of a search: a range that holds the truth, and narrows."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lymphtune.registry import stopping_rules
from lymphtune.searching.record import Record
from lymphtune.searching.stopping import Options
from lymphtune.searching.time_left import KNOWN_AFTER, TimeLeft, time_left

EPOCHS = 10


def record(number: int, epoch_s: float = 0.0, epochs: int = 0, ended: bool = False) -> Record:
    trial: Any = SimpleNamespace(number=number, epochs=EPOCHS)
    status = "ended" if ended else "running" if epochs else "waiting"
    return Record(trial, curves=[{"seconds": epoch_s}] * epochs, status=status)


def left(
    records: list[Record], slots: int = 1, rules: Any = (), overhead: float = 1.0, count: int = 0
) -> TimeLeft | None:
    plan: Any = SimpleNamespace(count=count or len(records), epochs=EPOCHS, rules=lambda: rules)
    return time_left(plan, {r.trial.number: r for r in records}, slots, overhead)


def test_nothing_is_known_before_a_network_has_ended_an_epoch() -> None:
    assert left([record(0), record(1)]) is None
    assert left([record(-1, 0.1, 1, ended=True), record(0)]) is None  # a baseline says nothing of networks


def test_nothing_is_left_when_all_have_ended() -> None:
    assert left([record(0, 1.0, EPOCHS, ended=True)]) is None


def test_the_first_guess_is_wide_and_says_when_it_will_be_better() -> None:
    quick_first = [record(0, 1.0, 1), *[record(n) for n in range(1, 20)]]
    found = left(quick_first)
    assert found is not None and found.known_after == KNOWN_AFTER
    assert found.high_s > 3 * found.low_s
    assert str(found).endswith("left (a first guess until 3 more trials end)")


@pytest.mark.parametrize("slots", [1, 4])
def test_the_range_holds_the_truth_for_trials_of_mixed_cost(slots: int) -> None:
    held, narrow = 0, []
    for seed in range(100):
        costs = np.random.default_rng(seed).lognormal(0, 0.7, 60)
        records = [record(n, cost, EPOCHS, ended=True) for n, cost in enumerate(costs[:20])]
        records += [record(n) for n in range(20, 60)]
        found = left(records, slots)
        assert found is not None and found.known_after == 0
        held += found.low_s <= costs[20:].sum() * EPOCHS / slots <= found.high_s
        narrow.append(found.high_s / found.low_s)
    assert held >= 85 and np.median(narrow) < 3


def test_early_stopping_lowers_only_the_lower_end() -> None:
    records = [*[record(n, 1.0, EPOCHS, ended=True) for n in range(4)], *[record(n) for n in range(4, 10)]]
    halving = stopping_rules["asha"].build(Options(grace=1, reduction=2))
    free, stopping = left(records), left(records, rules=[halving])
    assert free is not None and stopping is not None
    assert stopping.low_s < free.low_s and stopping.high_s == free.high_s == pytest.approx(60)


def test_trials_that_are_proposed_later_count() -> None:
    records = [record(n, 1.0, EPOCHS, ended=True) for n in range(4)]
    found = left(records, count=10)
    assert found is not None and found.high_s == pytest.approx(60)


def test_the_last_trial_is_not_shared_among_workers() -> None:
    records = [*[record(n, 1.0, EPOCHS, ended=True) for n in range(4)], record(4, 1.0, 1)]
    found = left(records, slots=4)
    assert found is not None and found.high_s == pytest.approx(9)


def test_a_time_budget_cuts_the_range() -> None:
    assert TimeLeft(72_000, 136_800).within(1_800) == TimeLeft(1_800, 1_800)
    assert TimeLeft(60, 600).within(math.inf) == TimeLeft(60, 600)
    assert TimeLeft(60, 600).within(-3) == TimeLeft(0, 0)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (TimeLeft(60, 180), "1 min 00 s to 3 min 00 s left"),
        (TimeLeft(60.2, 60.4), "about 1 min 00 s left"),
        (TimeLeft(1, 2, 1), "1 s to 2 s left (a first guess until 1 more trial ends)"),
    ],
)
def test_the_range_in_words(given: TimeLeft, text: str) -> None:
    assert str(given) == text
