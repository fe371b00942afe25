"""Early stopping in order: the same stops whoever is quicker, and whoever comes after."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lymphtune.searching.rungs import Rungs, smoothed

EPOCHS = 9
RUNGS = (1, 3, 6)
Scores = list[list[float]]  # of each trial at each of its epochs; fewer than EPOCHS: it failed there


def raced(scores: Scores, turns: Sequence[int], reduction: int, stop_at_once: bool = True) -> Rungs:
    """Return the rungs after all trials have said their scores, `turns` naming who speaks next.

    A trial told to stop says no more; not `stop_at_once`: word reaches it only when it has ended.
    """
    rungs = Rungs(RUNGS, len(scores), reduction)
    said = [0] * len(scores)
    ended: set[int] = set()
    for turn in [*turns, *(trial for trial in range(len(scores)) for _ in range(EPOCHS + 1))]:
        trial = turn % len(scores)
        if trial in ended:
            continue
        stopped = stop_at_once and trial in rungs.stopped_at
        if stopped or said[trial] == len(scores[trial]):
            ended.add(trial)
            rungs.end(trial)
        else:
            said[trial] += 1
            rungs.reach(trial, said[trial], scores[trial][said[trial] - 1])
    assert len(ended) == len(scores)
    return rungs


def by_definition(scores: Scores, reduction: int) -> dict[int, int]:
    """Return who is stopped where, written down as the rule reads."""
    stopped: dict[int, int] = {}
    for rung in RUNGS:
        here: list[float] = []
        for trial, curve in enumerate(scores):
            if trial in stopped or len(curve) < rung:
                continue
            here.append(curve[rung - 1])
            if sum(other < here[-1] for other in here) >= math.ceil(len(here) / reduction):
                stopped[trial] = rung
    return stopped


LEVEL = st.sampled_from([0.2, 0.4, 0.4, 0.6]) | st.floats(0, 2, allow_nan=False)
CURVES = st.lists(
    st.one_of(st.lists(LEVEL, min_size=EPOCHS, max_size=EPOCHS), st.lists(LEVEL, max_size=EPOCHS - 1)),
    min_size=1,
    max_size=9,
)
TURNS = st.lists(st.integers(0, 8), max_size=80)
REDUCTION = st.integers(2, 4)


@settings(deadline=None, max_examples=400)
@given(CURVES, TURNS, TURNS, REDUCTION, st.booleans())
def test_the_order_of_reports_decides_nothing(
    scores: Scores, turns: list[int], others: list[int], reduction: int, stop_at_once: bool
) -> None:
    expected = by_definition(scores, reduction)
    assert raced(scores, turns, reduction).stopped_at == expected
    assert raced(scores, others, reduction, stop_at_once).stopped_at == expected


@settings(deadline=None, max_examples=150)
@given(CURVES, CURVES, TURNS, REDUCTION)
def test_later_trials_change_no_earlier_fate(scores: Scores, more: Scores, turns: list[int], reduction: int) -> None:
    before = raced(scores, turns, reduction).stopped_at
    after = raced(scores + more, turns, reduction).stopped_at
    assert {trial: epoch for trial, epoch in after.items() if trial < len(scores)} == before


@settings(deadline=None, max_examples=150)
@given(CURVES, TURNS, REDUCTION)
def test_every_fate_is_decided_at_the_end_and_the_first_trial_passes(
    scores: Scores, turns: list[int], reduction: int
) -> None:
    rungs = raced(scores, turns, reduction)
    assert all(rungs.decided(trial) for trial in range(len(scores)))
    assert 0 not in rungs.stopped_at
    assert set(rungs.stopped_at.values()) <= set(RUNGS)


@settings(deadline=None, max_examples=150)
@given(CURVES, TURNS, REDUCTION)
def test_what_is_decided_stays(scores: Scores, turns: list[int], reduction: int) -> None:
    rungs = Rungs(RUNGS, len(scores), reduction)
    said = [0] * len(scores)
    fates: dict[int, int | None] = {}
    for trial in [turn % len(scores) for turn in turns]:
        if said[trial] < len(scores[trial]):
            said[trial] += 1
            rungs.reach(trial, said[trial], scores[trial][said[trial] - 1])
        else:
            rungs.end(trial)
        for number, fate in fates.items():
            assert rungs.decided(number) and rungs.stopped_at.get(number) == fate
        fates |= {n: rungs.stopped_at.get(n) for n in range(len(scores)) if rungs.decided(n)}


def test_a_stopped_trial_does_not_count_at_later_rungs() -> None:
    """Trial 1 falls at epoch 1, trains on unaware and shines at epoch 3: trial 2 is not measured by that."""
    rungs = Rungs((1, 3), 3, 2)
    for epoch in (1, 2, 3):
        rungs.reach(1, epoch, 9.0 if epoch == 1 else 0.0)
        rungs.reach(2, epoch, 0.1)
    assert rungs.stopped_at == {} and not rungs.decided(1)
    for epoch in (1, 2, 3):
        rungs.reach(0, epoch, 0.2)
    assert rungs.stopped_at == {1: 1}
    assert [rungs.decided(trial) for trial in range(3)] == [True, True, True]


def test_a_trial_waits_for_slower_ones_before_it_only() -> None:
    rungs = Rungs((1,), 3, 2)
    rungs.reach(0, 1, 0.2)
    assert rungs.decided(0)
    rungs.reach(2, 1, 0.3)
    assert not rungs.decided(2) and 2 not in rungs.stopped_at
    rungs.end(1)  # failed before the rung
    assert rungs.decided(2) and rungs.stopped_at == {2: 1}


def test_equal_scores_pass_together() -> None:
    rungs = Rungs((1,), 4, 3)
    for trial in range(4):
        rungs.reach(trial, 1, 0.5)
    assert rungs.stopped_at == {}


def test_the_first_report_of_a_rung_counts() -> None:
    """A trial that is tried again says its epochs a second time."""
    rungs = Rungs((1,), 2, 2)
    rungs.reach(1, 1, 0.9)
    rungs.reach(1, 1, 0.0)
    rungs.reach(0, 1, 0.5)
    assert rungs.stopped_at == {1: 1}
    rungs.reach(0, 1, 9.0)
    assert rungs.stopped_at == {1: 1}


def test_without_rungs_nobody_is_stopped() -> None:
    rungs = Rungs((), 2, 3)
    rungs.reach(1, 1, 5.0)
    assert rungs.stopped_at == {} and rungs.decided(0) and rungs.decided(1)


def test_one_in_three_goes_on() -> None:
    falling = [[1 - 0.01 * trial] * EPOCHS for trial in range(9)]
    assert raced(falling, [], 3).stopped_at == {}  # each better than all before it
    rising = [[0.1 * trial] * EPOCHS for trial in range(9)]
    assert raced(rising, [], 3).stopped_at == dict.fromkeys(range(1, 9), 1)


def test_scores_are_smoothed_over_three_epochs() -> None:
    assert smoothed([0.9]) == 0.9
    assert smoothed([0.9, 0.6, 0.3, 0.0]) == pytest.approx(0.3)
