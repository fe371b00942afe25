"""What every metric says of patients of one class, or of nobody: a number, or NaN, and never a warning or an error."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lymphtune.statistics.bootstrap import resample
from lymphtune.statistics.conformal import CrossConformal
from lymphtune.statistics.decision import net_benefit
from lymphtune.statistics.honest import HeldOutScorer, fixed_score
from lymphtune.statistics.metrics import METRICS, calibration_error, class_weights, placements

OF_ONE = {"recall": 1, "specificity": 0}  # metrics that one class alone has


@settings(deadline=None, max_examples=30)
@given(st.sampled_from((0, 1)), st.lists(st.floats(0, 1), max_size=6), st.sampled_from(sorted(METRICS)))
def test_a_metric_without_a_class_is_nan(label: int, said: list[float], name: str) -> None:
    probability_P, labels_P = np.array(said), np.full(len(said), label)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = METRICS[name](probability_P, labels_P)
    if said and OF_ONE.get(name) == label:
        assert 0 <= value <= 1
    else:
        assert np.isnan(value)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=8), st.sampled_from(sorted(METRICS)))
def test_a_metric_of_both_classes_is_a_number(patients: list[tuple[float, bool]], name: str) -> None:
    probability_P, labels_P = (
        np.array([0.3, 0.6, *(said for said, _ in patients)]),
        np.array([0, 1, *(t for _, t in patients)]),
    )
    assert np.isfinite(METRICS[name](probability_P, labels_P.astype(int)))


def test_resamples_without_a_class_are_nan_and_the_others_are_not() -> None:
    probability_P, labels_P = np.array([0.2, 0.7, 0.9]), np.array([0, 0, 1])
    weights_SP = np.array([[1, 1, 1], [1, 1, 0], [0, 0, 1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = METRICS["balanced_accuracy"](probability_P, labels_P, weights_SP)
        class_weights(labels_P, weights_SP), calibration_error(probability_P, labels_P, weights_SP)
        placements(np.tile(probability_P, (3, 1)), labels_P, weights_SP)
    assert values[0] == 0.75 and np.isnan(values[1:]).all()


@pytest.mark.parametrize("label", [0, 1])
def test_prediction_sets_without_a_class_never_rule_it_out(label: int) -> None:
    known = CrossConformal.split(np.array([0.2, 0.4, 0.9]), np.full(3, label))
    assert known.sets(np.array([[0.0, 0.5, 1.0]]), 0.1)[1 - label].all()


@pytest.mark.parametrize("label", [0, 1])
def test_net_benefit_of_one_class_is_its_formula(label: int) -> None:
    found = net_benefit(np.ones((4, 1)), np.full(4, label), np.array([0.2]))
    assert found == pytest.approx([1.0] if label else [-0.25])


@pytest.mark.parametrize("labels", [[0, 1, 1, 1], [0, 1], [0, 0, 1]])
@pytest.mark.parametrize("metric", ["balanced_accuracy", "recall", "specificity", "auc", "log_loss", "brier"])
def test_external_scores_of_one_patient_of_a_class_have_an_interval(labels: list[int], metric: str) -> None:
    probability_P = np.linspace(0.1, 0.9, len(labels))
    interval = fixed_score(probability_P, np.array(labels), metric)
    assert interval.low <= interval.value <= interval.high and np.isfinite([interval.low, interval.high]).all()


@pytest.mark.parametrize(
    "classes",
    [[(0, 1)] + [(0,)] * 12 + [(1,)] * 12, [(0,)] + [(0, 1)] * 24, [(1,)] + [(0, 1)] + [(0,)] * 24],
    ids=["one of both", "one reactive", "one of both and one tumoral"],
)
def test_a_group_alone_of_its_kind_is_left_out_of_some_resamples(classes: list[tuple[int, ...]]) -> None:
    labels_P = np.array([label for group in classes for label in group])
    group_P = np.array([number for number, group in enumerate(classes) for _ in group])
    counts_SP = resample(labels_P, 200, 0, group_P)
    HeldOutScorer(labels_P, counts_SP, group_P)  # raises where somebody is in every resample
    for label in (0, 1):
        assert (counts_SP[:, labels_P == label].sum(axis=1) > 0).all()
    assert (counts_SP == counts_SP[:, [int(np.flatnonzero(group_P == g)[0]) for g in group_P]]).all()
