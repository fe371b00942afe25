"""Early stopping in order: the same stops whoever is quicker, and whoever comes after."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lymphtune.registry import stopping_rules
from lymphtune.searching.racing import LEVEL as RACING_LEVEL
from lymphtune.searching.racing import Racing, p_worse, worst_fold
from lymphtune.searching.rungs import Rungs, deciding, smoothed, standing
from lymphtune.searching.stopping import Options, Rule, RungScores
from lymphtune.statistics.metrics import balanced_log_loss

EPOCHS = 9  # of a trial that is not stopped, the last not a rung
LABELS_P, FOLDS_P = np.repeat([0, 1], 12), np.arange(24) % 3
Scores = list[list[float]]  # of each trial at each of its epochs; fewer than EPOCHS: it failed there


def rules_of(words: str, reduction: int = 2) -> list[Rule]:
    """Return fresh rules: `median+racing` is one beside the other. All of them decide from epoch 1 on."""
    options = Options(grace=1, reduction=reduction)
    return [Racing(options) if word == "racing" else stopping_rules[word].build(options) for word in words.split("+")]


EVERY = st.sampled_from([*stopping_rules.words(), "racing", *(f"{word}+racing" for word in stopping_rules.words())])


def at(trial: int, epoch: int, score: float) -> RungScores:
    """Return a standing of that score whose patients scatter round it, each trial's and epoch's in its own way."""
    scatter = 0.2 * np.random.default_rng([trial, epoch]).standard_normal((2, 12))  # of the two classes
    losses_P = score + (scatter - scatter.mean(axis=1, keepdims=True)).ravel()
    return RungScores(score, str(trial), losses_P, LABELS_P, FOLDS_P)


def raced(
    scores: Scores, turns: Sequence[int], rules: list[Rule], stop_at_once: bool = True, last: int = EPOCHS
) -> Rungs:
    """Return the rungs after all trials have said their scores, `turns` naming who speaks next.

    A trial told to stop says no more; not `stop_at_once`: word reaches it only when it has ended.
    """
    rungs = Rungs(rules, last, len(scores))
    said = [0] * len(scores)
    ended: set[int] = set()
    for turn in [*turns, *(trial for trial in range(len(scores)) for _ in range(EPOCHS + 1))]:
        trial = turn % len(scores)
        if trial in ended:
            continue
        stopped = stop_at_once and trial in rungs.stopped_at
        if stopped or said[trial] == len(scores[trial][:last]):
            ended.add(trial)
            rungs.end(trial)
        else:
            said[trial] += 1
            rungs.reach(trial, said[trial], at(trial, said[trial], scores[trial][said[trial] - 1]))
    assert len(ended) == len(scores)
    return rungs


def by_definition(scores: Scores, words: str, reduction: int) -> dict[int, int]:
    """Return who is stopped where, written down as the rules read."""
    stopped: dict[int, int] = {}
    for epoch in range(1, EPOCHS):
        here: list[RungScores] = []
        for trial, curve in enumerate(scores):
            if trial in stopped or len(curve) < epoch:
                continue
            one = at(trial, epoch, curve[epoch - 1])
            if any(DEFINITIONS[word](one, here, epoch, reduction) for word in words.split("+")):
                stopped[trial] = epoch
            here.append(one)
    return stopped


def halved(one: RungScores, here: list[RungScores], epoch: int, reduction: int) -> bool:
    rung = any(epoch == reduction**power for power in range(EPOCHS))
    return rung and sum(other.score < one.score for other in here) >= math.ceil((len(here) + 1) / reduction)


def below_the_median(one: RungScores, here: list[RungScores], epoch: int, reduction: int) -> bool:
    return len(here) >= 4 and one.score > statistics.median(other.score for other in here)


def outraced(one: RungScores, here: list[RungScores], epoch: int, reduction: int) -> bool:
    if not here:
        return False
    best = min(here, key=lambda other: other.score)
    worst = max(float(best.losses_P[fold::3].mean()) for fold in range(3))  # folds are stratified: plain means
    return one.score > worst and p_worse(one.losses_P - best.losses_P, LABELS_P) < RACING_LEVEL


DEFINITIONS = {"asha": halved, "median": below_the_median, "racing": outraced, "none": lambda *_: False}

LEVEL = st.sampled_from([0.2, 0.4, 0.4, 0.6]) | st.floats(0, 2, allow_nan=False)
CURVES = st.lists(
    st.one_of(st.lists(LEVEL, min_size=EPOCHS, max_size=EPOCHS), st.lists(LEVEL, max_size=EPOCHS - 1)),
    min_size=1,
    max_size=9,
)
TURNS = st.lists(st.integers(0, 8), max_size=80)
REDUCTION = st.integers(2, 4)


@settings(deadline=None, max_examples=600)
@given(CURVES, TURNS, TURNS, EVERY, REDUCTION, st.booleans())
def test_the_order_of_reports_decides_nothing(
    scores: Scores, turns: list[int], others: list[int], words: str, reduction: int, stop_at_once: bool
) -> None:
    expected = by_definition(scores, words, reduction)
    one = raced(scores, turns, rules_of(words, reduction))
    other = raced(scores, others, rules_of(words, reduction), stop_at_once)
    assert one.stopped_at == other.stopped_at == expected
    assert one.reason == other.reason and one.reason.keys() == expected.keys()


@settings(deadline=None, max_examples=200)
@given(CURVES, CURVES, TURNS, EVERY)
def test_later_trials_change_no_earlier_fate(scores: Scores, more: Scores, turns: list[int], words: str) -> None:
    before = raced(scores, turns, rules_of(words)).stopped_at
    after = raced(scores + more, turns, rules_of(words)).stopped_at
    assert {trial: epoch for trial, epoch in after.items() if trial < len(scores)} == before


@settings(deadline=None, max_examples=200)
@given(CURVES, TURNS, EVERY, st.integers(1, EPOCHS - 1))
def test_more_epochs_change_no_decision_before_them(scores: Scores, turns: list[int], words: str, shorter: int) -> None:
    """A search of fewer epochs decides at the rungs that both have as the longer one does."""
    longer, short = (raced(scores, turns, rules_of(words), last=last) for last in (EPOCHS, shorter))
    assert longer.epochs[: len(short.epochs)] == short.epochs
    assert {trial: epoch for trial, epoch in longer.stopped_at.items() if epoch < shorter} == short.stopped_at


@settings(deadline=None, max_examples=200)
@given(CURVES, TURNS, EVERY)
def test_every_fate_is_decided_at_the_end_and_the_first_trial_passes(
    scores: Scores, turns: list[int], words: str
) -> None:
    rungs = raced(scores, turns, rules_of(words))
    assert all(rungs.decided(trial) for trial in range(len(scores)))
    assert 0 not in rungs.stopped_at
    assert set(rungs.stopped_at.values()) <= set(rungs.epochs)
    assert not any(rungs._waiting)  # nothing of a decided trial is kept here


@settings(deadline=None, max_examples=200)
@given(CURVES, TURNS, EVERY)
def test_what_is_decided_stays(scores: Scores, turns: list[int], words: str) -> None:
    rungs = Rungs(rules_of(words), EPOCHS, len(scores))
    said = [0] * len(scores)
    fates: dict[int, int | None] = {}
    known = {number for number in range(len(scores)) if rungs.decided(number)}  # all of them where there is no rung
    for trial in [turn % len(scores) for turn in turns]:
        if said[trial] < len(scores[trial]):
            said[trial] += 1
            rungs.reach(trial, said[trial], at(trial, said[trial], scores[trial][said[trial] - 1]))
        else:
            rungs.end(trial)
        for number, fate in fates.items():
            assert rungs.decided(number) and rungs.stopped_at.get(number) == fate
        fates |= {n: rungs.stopped_at.get(n) for n in range(len(scores)) if rungs.decided(n)}
        known |= rungs.newly_decided()
        assert known == set(fates)


def test_a_stopped_trial_does_not_count_at_later_rungs() -> None:
    """Trial 1 falls at epoch 1, trains on unaware and shines at epoch 2: trial 2 is not measured by that."""
    rungs = Rungs(rules_of("asha"), 3, 3)
    for epoch in (1, 2):
        rungs.reach(1, epoch, RungScores(9.0 if epoch == 1 else 0.0))
        rungs.reach(2, epoch, RungScores(0.1))
    assert rungs.stopped_at == {} and not rungs.decided(1)
    for epoch in (1, 2):
        rungs.reach(0, epoch, RungScores(0.2))
    assert rungs.stopped_at == {1: 1}
    assert [rungs.decided(trial) for trial in range(3)] == [True, True, True]


def test_a_trial_waits_for_slower_ones_before_it_only() -> None:
    rungs = Rungs(rules_of("asha"), 2, 3)
    rungs.reach(0, 1, RungScores(0.2))
    assert rungs.decided(0)
    rungs.reach(2, 1, RungScores(0.3))
    assert not rungs.decided(2) and 2 not in rungs.stopped_at
    rungs.end(1)  # failed before the rung
    assert rungs.decided(2) and rungs.stopped_at == {2: 1}


def test_the_first_report_of_a_rung_counts() -> None:
    """A trial that is tried again says its epochs a second time."""
    rungs = Rungs(rules_of("asha"), 2, 2)
    rungs.reach(1, 1, RungScores(0.9))
    rungs.reach(1, 1, RungScores(0.0))
    rungs.reach(0, 1, RungScores(0.5))
    assert rungs.stopped_at == {1: 1}
    rungs.reach(0, 1, RungScores(9.0))
    assert rungs.stopped_at == {1: 1} and not any(rungs._waiting)


class Listener(Rule):
    """Stops everybody whose score is above one half, and keeps what it was asked."""

    def __init__(self, reason: str) -> None:
        self.reason, self.asked = reason, list[tuple[int, float]]()

    def epochs(self, last: int) -> list[int]:
        return list(range(1, last, 2))

    def should_stop(self, epoch: int, standing: RungScores) -> str:
        self.asked.append((epoch, standing.score))
        return self.reason if standing.score > 0.5 else ""


def test_rules_side_by_side_are_asked_of_the_same_trials() -> None:
    """Whom one rule stops at a rung the others still see there; the reason is the first rule's, rungs are both's."""
    one, other = Listener("too high"), Listener("high too")
    scores = [[0.3] * EPOCHS, [0.9] * EPOCHS, [0.2, 0.2, 0.7, 0.7]]
    rungs = raced(scores, [2, 2, 2, 1, 0, 1], [*rules_of("median"), one, other], last=4)
    assert rungs.epochs == [1, 2, 3] and rungs.stopped_at == {1: 1, 2: 3}
    assert rungs.reason == {1: "too high at epoch 1", 2: "too high at epoch 3"}
    assert one.asked == other.asked == [(1, 0.3), (1, 0.9), (1, 0.2), (3, 0.3), (3, 0.7)]


def test_scores_are_smoothed_over_three_epochs() -> None:
    assert smoothed([0.9]) == 0.9
    assert smoothed([0.9, 0.6, 0.3, 0.0]) == pytest.approx(0.3)


def test_a_standing_has_the_losses_of_held_out_patients_over_the_same_epochs_as_the_score() -> None:
    rng = np.random.default_rng(0)
    labels_P, folds_RP = np.array([0, 1, 0, 1, -1, 1]), np.array([[0, 0, 1, 1, -1, -1]] * 2)
    said_ERP = np.where(folds_RP >= 0, rng.uniform(0.1, 0.9, (5, 2, 6)), np.nan)
    scores = [float(balanced_log_loss(probability_RP[:, :4].mean(axis=0), labels_P[:4])) for probability_RP in said_ERP]
    found = standing("ab12cd", scores, list(said_ERP), labels_P, folds_RP)
    means = [found.losses_P[found.labels_P == label].mean() for label in (0, 1)]
    assert found.score == pytest.approx(np.mean(means)) and found.score == pytest.approx(np.mean(scores[-3:]))
    assert found.labels_P.tolist() == [0, 1, 0, 1] and found.folds_P.tolist() == [0, 0, 1, 1]


def test_asha_lets_one_in_three_go_on() -> None:
    falling = [[1 - 0.01 * trial] * EPOCHS for trial in range(9)]
    assert raced(falling, [], rules_of("asha", 3)).stopped_at == {}  # each better than all before it
    rising = [[0.1 * trial] * EPOCHS for trial in range(9)]
    rungs = raced(rising, [], rules_of("asha", 3))
    assert rungs.stopped_at == dict.fromkeys(range(1, 9), 1)
    assert set(rungs.reason.values()) == {"not in the best 1/3 at epoch 1"}
    assert raced([[0.5] * EPOCHS] * 4, [], rules_of("asha", 3)).stopped_at == {}  # equal scores pass together


def test_the_median_takes_four_to_be_one() -> None:
    scores = [[score] for score in (0.1, 0.4, 0.2, 0.3, 0.2500001, 0.25, 0.24, 0.26)]
    rungs = raced(scores, [], rules_of("median"), last=2)
    assert rungs.stopped_at == {4: 1, 7: 1}  # trial 5 equals the median of five
    assert rungs.reason[4] == "worse than the median at epoch 1"


def test_without_a_rule_nobody_is_stopped() -> None:
    rungs = Rungs(rules_of("none"), EPOCHS, 2)
    rungs.reach(1, 1, RungScores(5.0))
    assert rungs.epochs == [] and rungs.stopped_at == {} and rungs.decided(0) and rungs.decided(1)


def race(mine_P: np.ndarray, best_P: np.ndarray, labels_P: np.ndarray = LABELS_P) -> str:
    """Return what racing says of a trial with these losses after one with those."""
    rule = Racing(Options())
    folds_P = np.arange(len(labels_P)) % 3
    said = ""
    for trial, losses_P in (("best", best_P), ("mine", mine_P)):
        score = float(np.mean([losses_P[labels_P == label].mean() for label in (0, 1)]))
        said = rule.should_stop(3, RungScores(score, trial, losses_P, labels_P, folds_P))
    return said


def test_racing_stops_who_is_worse_on_most_patients() -> None:
    scatter_P = np.random.default_rng(0).uniform(0, 0.1, len(LABELS_P))
    assert race(0.9 + scatter_P, 0.3 + scatter_P[::-1]) == "worse than trial best on the same patients (p < .001)"
    assert race(0.3 + scatter_P, 0.9 + scatter_P) == ""


def test_racing_does_not_stop_for_a_hair() -> None:
    """Every patient is a little worse off, surely so, but the best trial's own worst fold is worse still."""
    best_P = 0.3 + 0.3 * (FOLDS_P == 1)
    assert p_worse(np.full(24, 0.01) + np.linspace(0, 1e-4, 24), LABELS_P) < 1e-6
    assert race(best_P + 0.01 + np.linspace(0, 1e-4, 24), best_P) == ""
    assert race(best_P + 0.21 + np.linspace(0, 1e-4, 24), best_P) != ""


