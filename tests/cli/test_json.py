"""--json: stdout is one document and nothing else, of every command that has a result."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lymphtune.cli import main, parser
from lymphtune.ensembling.bundle import Ensemble
from lymphtune.runs.run import Run

COMMANDS = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]


@pytest.fixture
def run(searched: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A copy of the finished run in ./runs, free to be added to."""
    monkeypatch.chdir(tmp_path)
    return Run(Path(shutil.copytree(searched.path, tmp_path / "runs" / "copy")))


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Return what a command says under --json; NaN is no JSON, and refused here."""

    def call(*given: object, code: int = 0) -> Any:
        capsys.readouterr()
        assert main([*map(str, given), "--json"]) == code
        return json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(word))

    return call


def test_every_command_with_a_result_has_it() -> None:
    without = [name for name, command in COMMANDS.items() if "--json" not in command._option_string_actions]
    assert without == ["completion"]


@pytest.mark.slow
def test_results_of_a_run(run: Run, told) -> None:  # type: ignore[no-untyped-def]
    board = run.leaderboard
    (row,) = told("runs")
    assert row["name"] == "copy" and row["status"] == "done"
    status = told("status", "copy")
    assert [one["log_loss"] for one in status["leaderboard"]] == [None if x != x else x for x in board["log_loss"]]
    assert 0 <= status["busy"] <= 1
    ensemble = told("ensemble", "--top", 2, "--calibration", "none")
    scores = pd.read_parquet(Path(ensemble["ensemble"]) / "scores.parquet")
    assert [row["honest"] for row in ensemble["scores"]] == list(scores["honest"])
    saved = Ensemble.load(ensemble["ensemble"])
    assert [row["trial"] for row in ensemble["members"]] == [member["trial"] for member in saved.members]
    assert {"top", "median"} <= {row["recipe"] for row in told("recipes", "--run", "copy")["recipes"]}
    found = told("stability", "--from", "all", "--sizes", "1,2", "--pool", 4, "--draws", 5)
    assert [row["size"] for row in found["sizes"]] == [1, 2]
    submission = told("submit", "--check", ensemble["submission"])
    assert submission["n_patients"] == 3 and submission["n_errors"] == 0


def test_faults_are_a_document_and_one_line(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("submission.csv").write_text("ID,Predicted\nP1,7\n")
    assert main(["submit", "--check", "submission.csv", "--json"]) == 2
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["n_errors"] == sum(one["severity"] == "error" for one in found["findings"]) > 1
    (line,) = said.err.splitlines()
    assert line.startswith("lymphtune: submission.csv: 1 patient, ")
    assert main(["stop", "copy", "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "no search to stop" in said.err


def test_a_search_and_its_price(run: Run, told) -> None:  # type: ignore[no-untyped-def]
    price = told("search", "--space", "tiny", "--data", run.description.cohort.data, "--trials", 1, "--dry-run")
    assert len(price["trials"]) == 1 and price["bill"]["seconds_at_most"] >= price["bill"]["seconds"] > 0
    ended = told("search", "--resume", "copy")
    assert ended["run"] == str(run.path) and ended["status"] == "done"
    assert len(ended["leaderboard"]) == len(run.leaderboard)


def test_cohorts_and_lists(tiny_cohort_folder: Path, tmp_path: Path, told) -> None:  # type: ignore[no-untyped-def]
    packed = tmp_path / "tiny.parquet"
    assert told("pack", tiny_cohort_folder, packed) == {"cohort": str(packed)}
    assert {"top", "greedy"} <= {row["name"] for row in told("recipes")}
    assert {"mixed", "study"} <= {row["name"] for row in told("spaces")}
    assert told("spaces", "tiny")["space"] and len(told("spaces", "mixed", "--sample", 3)) == 3
    assert told("runs", "--runs", tmp_path / "none") == []
