"""How an ensemble holds under shifts: by models that never saw the patient, against the same cells as they are."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import lymphtune
from lymphtune.cli import main
from lymphtune.cohort import Cohort
from lymphtune.console import SILENT
from lymphtune.ensembling import shift_robustness as module
from lymphtune.ensembling.bundle import Ensemble
from lymphtune.ensembling.candidates import Candidates
from lymphtune.ensembling.shift_robustness import PLAIN, display_rows, held_out_predictions, read_robustness, robustness
from lymphtune.errors import InputError
from lymphtune.runs.run import Run
from lymphtune.shortcuts.shifts import SHIFTS
from lymphtune.statistics.bootstrap import resample
from lymphtune.training import loading


@pytest.fixture(scope="module")
def ensemble(run: Run) -> Ensemble:
    """Of two networks and the clinical models."""
    return lymphtune.ensemble(run=run.path, top=6, source="all")


def of_candidates(cohort: Cohort, candidates: Candidates) -> Cohort:
    """Return the patients judged, in the candidates' order, with all their cells."""
    rows = np.array([cohort.ids.index(patient) for patient in candidates.patients])
    return module.some_cells(cohort, rows, 1000)[0]


def test_with_all_cells_the_votes_are_the_out_of_fold_ones(
    ensemble: Ensemble, cohort: Cohort, candidates: Candidates, monkeypatch: pytest.MonkeyPatch
) -> None:
    votes_MP = held_out_predictions(ensemble, of_candidates(cohort, candidates), candidates.fold_P, SILENT)
    trials = candidates.table["trial"].tolist()
    rows = [np.flatnonzero(candidates.trial_C == trials.index(one["trial"]))[-1] for one in ensemble.members]
    np.testing.assert_allclose(votes_MP, candidates.oof_CP[rows], atol=0.02)


def test_nobody_is_judged_by_a_model_that_saw_them(
    run: Run, ensemble: Ensemble, cohort: Cohort, candidates: Candidates, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoke, truly = set(), loading.predict_with

    def noted(path: Path, chosen: Any, some: Cohort, patients: np.ndarray, kept: Any) -> Any:
        spoke.update((path.parent.name, path.stem, some.ids[patient]) for patient in patients)
        return truly(path, chosen, some, patients, kept)

    monkeypatch.setattr(loading, "predict_with", noted)
    monkeypatch.setattr(module, "SHIFTS", {})
    robustness(ensemble, cohort, candidates, 1)
    assert spoke == {
        (member["trial"], f"repeat-{row.repeat}-fold-{row.fold}", row.patient)
        for row in run.folds.query("fold >= 0").itertuples()
        for member in ensemble.members
    }


def test_a_shift_that_changes_nothing_changes_no_answer_and_one_that_blinds_does(
    ensemble: Ensemble, cohort: Cohort, candidates: Candidates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHIFTS", {"nothing": np.copy, "blind": np.zeros_like})
    found = robustness(ensemble, cohort, candidates, 2)
    table = found.table.set_index("shift")
    assert table.index.tolist() == [PLAIN, "nothing", "blind"] and found.n_patients == len(candidates.patients)
    for name in (PLAIN, "nothing"):
        assert (table.loc[name].drop(["balanced_accuracy", "auc"]) == 0).all()
    assert table.loc["blind", "moved_change"] > 0.001
    assert table.loc["blind", "moved_low"] <= table.loc["blind", "moved_change"] <= table.loc["blind", "moved_high"]
    assert found.conclusion.startswith("The worst of 2 shifts for balanced accuracy is '")


def drawn(labels: np.ndarray) -> np.ndarray:
    return resample(labels, 1000, 0)


def test_changes_are_counted_by_hand() -> None:
    labels, plain = np.array([0, 0, 1, 1]), np.array([0.2, 0.4, 0.6, 0.9])
    said = np.array([0.2, 0.6, 0.4, 0.9])
    table = module._table([PLAIN, "shift"], np.stack([plain, said]), labels, 0.5, drawn(labels)).set_index("shift")
    changed = table.loc["shift"]
    assert changed["balanced_accuracy"] == 0.5 and changed["balanced_accuracy_change"] == -0.5
    assert changed["auc_change"] == pytest.approx(0.75 - 1) and changed["moved_change"] == pytest.approx(0.1)
    assert changed["flipped_change"] == 0.5 and changed["balanced_accuracy_low"] == -1
    shown = display_rows(module.Robustness(table.reset_index(), 4, 1))
    assert (
        shown[0]["change"] == "" and shown[1]["change"].startswith("-0.500") and shown[1]["called otherwise"] == "50 %"
    )


def test_the_ensembles_own_threshold_calls() -> None:
    said = np.array([[0.2, 0.35, 0.6, 0.9], [0.2, 0.25, 0.6, 0.9]])
    table = module._table([PLAIN, "shift"], said, np.array([0, 0, 1, 1]), 0.3, drawn(np.array([0, 0, 1, 1])))
    assert table["flipped_change"].tolist() == [0, 0.25]
    assert table["balanced_accuracy"].tolist() == [0.75, 1] and table["balanced_accuracy_change"].tolist() == [0, 0.25]


def test_the_command_keeps_a_table_that_the_run_finds_again(
    run: Run, ensemble: Ensemble, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHIFTS", {"darker": SHIFTS["darker"]})
    assert read_robustness(run, ensemble) is None
    given = ["robustness", "--run", str(run.path), "--ensemble", ensemble.path.name, "--cells", "2"]
    assert main(given) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("shift") and said[2].startswith("darker") and max(map(len, said[:3])) <= 80
    monkeypatch.setenv("COLUMNS", "60")
    assert main(given) == 0 and max(map(len, capsys.readouterr().out.splitlines()[:-1])) <= 60
    kept = read_robustness(run, ensemble)
    assert kept is not None and (kept.cells, kept.n_patients) == (2, 12) and said[-1].endswith("robustness/top.parquet")
    assert main([*given, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cells"] == 2 and told["shifts"][1]["shift"] == "darker"
    pd.testing.assert_frame_equal(pd.DataFrame(told["shifts"]), kept.table)
    other = Ensemble(ensemble.path, ensemble.description)
    monkeypatch.setattr(module, "sha256", lambda path: "another")
    assert read_robustness(run, other) is None  # of an ensemble that has been made again


def test_what_cannot_be_asked_is_said(
    run: Run, ensemble: Ensemble, cohort: Cohort, candidates: Candidates, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="--cells 0: expected 1 to 1000"):
        module.measure_robustness(run, ensemble, None, 0)
    with pytest.raises(InputError, match="has other folds or patients"):
        robustness(ensemble, cohort, replace(candidates, fold_P=candidates.fold_P[::-1]))
    clinical = [(path, chosen) for path, chosen in ensemble.fold_models() if chosen.kind == "clinical"]
    monkeypatch.setattr(Ensemble, "fold_models", lambda self: iter(clinical))
    with pytest.raises(InputError, match="no member uses pictures"):
        robustness(ensemble, cohort, candidates)