def test_racing_does_not_stop_for_one_patient() -> None:
    one_P = 0.3 + 9.0 * (np.arange(24) == 5)
    assert race(one_P, np.full(24, 0.3)) == ""


def test_racing_needs_ten_patients_of_each_class() -> None:
    for tumoral, stops in ((9, False), (10, True)):
        labels_P = np.repeat([0, 1], [30, tumoral])
        scatter_P = np.linspace(0, 0.01, len(labels_P))
        assert bool(race(0.9 + scatter_P, 0.3 - scatter_P, labels_P)) == stops


def test_racing_measures_by_the_best_so_far() -> None:
    """Trial 2 is no worse than trial 1, which is no measure: trial 0 was better. What is stopped is none either."""
    rungs = raced([[0.2], [1.5], [1.4], [0.1], [1.6]], [], rules_of("racing"), last=2)
    assert rungs.stopped_at == {1: 1, 2: 1, 4: 1}
    assert [rungs.reason[trial].split(" on ")[0] for trial in (2, 4)] == ["worse than trial 0", "worse than trial 3"]


def test_the_chance_of_being_worse_is_a_chance() -> None:
    """Between trials of the same worth it is below .01 once in a hundred, also where one class is small."""
    rng, labels_P = np.random.default_rng(1), np.repeat([0, 1], [10, 40])
    draws = rng.standard_normal((4000, 50)) * np.where(labels_P == 0, 2.0, 1.0)
    found = np.array([p_worse(differences_P, labels_P) for differences_P in draws])
    assert 0.005 < (found < 0.01).mean() < 0.015 and abs((found < 0.5).mean() - 0.5) < 0.03
    assert p_worse(np.array([*[0.0, 2.0] * 5, *[0.0, 2.0] * 5]), np.repeat([0, 1], 10)) == pytest.approx(
        0.0009, abs=2e-4
    )  # mean 1, standard error .236, so t 4.24 with 9 degrees of freedom


