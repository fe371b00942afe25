"""Cells of patients that were held out: nobody speaks of a patient who trained on it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lymphtune
from lymphtune.cohort import Cohort
from lymphtune.config import configuration
from lymphtune.ensembling import held_out_cells as module
from lymphtune.ensembling.bundle import Ensemble
from lymphtune.ensembling.candidates import Candidates
from lymphtune.ensembling.held_out_cells import held_out_cells, held_out_models, matches_run
from lymphtune.runs.run import Run
from lymphtune.training import lone_cells
from lymphtune.training.loading import predict_with


@pytest.fixture(scope="module")
def ensemble(run: Run) -> Ensemble:
    """Of networks, so that every member sees pictures."""
    return lymphtune.ensemble(run=run.path, top=2, source="networks")


@pytest.fixture(scope="module")
def rows(cohort: Cohort, candidates: Candidates) -> np.ndarray:
    return np.array([cohort.ids.index(patient) for patient in candidates.patients])


def test_no_cell_is_judged_by_a_model_that_trained_on_its_patient(
    run: Run,
    ensemble: Ensemble,
    cohort: Cohort,
    candidates: Candidates,
    rows: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoke, truly = set(), lone_cells.predict_lone_cells_with

    def noted(path: Path, chosen: Any, some: Cohort, patients: np.ndarray, kept: Any) -> Any:
        spoke.update((path.parent.name, path.stem, some.ids[patient]) for patient in patients)
        return truly(path, chosen, some, patients, kept)

    monkeypatch.setattr(lone_cells, "predict_lone_cells_with", noted)
    found = held_out_cells(ensemble, cohort, rows, candidates.fold_P)
    assert found is not None and not np.isnan(found.evidence_C).any()
    expected = {
        (member["trial"], f"repeat-{row.repeat}-fold-{row.fold}", row.patient)
        for row in run.folds.query("fold >= 0").itertuples()
        for member in ensemble.members
    }
    assert spoke == expected  # every such model of every member, and no other


def test_those_who_speak_are_those_whose_judgement_is_out_of_fold(
    run: Run, ensemble: Ensemble, cohort: Cohort, candidates: Candidates, rows: np.ndarray
) -> None:
    first = [candidates.table["trial"].tolist().index(member["trial"]) for member in ensemble.members]
    for fold in np.unique(candidates.fold_P):
        of_fold = candidates.fold_P == fold
        said = [
            predict_with(path, chosen, cohort, rows[of_fold]).probability_P
            for path, chosen in held_out_models(ensemble, fold)
        ]
        known = candidates.oof_CP[[np.flatnonzero(candidates.trial_C == trial)[-1] for trial in first]][:, of_fold]
        np.testing.assert_allclose(np.mean(said, axis=0), known.mean(axis=0), atol=0.02)


def test_what_is_said_of_a_patient_does_not_depend_on_who_else_is_asked_for(
    ensemble: Ensemble, cohort: Cohort, candidates: Candidates, rows: np.ndarray
) -> None:
    many = held_out_cells(ensemble, cohort, rows, candidates.fold_P)
    one = held_out_cells(ensemble, cohort, rows[4:5], candidates.fold_P[4:5])
    assert many is not None and one is not None
    mine = slice(*many.cohort.starts[4:6])
    np.testing.assert_allclose(one.probability_C, many.probability_C[mine], atol=1e-6)
    np.testing.assert_array_equal(one.cohort.pictures_CSS3, cohort.bag(rows[4]))
    first, second = one.saliency(np.array([0, 1]))
    among = many.saliency(many.cohort.starts[[4, 7]] + 1)[0]
    np.testing.assert_array_equal(second, among)
    assert not np.array_equal(first, second)


def test_cells_for_and_against_are_told_apart(
    ensemble: Ensemble, cohort: Cohort, candidates: Candidates, rows: np.ndarray
) -> None:
    found = held_out_cells(ensemble, cohort, rows, candidates.fold_P)
    assert found is not None
    for patient in range(len(rows)):
        tumoral, reactive = found.leading(patient, 2)
        assert len(tumoral) <= 2 and (found.evidence_C[tumoral] > 0).all() and (found.evidence_C[reactive] < 0).all()
        mine = found.evidence_C[slice(*found.cohort.starts[patient : patient + 2])]
        assert mine.max() <= 0 or found.evidence_C[tumoral[0]] == mine.max()
        assert mine.min() >= 0 or found.evidence_C[reactive[0]] == mine.min()


def test_of_many_cells_some_evenly_spaced_are_looked_at(
    ensemble: Ensemble, cohort: Cohort, candidates: Candidates, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_EVALUATIONS", 0)
    monkeypatch.setattr(module, "FEWEST", 2)
    found = held_out_cells(ensemble, cohort, rows[:2], candidates.fold_P[:2])
    assert found is not None
    bags = [cohort.bag(row) for row in rows[:2]]
    assert found.number_C.tolist() == [0, len(bags[0]) - 1, 0, len(bags[1]) - 1]
    assert found.whole_P.tolist() == [len(bag) for bag in bags]
    np.testing.assert_array_equal(found.cohort.pictures_CSS3[1], bags[0][-1])


def test_clinical_members_say_nothing_of_cells(
    ensemble: Ensemble, cohort: Cohort, candidates: Candidates, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks, baseline = list(ensemble.fold_models()), configuration({"clinical": {"logistic": {}}}, "test")
    clinical = [(path, baseline) for path, _ in networks]
    monkeypatch.setattr(Ensemble, "fold_models", lambda self: iter(clinical + networks))
    assert all(chosen.kind == "network" for _, chosen in held_out_models(ensemble, 1)) and held_out_models(ensemble, 1)
    monkeypatch.setattr(Ensemble, "fold_models", lambda self: iter(clinical))
    assert held_out_cells(ensemble, cohort, rows, candidates.fold_P) is None


def test_an_ensemble_of_other_folds_or_patients_is_told(
    ensemble: Ensemble, cohort: Cohort, candidates: Candidates
) -> None:
    assert matches_run(ensemble, cohort, candidates)
    assert not matches_run(ensemble, cohort, replace(candidates, fold_P=candidates.fold_P[::-1]))
    assert not matches_run(ensemble, replace(cohort, patients=cohort.patients.assign(age_years=50.0)), candidates)
