"""Importance over made-up spaces: what decides is found, what does nothing is not, what is conditional counts once."""

import time

import numpy as np
import pytest

from lymphtune.statistics.importance import LEAST_EXPLAINED, Choice, Importance, Points, importance

CHOICES = (
    Choice("rate", log=True),
    Choice("kind", ("plain", "deep")),
    Choice("depth", ("1", "2", "3"), ordered=True),
    Choice("idle"),
    Choice("colour", ("red", "green", "blue")),
)
RATE, KIND, DEPTH, IDLE, COLOUR = range(len(CHOICES))


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lymphtune.statistics.importance.RESAMPLES", 8)


def space(count: int, seed: int) -> Points:
    """Return configurations of which only the deep ones have a depth."""
    rng = np.random.default_rng(seed)
    kind_N = rng.integers(2, size=count)
    depth_N = np.where(kind_N == 1, rng.integers(3, size=count), np.nan)
    columns = [10 ** rng.uniform(-4, -1, count), kind_N, depth_N, rng.random(count), rng.integers(3, size=count)]
    values_NC = np.column_stack(columns).astype(float)
    return Points(values_NC, np.where(np.isnan(values_NC), -1, 0))


def analysed(weights: dict[int, float], trials: int = 150, noise: float = 0.1, seed: int = 0) -> Importance:
    """Return the importances where the loss adds up the choices' values, absent ones counting as the middle one."""
    points = space(trials, seed)
    scaled_NC = points.values_NC.copy()
    scaled_NC[:, RATE] = np.log10(scaled_NC[:, RATE]) / 3
    scaled_NC[:, DEPTH] = np.nan_to_num(scaled_NC[:, DEPTH] - 1)
    losses_N = np.random.default_rng(seed + 1).normal(0, noise, trials)
    for c, weight in weights.items():
        losses_N += weight * scaled_NC[:, c]
    return importance(CHOICES, points, losses_N, space(1000, 99))


def test_what_decides_is_found_and_what_does_nothing_is_not() -> None:
    found = analysed({RATE: 2.0})
    assert found.explained > 0.7 and found.order[0] == RATE and found.shares[RATE].value > 0.85
    assert [found.stands_out(c) for c in range(len(CHOICES))] == [True, False, False, False, False]
    line = found.marginals[RATE]
    assert line.mean_G[-1] - line.mean_G[0] > 1 and (line.low_G <= line.mean_G).all()
    assert (np.diff(line.at_G) > 0).all() and 1e-4 < line.at_G[0] < 3e-4


def test_two_that_decide_share_as_their_variances_do() -> None:
    found = analysed({RATE: 1.0, KIND: 1.0}, noise=0.05, trials=300)
    kind, rate = 1 / 4, 1 / 12  # variances of an even coin, and of an even number from 0 to 1
    assert found.shares[KIND].value == pytest.approx(kind / (kind + rate), abs=0.08)
    assert found.shares[RATE].value == pytest.approx(rate / (kind + rate), abs=0.08)
    assert found.stands_out(KIND) and found.stands_out(RATE) and not found.stands_out(IDLE)


def test_a_conditional_choice_does_not_inherit_what_its_branch_decides() -> None:
    """Whoever knows the depth knows the kind: only what it adds to that is its own."""
    kind_alone = analysed({KIND: 1.0})
    assert kind_alone.shares[KIND].value > 0.85 and kind_alone.shares[DEPTH].value < 0.05
    assert not kind_alone.stands_out(DEPTH)
    depth_alone = analysed({DEPTH: 1.0})
    assert depth_alone.order[0] == DEPTH and depth_alone.stands_out(DEPTH)
    assert depth_alone.marginals[DEPTH].at_G.tolist() == [0, 1, 2]


def test_two_branches_with_ranges_of_their_own_are_one_choice_that_counts_within_each() -> None:
    def two_ranges(count: int, seed: int) -> Points:
        rng = np.random.default_rng(seed)
        branch_N = rng.integers(2, size=count)
        return Points(
            np.column_stack([branch_N, rng.random(count) + 10 * branch_N]),
            np.column_stack([np.zeros(count, int), branch_N]),
        )

    points = two_ranges(150, 0)
    found = importance(
        (Choice("kind", ("a", "b")), Choice("width")), points, points.values_NC[:, 0], two_ranges(900, 1)
    )
    assert found.shares[0].value > 0.95 and found.shares[1].value < 0.05


def test_noise_is_said_to_explain_nothing() -> None:
    found = analysed({}, trials=200, noise=1.0)
    assert found.explained < LEAST_EXPLAINED
    lucky = analysed({}, trials=60, noise=1.0, seed=1)  # by chance the forest guesses some of it
    assert lucky.explained > LEAST_EXPLAINED and not any(lucky.stands_out(c) for c in range(len(CHOICES)))


def test_a_few_trials_have_wide_intervals() -> None:
    few, many = (analysed({RATE: 1.0, IDLE: 0.5}, trials=n, noise=0.3).shares[RATE] for n in (15, 300))
    assert few.high - few.low > 1.5 * (many.high - many.low)


def test_the_same_trials_give_the_same_importances() -> None:
    assert analysed({RATE: 1.0}, trials=20).shares == analysed({RATE: 1.0}, trials=20).shares


def test_two_hundred_trials_take_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lymphtune.statistics.importance.RESAMPLES", 20)
    began = time.process_time()
    analysed({RATE: 1.0}, trials=200)
    assert time.process_time() - began < 8