def test_the_worst_fold_weighs_both_classes_the_same() -> None:
    labels_P, folds_P = np.array([0, 1, 1, 1, 0, 1]), np.array([0, 0, 0, 0, 1, 1])
    losses_P = np.array([0.9, 0.1, 0.1, 0.1, 0.2, 0.3])
    weights = np.array([1 / 4, 1 / 8, 1 / 8, 1 / 8])
    assert worst_fold(RungScores(0.3, "", losses_P, labels_P, folds_P)) == pytest.approx(
        float((weights * losses_P[:4]).sum() / weights.sum())
    )


def test_rules_decide_at_their_own_epochs() -> None:
    options = Options(grace=3, reduction=3)
    asha, racing = stopping_rules["asha"].build(options), Racing(options)
    assert asha.epochs(28) == [3, 9, 27] and asha.epochs(27) == [3, 9] and racing.epochs(12) == [3, 6, 9]
    assert deciding([asha, racing], 10) == {3: [asha, racing], 6: [racing], 9: [asha, racing]}
    assert stopping_rules["median"].build(options).epochs(12) == [3, 6, 9]
    assert stopping_rules["none"].build(options).epochs(100) == []


class Counted(float):
    """A score that counts how often it is compared."""

    comparisons = 0

    def __lt__(self, other: float) -> bool:
        Counted.comparisons += 1
        return float(self) < float(other)

    def __gt__(self, other: float) -> bool:
        Counted.comparisons += 1
        return float(self) > float(other)


@pytest.mark.parametrize("words", ["asha", "median", "racing"])
def test_a_report_costs_little_however_many_came_before(words: str) -> None:
    """Ten thousand trials are not compared with one another: about fourteen comparisons find a place among them."""
    n_trials, Counted.comparisons = 10_000, 0
    rungs, where = Rungs(rules_of(words), 2, n_trials), at(0, 0, 0.3)
    for number, score in enumerate(np.random.default_rng(0).uniform(0.2, 0.4, n_trials)):
        rungs.reach(number, 1, replace(where, score=Counted(score)))
    assert rungs.decided(n_trials - 1) and Counted.comparisons < 20 * n_trials


def test_a_slow_first_trial_holds_up_all_decisions_and_they_are_counted() -> None:
    rungs = Rungs(rules_of("asha"), EPOCHS, 4)
    for trial in (1, 2, 3):
        rungs.reach(trial, 1, at(trial, 1, 0.5 + trial))
    assert set(rungs.decisions.values()) == {0} and not rungs.stopped_at
    rungs.reach(0, 1, at(0, 1, 0.1))
    assert rungs.decisions[1] == 4 and rungs.stopped_at
