"""A small run of version 0.1 with its cohort: it opens, is extended, averaged and applied by this version."""

import shutil
import zipfile
from pathlib import Path

import pandas as pd
import pytest

import lymphtune
from lymphtune.cli import main
from lymphtune.cluster.driver import resume
from lymphtune.runs.run import Run, find_run

FIXTURE = Path(__file__).parent / "fixtures" / "run-0.1.zip"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the cohort and, under runs/, the run `old` of two networks and two epochs."""
    with zipfile.ZipFile(FIXTURE) as packed:
        packed.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_opens(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = find_run("old", folder / "runs")
    assert run.status == "done" and run.description.protocol.folds == 2
    assert len(run.leaderboard.query("kind == 'network'")) == 2
    for command in (["status", "old"], ["runs"]):
        assert main(command) == 0
    assert "old" in capsys.readouterr().out


def test_its_trials_are_averaged_and_applied(folder: Path) -> None:
    made = lymphtune.ensemble(run=folder / "runs" / "old", data="cohort", top=2, name="anew")
    saved = lymphtune.Ensemble.load(folder / "runs" / "old" / "ensembles" / "top")
    cohort = lymphtune.load_cohort("cohort")
    rows = cohort.to_predict
    pd.testing.assert_series_equal(
        pd.Series(made.predict(cohort, rows).probability_P), pd.Series(saved.predict(cohort, rows).probability_P)
    )


@pytest.mark.slow
def test_it_is_extended(folder: Path, ray_session: None) -> None:
    resume("old", folder / "runs", "cohort", epochs=3)
    assert set(Run(folder / "runs" / "old").leaderboard.query("kind == 'network'")["epochs"]) == {3}


def test_its_saved_ensemble_predicts_new_patients(folder: Path) -> None:
    shutil.rmtree(folder / "cohort" / "trainset")
    table = pd.read_csv(folder / "cohort" / "clinical_annotation.csv", dtype=str, keep_default_na=False)
    table[table["LABEL"] == "-1"].to_csv(folder / "cohort" / "clinical_annotation.csv", index=False)
    assert main(["predict", "--ensemble", "runs/old/ensembles/top", "--data", "cohort", "--out", "out"]) == 0
    assert len(pd.read_csv(folder / "out" / "predictions.csv")) == 3
