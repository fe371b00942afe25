"""What becomes of an ensemble when another one is made under its name, and which files it consists of."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

import lymphtune
from lymphtune.ensembling.export import export_onnx
from lymphtune.errors import InputError
from lymphtune.reporting.facts import saved_ensemble
from lymphtune.runs.run import Run


@pytest.fixture
def own(searched: Run, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(searched.path, tmp_path / "own")))


def folders(run: Run) -> set[str]:
    return {path.name for path in (run.path / "ensembles").iterdir()}


def test_an_ensemble_made_in_another_way_is_kept(own: Run, capsys: pytest.CaptureFixture[str]) -> None:
    first = lymphtune.ensemble(run=own.path, top=1)
    (first.path / "mine.txt").write_text("handed over")
    lymphtune.ensemble(run=own.path, top=2, threshold="0.4")
    assert folders(own) == {"top", "top-1"} and (own.path / "ensembles" / "top-1" / "mine.txt").is_file()
    assert "an ensemble with other options existed; renamed to top-1" in capsys.readouterr().err
    lymphtune.ensemble(run=own.path, top=2, threshold="0.4")
    assert folders(own) == {"top", "top-1"}  # the same again takes its place
    assert "renamed to" not in capsys.readouterr().err
    (own.path / "ensembles" / "top" / "ensemble.yaml").write_text("{")
    newest = saved_ensemble(own, None)
    assert newest is not None and newest.path.name == "top-1"
    assert "skipped a damaged ensemble: " in capsys.readouterr().err


def test_an_ensemble_has_the_name_that_is_asked_for(own: Run) -> None:
    saved = lymphtune.ensemble(run=own.path, top=1, name="mine")
    assert saved.path.name == "mine" and folders(own) == {"mine"}
    oof, folds = pd.read_parquet(saved.path / "oof.parquet"), own.folds
    assert set(oof["patient"]) == set(folds.loc[folds["fold"] >= 0, "patient"])
    table = pd.read_csv(saved.path / "predictions.csv", dtype={"patient": str})
    assert list(table.columns) == list(pd.read_parquet(saved.path / "predictions.parquet").columns)
    with pytest.raises(InputError, match=r"--name '../x': expected letters"):
        lymphtune.ensemble(run=own.path, name="../x")


def test_export_replaces_a_file_only_when_told_to(tmp_path: Path) -> None:
    (tmp_path / "top.onnx").write_text("mine")
    with pytest.raises(InputError, match=r"top.onnx: exists; name another file with --onnx, or replace it with --ov"):
        export_onnx(tmp_path / "none", tmp_path / "top.onnx")
    with pytest.raises(InputError, match=r"no ensemble.yaml in it"):
        export_onnx(tmp_path / "none", tmp_path / "top.onnx", overwrite=True)
    assert (tmp_path / "top.onnx").read_text() == "mine"
