"""Metrics against scikit-learn, their weights against repeated patients, and their intervals.

Shapes: P patients, M models, S resamples.
"""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, log_loss, recall_score, roc_auc_score
from sklearn.utils.class_weight import compute_sample_weight

from lymphtune.statistics.bootstrap import RESAMPLES, Interval, percentile_interval, resample
from lymphtune.statistics.metrics import METRICS, SMALLEST, auc, balanced_log_loss


def by_sklearn(name: str, probabilities_P: np.ndarray, labels_P: np.ndarray) -> float:
    called_P = (probabilities_P >= 0.5).astype(int)
    balanced = compute_sample_weight("balanced", labels_P)
    clipped_P = np.clip(probabilities_P, SMALLEST, 1 - SMALLEST)
    return float(
        {
            "balanced_accuracy": lambda: balanced_accuracy_score(labels_P, called_P),
            "recall": lambda: recall_score(labels_P, called_P),
            "specificity": lambda: recall_score(labels_P, called_P, pos_label=0),
            "auc": lambda: roc_auc_score(labels_P, probabilities_P),
            "log_loss": lambda: log_loss(labels_P, clipped_P, sample_weight=balanced),
            "brier": lambda: brier_score_loss(labels_P, probabilities_P, sample_weight=balanced),
            "calibration_error": lambda: _calibration_error(probabilities_P, labels_P, balanced),
        }[name]()
    )


def _calibration_error(probabilities_P: np.ndarray, labels_P: np.ndarray, weights_P: np.ndarray) -> float:
    """The definition, bin by bin: no metric of scikit-learn."""
    error = 0.0
    for low in range(10):
        inside = (np.floor(probabilities_P * 10) == low) | ((probabilities_P == 1) & (low == 9))
        if inside.any():
            share = weights_P[inside].sum() / weights_P.sum()
            said, found = (np.average(v[inside], weights=weights_P[inside]) for v in (probabilities_P, labels_P))
            error += share * abs(said - found)
    return float(error)


LEVELS = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.5, 0.50001, 0.7, 1.0]) | st.floats(0, 1)  # ties are common


@st.composite
def judged(draw: st.DrawFn, models: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities [M, P] and labels [P], both classes among them."""
    labels = draw(st.lists(st.integers(0, 1), min_size=2, max_size=20).filter(lambda drawn: len(set(drawn)) == 2))
    row = st.lists(LEVELS, min_size=len(labels), max_size=len(labels))
    return np.array([draw(row) for _ in range(models)]), np.array(labels)


@pytest.mark.parametrize("name", METRICS)
@settings(deadline=None, max_examples=60)
@given(judged())
def test_metrics_are_scikit_learn_s(name: str, given_: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities_MP, labels_P = given_
    found = METRICS[name](probabilities_MP[0], labels_P)
    assert float(found) == pytest.approx(by_sklearn(name, probabilities_MP[0], labels_P), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
@settings(deadline=None, max_examples=30)
@given(judged(), st.integers(0, 2**32))
def test_a_weight_is_so_many_patients(name: str, given_: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    (probabilities_P,), labels_P = given_
    counts_P = resample(labels_P, 1, seed)[0]
    repeated = METRICS[name](np.repeat(probabilities_P, counts_P), np.repeat(labels_P, counts_P))
    np.testing.assert_allclose(METRICS[name](probabilities_P, labels_P, counts_P), repeated, rtol=1e-12)
    once = METRICS[name](probabilities_P, labels_P, np.ones(len(labels_P), dtype=int))
    np.testing.assert_allclose(once, METRICS[name](probabilities_P, labels_P), rtol=1e-12)


@pytest.mark.parametrize("name", METRICS)
@settings(deadline=None, max_examples=20)
@given(judged(models=3), st.integers(0, 2**32))
def test_models_and_resamples_are_judged_at_once(name: str, given_: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    metric: Callable[..., np.ndarray] = METRICS[name]
    probabilities_MP, labels_P = given_
    counts_SP = resample(labels_P, 4, seed)
    one_by_one = [[metric(row, labels_P, counts) for row in probabilities_MP] for counts in counts_SP]
    together = metric(probabilities_MP[None], labels_P, counts_SP[:, None])
    np.testing.assert_allclose(together, one_by_one, rtol=1e-12)
    np.testing.assert_allclose(metric(probabilities_MP, labels_P), [metric(row, labels_P) for row in probabilities_MP])
    np.testing.assert_allclose(metric(probabilities_MP[0], labels_P, counts_SP), np.array(one_by_one)[:, 0])
    np.testing.assert_allclose(metric(probabilities_MP, labels_P, counts_SP[0]), one_by_one[0])


def test_a_half_is_called_tumoral_and_certainty_stays_finite() -> None:
    labels_P = np.array([0, 1])
    assert METRICS["recall"](np.array([0.5, 0.5]), labels_P) == 1
    assert METRICS["specificity"](np.array([0.5, 0.5]), labels_P) == 0
    assert auc(np.array([0.5, 0.5]), labels_P) == 0.5
    assert balanced_log_loss(np.array([1.0, 0.0]), labels_P) == pytest.approx(-np.log(SMALLEST))
    assert balanced_log_loss(np.array([0.0, 1.0]), labels_P) == pytest.approx(0, abs=1e-5)


def test_the_log_loss_does_not_see_how_many_there_are_of_a_class() -> None:
    probabilities_P, labels_P = np.array([0.2, 0.7, 0.9]), np.array([0, 1, 1])
    more = balanced_log_loss(np.append(probabilities_P, [0.2] * 9), np.append(labels_P, [0] * 9))
    assert balanced_log_loss(probabilities_P, labels_P) == pytest.approx(more)


@settings(deadline=None, max_examples=30)
@given(judged(), st.integers(0, 2**32))
def test_resamples_keep_the_size_of_each_class(given_: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    _, labels_P = given_
    counts_SP = resample(labels_P, 50, seed)
    assert counts_SP.shape == (50, len(labels_P)) and (counts_SP >= 0).all()
    for label in (0, 1):
        assert (counts_SP[:, labels_P == label].sum(axis=1) == (labels_P == label).sum()).all()
    np.testing.assert_array_equal(counts_SP, resample(labels_P, 50, seed))


def test_resamples_draw_every_patient_alike_and_nobody_unlabelled() -> None:
    labels_P = np.array([0] * 10 + [1] * 30 + [-1] * 5)
    counts_SP = resample(labels_P, 4000, 0)
    assert (counts_SP[:, labels_P == -1] == 0).all()
    np.testing.assert_allclose(counts_SP[:, labels_P != -1].mean(axis=0), 1, atol=0.1)
    assert (counts_SP[:, :10] == 0).mean() == pytest.approx(0.9**10, abs=0.02)
    assert (resample(labels_P, 3, 0) != resample(labels_P, 3, 1)).any()


def test_an_interval_is_written_with_three_digits() -> None:
    assert str(Interval(0.9, 0.85, 0.95123)) == "0.900 (0.850-0.951)"


def test_the_spread_is_the_central_95_percent() -> None:
    found = percentile_interval(3.0, np.arange(RESAMPLES + 1))
    assert (found.value, found.low, found.high) == pytest.approx((3.0, 25.0, 975.0))
