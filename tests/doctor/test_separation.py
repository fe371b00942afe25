"""Which attributes are said to tell the label alone, and which strong ones are not."""

from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lymphtune.cohort.layout import Layout
from lymphtune.doctor.evidence import Entry, Evidence
from lymphtune.doctor.separation import auc_of, is_copy, separating


def evidence(values: np.ndarray | list[object], labels: np.ndarray | list[int], name: str = "marker") -> Evidence:
    entries = [
        Entry(f"P{row}", values={name: value, "label": int(label)})
        for row, (value, label) in enumerate(zip(values, labels, strict=True))
    ]
    return Evidence("made up", date(2020, 1, 1), entries=entries)


def texts(given: Evidence) -> list[str]:
    return [finding.text for finding in separating(given)]


LABELS = np.array([0] * 50 + [1] * 113)


@pytest.mark.parametrize("seed", range(5))
def test_a_strong_attribute_of_auc_90_is_not_named(seed: int) -> None:
    values = np.random.default_rng(seed).normal(LABELS * 1.81, 1.0)
    assert 0.85 < auc_of(values.tolist(), LABELS) < 0.95
    assert texts(evidence(values.tolist(), LABELS)) == []


@pytest.mark.parametrize("sign", [1, -1])
def test_one_that_nearly_separates_is_named_with_its_area(sign: int) -> None:
    values = np.random.default_rng(0).normal(LABELS * 3.2 * sign, 1.0).tolist()
    assert auc_of(values, LABELS) > 0.97
    assert texts(evidence(values, LABELS)) == [
        f"marker alone nearly separates the classes: AUC {auc_of(values, LABELS):.3f} on 163 labelled patients"
    ]


def test_a_copy_of_the_label_is_named_in_a_small_cohort_too() -> None:
    labels = [0, 1, 1, 0, 1, 0, 1, 0, 1, 0]
    for words in ({0: "ward", 1: "clinic"}, {0: 7.0, 1: 3.0}):
        given = evidence([words[label] for label in labels], labels)
        assert "marker alone separates the classes exactly: AUC 1.000 on 10" in texts(given)[0]


def test_few_patients_and_numbers_that_happen_to_separate_are_not() -> None:
    labels = [0] * 5 + [1] * 7
    assert texts(evidence([float(number) for number in range(12)], labels)) == []
    assert texts(evidence([f"doctor {number}" for number in range(163)], LABELS)) == []  # a word a patient


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(6, 40), st.sampled_from(["numbers", "words"]))
def test_noise_of_small_cohorts_is_not_named(seed: int, count: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 2)
    noise = rng.normal(size=count).tolist() if kind == "numbers" else [f"site {n}" for n in rng.integers(0, 4, count)]
    assert is_copy(noise, labels) or texts(evidence(noise, labels)) == []


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"attributes": {"told": {"column": "Label "}}}, "'LABEL', which is that of the label"),
        ({"attributes": {"who": {"column": "id", "kind": "categorical"}}}, "'ID', which is that of the patient"),
        ({"person": "nhs_no", "attributes": {"who": {"column": "NHS no"}}}, "'nhs_no', which is that of the person"),
        ({"groups": ["Centre"], "attributes": {"at": {"column": "CENTRE"}}}, "'Centre', which is that of the group"),
        ({"columns": {"lymphocytes": "LABEL"}}, "columns: lymphocytes is the column 'LABEL'"),
    ],
)
def test_the_answer_s_own_column_is_no_attribute(given: dict[str, object], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        Layout.model_validate(given)


def test_columns_with_names_like_these_are_attributes() -> None:
    Layout.model_validate({"groups": ["centre"], "attributes": {"size": {"column": "centre_size"}}})
    Layout.model_validate({"attributes": {"before": {"column": "label_before"}, "sex2": {"column": "GENDER"}}})


def test_one_that_is_surely_strong_and_yet_does_not_separate_is_not_named() -> None:
    labels = np.repeat([0, 1], 400)
    values = np.random.default_rng(1).normal(labels * 2.33, 1.0).tolist()
    assert 0.94 < auc_of(values, labels) < 0.965  # its interval is above SURELY
    assert texts(evidence(values, labels)) == []
