from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lymphtune.cohort import Cohort, check_trainable
from lymphtune.cohort.folds import (
    check_roles,
    cohort_folds,
    few_held_out_note,
    folds_hash,
    folds_table,
    make_folds,
    roles_table,
)
from lymphtune.errors import InputError


@st.composite
def label_lists(draw: st.DrawFn, fewest: int = 5) -> np.ndarray:
    counts = draw(st.tuples(st.integers(fewest, 60), st.integers(fewest, 60), st.integers(0, 20)))
    labels = [label for label, count in zip((0, 1, -1), counts, strict=True) for _ in range(count)]
    return np.array(draw(st.permutations(labels)))


@settings(deadline=None, max_examples=50)
@given(label_lists(), st.integers(2, 5), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_every_labelled_patient_is_held_out_once(labels: np.ndarray, folds: int, repeats: int, seed: int) -> None:
    folds_RP = make_folds(labels, folds, repeats, seed)
    assert folds_RP.shape == (repeats, len(labels))
    assert folds_RP.dtype == np.int64
    assert (folds_RP == folds_RP[0]).all()  # the same split for every repeat
    assert ((folds_RP[0] == -1) == (labels == -1)).all()
    assert set(folds_RP[0][labels != -1]) == set(range(folds))
    for label in (0, 1):
        per_fold = np.bincount(folds_RP[0][labels == label], minlength=folds)
        assert per_fold.max() - per_fold.min() <= 1


@settings(deadline=None, max_examples=100)
@given(label_lists(fewest=2), st.integers(0, 1000))
def test_one_hold_out_leaves_every_class_on_both_sides(labels: np.ndarray, seed: int) -> None:
    fold_P = make_folds(labels, 1, 1, seed)[0]
    held_out, training = labels[fold_P == 0], labels[(fold_P == -1) & (labels != -1)]
    assert set(held_out) == set(training) == {0, 1}
    assert not (labels[fold_P == 0] == -1).any()
    n_patients = max(2, min(38, (labels != -1).sum() // 4))
    assert len(held_out) == n_patients
    share = (labels == 0).sum() / (labels != -1).sum()
    assert abs((held_out == 0).sum() - share * n_patients) <= 1


def test_the_study_holds_out_38_of_163() -> None:
    labels = np.array([0] * 50 + [1] * 113 + [-1] * 42)
    fold_P = make_folds(labels, 1, 1, 0)[0]
    assert (fold_P == 0).sum() == 38
    assert (labels[fold_P == 0] == 0).sum() == 12
    assert (make_folds(labels, 1, 1, 0, holdout=20)[0] == 0).sum() == 20


@pytest.mark.parametrize("folds", [1, 5])
def test_the_seed_decides(folds: int) -> None:
    labels = np.array([0, 1] * 40)
    np.testing.assert_array_equal(make_folds(labels, folds, 2, 7), make_folds(labels, folds, 2, 7))
    assert (make_folds(labels, folds, 1, 7) != make_folds(labels, folds, 1, 8)).any()


def test_table_and_hash(tiny_cohort: Cohort) -> None:
    folds_RP = make_folds(tiny_cohort.labels, 3, 2, 0)
    table = folds_table(tiny_cohort, folds_RP)
    assert table.columns.tolist() == ["patient", "repeat", "fold"]
    assert len(table) == 30
    for row, repeat in ((0, 0), (7, 1), (14, 1)):
        patient = tiny_cohort.ids[row]
        found = table[(table["patient"] == patient) & (table["repeat"] == repeat)]
        assert found["fold"].item() == folds_RP[repeat, row]
    digits = folds_hash(table)
    assert len(digits) == 16
    assert int(digits, 16) >= 0
    assert folds_hash(table.copy()) == digits
    assert folds_hash(table.replace({"patient": {"P3": "P33"}})) != digits
    assert folds_hash(folds_table(tiny_cohort, make_folds(tiny_cohort.labels, 3, 2, 1))) != digits


def with_labels(cohort: Cohort, labels: list[int]) -> Cohort:
    return replace(cohort, patients=cohort.patients.assign(label=labels))


def test_cohorts_that_can_be_trained_on(tiny_cohort: Cohort) -> None:
    check_trainable(tiny_cohort, 1)
    check_trainable(tiny_cohort, 5)


@pytest.mark.parametrize(
    ("labels", "folds", "message"),
    [
        ([-1] * 15, 5, "tiny: no labelled patient; expected some with LABEL 0 and some with LABEL 1"),
        ([1] * 12 + [-1] * 3, 5, "tiny: 12 labelled patients, none of them reactive; expected both classes"),
        ([0] * 15, 1, "tiny: 15 labelled patients, none of them tumoral; expected both classes"),
        ([0] * 3 + [1] * 12, 5, "tiny: 3 reactive patients for 5 folds; label more patients, or use 3 folds or fewer"),
        ([0] * 11 + [1] * 4, 5, "tiny: 4 tumoral patients for 5 folds; label more patients, or use 4 folds or fewer"),
        ([0] * 1 + [1] * 14, 1, "tiny: 1 reactive patient for a hold-out; label more patients$"),
        ([0, 1] * 7 + [0], 0, "folds: 0; expected 2 or more, or 1 for a single hold-out"),
    ],
)
def test_cohorts_that_cannot(tiny_cohort: Cohort, labels: list[int], folds: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_trainable(with_labels(tiny_cohort, labels), folds)


def test_a_picture_in_two_roles_is_refused(noisy_cohort: Cohort) -> None:
    assert check_roles(noisy_cohort) == ""
    digests, starts = list(noisy_cohort.picture_digests), noisy_cohort.starts
    known, new = noisy_cohort.labelled[0], noisy_cohort.to_predict[0]
    twice = [*digests]
    twice[starts[new]] = digests[starts[known]]
    ids = noisy_cohort.ids
    with pytest.raises(
        InputError, match=f"{ids[new]}, to predict, shares a picture with the labelled patient {ids[known]};"
    ):
        check_roles(replace(noisy_cohort, picture_digests=twice))
    twice = [*digests]
    twice[starts[noisy_cohort.labelled[1]]] = digests[starts[known]]
    assert "1 pictures belong to more than one labelled patient" in check_roles(
        replace(noisy_cohort, picture_digests=twice)
    )


def test_the_manifest_has_every_picture_with_its_role_and_no_id(noisy_cohort: Cohort) -> None:
    folds_RP = make_folds(noisy_cohort.labels, 3, 2, 0)
    table = roles_table(noisy_cohort, folds_RP)
    assert len(table) == len(noisy_cohort.picture_digests)
    counts = noisy_cohort.patients["n_cells"].to_numpy()
    new = np.repeat(noisy_cohort.labels == -1, counts)
    assert ((table["role"] == "to predict") == new).all() and ((table["fold"] == -1) == new).all()
    assert not set(noisy_cohort.ids) & set(table["patient"]) and table["patient"].nunique() == len(noisy_cohort.ids)


def test_a_cohort_s_groups_are_kept_together(tiny_cohort: Cohort) -> None:
    """Of the tiny cohort's twelve labelled patients, those of a class in pairs."""
    labels = tiny_cohort.labels
    place = np.array([int((labels[:row] == labels[row]).sum()) for row in range(len(labels))])
    named = np.array([f"{label} {number // 2}" for label, number in zip(labels, place, strict=True)])
    grouped = replace(tiny_cohort, patients=tiny_cohort.patients.assign(group=named))
    alone, together = (cohort_folds(cohort, 3, 2, 0) for cohort in (tiny_cohort, grouped))
    for fold_P, kept in ((alone[0], False), (together[0], True), (together[1], True)):
        of = {(group, fold) for group, fold in zip(named, fold_P, strict=True) if fold >= 0}
        assert (len(of) == 6) is kept


def in_groups(cohort: Cohort, groups: list[tuple[int, ...]]) -> Cohort:
    """Return the tiny cohort's fifteen patients, labels and groups as given; the others are to be predicted."""
    labels = [label for group in groups for label in group]
    names = [f"site {number}" for number, group in enumerate(groups) for _ in group]
    rest = len(cohort.patients) - len(labels)
    patients = cohort.patients.assign(label=[*labels, *[-1] * rest], group=[*names, *["new"] * rest])
    return replace(cohort, patients=patients)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.sampled_from((0, 1)), min_size=1, max_size=6), min_size=2, max_size=9),
    st.integers(1, 9),
    st.integers(0, 99),
)
def test_groups_are_split_wherever_they_can_be(groups: list[list[int]], folds: int, seed: int) -> None:
    labels = np.array([label for group in groups for label in group])
    named = np.array([f"g{number}" for number, group in enumerate(groups) for _ in group])
    possible = len(groups) >= folds and all(len({*named[labels == label]}) >= 2 for label in (0, 1))
    if not possible:
        return
    fold_P = make_folds(labels, folds, 1, seed, groups_P=named)[0]
    assert len({*zip(named, fold_P, strict=True)}) == len(groups)  # none is in two folds
    for fold in range(folds):
        assert (fold_P == fold).any() and {*labels[fold_P != fold].tolist()} == {0, 1}
    assert folds > 1 or {*labels[fold_P == 0].tolist()} == {0, 1}


def test_as_many_groups_as_folds_are_a_group_a_fold(tiny_cohort: Cohort) -> None:
    """StratifiedGroupKFold leaves one of these folds empty."""
    groups = [(0,), (0, 1), (0,), (1, 1, 1), (0, 0, 1, 1, 1, 1)]
    cohort = in_groups(tiny_cohort, groups)
    fold_P = cohort_folds(cohort, 5, 1, 0)[0]
    assert [len({*fold_P[cohort.groups == f"site {number}"]}) for number in range(5)] == [1] * 5
    assert {*fold_P[cohort.labels >= 0].tolist()} == {0, 1, 2, 3, 4}


def test_a_hold_out_of_groups_of_one_class_has_both_classes(tiny_cohort: Cohort) -> None:
    cohort = in_groups(tiny_cohort, [(0, 0), (1, 1), (0, 0), (1, 1), (0, 0), (1, 1)])
    fold_P = cohort_folds(cohort, 1, 1, 0)[0]
    held, rest = cohort.labels[fold_P == 0], cohort.labels[(fold_P != 0) & (cohort.labels >= 0)]
    assert {*held.tolist()} == {*rest.tolist()} == {0, 1} and len(held) < len(rest)


@pytest.mark.parametrize(
    ("groups", "folds", "message"),
    [
        ([(0, 0, 1), (0, 1), (0, 1, 1, 1)], 4, "3 groups of labelled .* for 4 folds; use 3 folds or fewer"),
        ([(0, 0, 0, 0), (1, 1), (1, 1)], 1, "all reactive patients are in one group"),
        ([(0, 0, 0, 0, 1), (1, 1)], 2, "all reactive patients are in one group"),
        ([(0, 0, 1, 1)], 2, "1 group of labelled .* use no such groups"),
    ],
)
def test_groups_that_cannot_be_split_are_refused(
    tiny_cohort: Cohort, groups: list[tuple[int, ...]], folds: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        cohort_folds(in_groups(tiny_cohort, groups), folds, 1, 0)


def test_the_number_of_folds_that_a_refusal_names_works(tiny_cohort: Cohort) -> None:
    cohort = in_groups(tiny_cohort, [(0, 0, 1), (0, 1), (0, 1, 1, 1)])
    cohort_folds(cohort, 3, 1, 0)
    cohort_folds(cohort, 2, 1, 0)


def test_a_hold_out_with_one_patient_of_a_class_is_said() -> None:
    assert "1 patient of the class reactive held out" in few_held_out_note(np.array([0, 1, 1, 1]))
    assert few_held_out_note(np.array([0, 0, 1, 1])) == ""


@pytest.mark.parametrize(
    ("sizes", "labels", "folds"),
    [
        ([4, 4, 3, 1, 6], [1, 0, 1, 1, 1, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1], 5),  # one fold was empty
        ([5, 6, 7, 7], [1] * 11 + [0] * 14, 1),  # the hold-out was of one class
    ],
)
def test_groups_that_scikit_learn_splits_wrongly_are_split(sizes: list[int], labels: list[int], folds: int) -> None:
    named = np.repeat(np.arange(len(sizes)), sizes).astype(str)
    fold_P, labels_P = make_folds(np.array(labels), folds, 1, 0, groups_P=named)[0], np.array(labels)
    assert {*fold_P.tolist()} == ({0, 1, 2, 3, 4} if folds == 5 else {0, -1})
    for fold in range(folds):
        assert {*labels_P[fold_P != fold].tolist()} == {0, 1}
    assert folds > 1 or {*labels_P[fold_P == 0].tolist()} == {0, 1}
