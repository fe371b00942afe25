"""Thresholds: what each rule asks for, found on the patients at hand and refused on too few.

Shapes: P patients.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lymphtune.ensembling.threshold import Threshold, parse_threshold
from lymphtune.errors import InputError
from lymphtune.statistics.metrics import balanced_accuracy

LABELS_P = np.arange(60) % 3 % 2


def said(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(0.25 * LABELS_P + rng.uniform(0, 0.7, len(LABELS_P)), 0, 1).round(2)


def at(probability_P: np.ndarray, threshold: float) -> tuple[int, int]:
    """Return missed tumoral patients and false alarms."""
    called_P = probability_P >= threshold
    return int((~called_P & (LABELS_P == 1)).sum()), int((called_P & (LABELS_P == 0)).sum())


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_tuned_is_the_best_there_is(seed: int) -> None:
    probability_P = said(seed)
    found = parse_threshold("tuned").choose(probability_P, LABELS_P)
    every = [balanced_accuracy((probability_P >= t).astype(float), LABELS_P) for t in np.linspace(0, 1.01, 203)]
    assert balanced_accuracy((probability_P >= found).astype(float), LABELS_P) == pytest.approx(max(every))


@settings(deadline=None)
@given(st.integers(0, 2**32), st.floats(0.5, 1))
def test_recall_is_reached_with_as_few_alarms_as_can_be(seed: int, wanted: float) -> None:
    probability_P = said(seed)
    found = Threshold("recall", wanted).choose(probability_P, LABELS_P)
    missed, alarms = at(probability_P, found)
    assert missed <= (1 - wanted) * 20 + 1e-9
    for other in np.unique(probability_P):
        if at(probability_P, other)[0] <= (1 - wanted) * 20 + 1e-9:
            assert at(probability_P, other)[1] >= alarms


@settings(deadline=None)
@given(st.integers(0, 2**32), st.floats(0.1, 10))
def test_cost_is_the_least_there_is(seed: int, weight: float) -> None:
    probability_P = said(seed)
    missed, alarms = at(probability_P, Threshold("cost", weight).choose(probability_P, LABELS_P))
    every = [at(probability_P, t) for t in np.linspace(0, 1.01, 203)]
    assert weight * missed + alarms <= min(weight * m + a for m, a in every) + 1e-9


def test_of_equally_good_thresholds_the_nearest_to_one_half_is_taken() -> None:
    probability_P, labels_P = np.array([0.1, 0.4, 0.3, 0.6]), np.array([0, 0, 1, 1])  # 0.2 and 0.5 are as good
    assert parse_threshold("tuned").choose(probability_P, labels_P) == 0.5
    assert parse_threshold("tuned").choose(probability_P + 0.3, labels_P) == pytest.approx(0.5)
    assert parse_threshold("0.3").choose(probability_P, LABELS_P) == 0.3


def test_nobody_may_be_called_where_that_costs_least() -> None:
    probability_P, labels_P = np.array([0.2, 0.9, 0.95, 0.3]), np.array([0, 1, 0, 1])
    found = parse_threshold("cost=1:10").choose(probability_P, labels_P)
    assert not (probability_P >= found).any()


def test_few_patients_are_no_ground_to_choose_on() -> None:
    parse_threshold("0.4").check(LABELS_P[:49])
    parse_threshold("tuned").check(LABELS_P[:50])
    with pytest.raises(InputError, match=r"--threshold recall=0\.9: needs 50 labelled patients or more; this run"):
        parse_threshold("recall=0.9").check(LABELS_P[:49])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "1",
        "2",
        "nan",
        "best",
        "recall",
        "recall=0",
        "recall=1.1",
        "cost=3",
        "cost=0:1",
        "cost=a:b",
        "cost=1:2:3",
        "cost=inf:1",
        "cost=1e308:1e-308",
        "tuned=1",
    ],
)
def test_words_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"expected a number between 0 and 1, tuned, recall=0\.95 or cost=FN:FP"):
        parse_threshold(text)
