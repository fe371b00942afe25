"""Real searches that report to MLflow: every trial is there, once, with its name, its curve and its end."""

import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lymphtune.cli import main
from lymphtune.runs.run import Run
from lymphtune.searching.trackers import tracking
from lymphtune.searching.trackers.tracking import _finite, flat
from tests.searching.trackers.mlflow_server import Server, served

BASELINES = 4


def test_a_configuration_is_named_by_its_paths() -> None:
    tree = {"model": {"encoder": {"resnet": {"filters": 8}}, "head": {}}, "bag": None}
    assert flat(tree) == {"model.encoder.resnet.filters": 8, "model.head": {}, "bag": None}


def test_only_numbers_are_reported() -> None:
    assert _finite({"a": 1, "b": math.nan, "c": -math.inf, "d": 0.5}) == {"a": 1.0, "d": 0.5}


def names(run: Run) -> list[str]:
    return sorted(f"{row.trial[:6]} {row.title}" for row in run.leaderboard.itertuples())


def runs_in(folder: Path, experiment: str) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    there = client.get_experiment_by_name(experiment)
    assert there is not None
    return [(run, client) for run in client.search_runs([there.experiment_id])]


def steps(run: Any, client: Any) -> list[int]:
    return [point.step for point in client.get_metric_history(run.info.run_id, "log_loss")]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch, ray_session: None) -> None:
    """A search that waits for its trackers on a busy machine as well."""
    monkeypatch.setattr(tracking, "PATIENCE_S", 120.0)


@pytest.mark.slow
def test_a_search_reports_every_trial_once_to_a_folder(
    tiny_cohort_folder: Path, tmp_path: Path, mlflow_folder: Path, patient: None, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["search", "--space", "tiny", "--data", str(tiny_cohort_folder), "--folds", "2", "--name", "tracked"]
    given += ["--runs", str(tmp_path / "runs"), "--mlflow", str(mlflow_folder)]
    assert main([*given, "--trials", "3", "--epochs", "3"]) == 0
    run = Run(tmp_path / "runs" / "tracked")
    table = run.leaderboard.set_index("trial")
    assert sum(table["baseline"]) == BASELINES and len(table) == BASELINES + 3
    found = runs_in(mlflow_folder, "tracked")
    assert sorted(there.info.run_name for there, _ in found) == names(run)
    for there, client in found:
        row = table.loc[there.data.tags["lymphtune.trial"]]
        assert (there.info.status, there.data.tags["lymphtune.status"]) == ("FINISHED", row["status"])
        assert steps(there, client) == list(range(1, row["epochs"] + 1))
        assert there.data.metrics["log_loss"] == pytest.approx(row["log_loss"])
        assert there.data.params.keys() >= {"seed"} and len(there.data.params) > 1
    assert main([*given, "--trials", "4", "--epochs", "4"]) == 0
    found = runs_in(mlflow_folder, "tracked")
    assert sorted(there.info.run_name for there, _ in found) == names(run)
    epochs = run.leaderboard.set_index("trial")["epochs"]  # 4 where early stopping let them
    for there, client in found:
        assert steps(there, client) == list(range(1, epochs[there.data.tags["lymphtune.trial"]] + 1))
    assert max(epochs) == 4
    statuses = run.leaderboard.set_index("trial")["status"]
    for there, _ in found:
        stopped = statuses[there.data.tags["lymphtune.trial"]] == "stopped"
        assert there.info.status == ("KILLED" if stopped else "FINISHED")
    assert "reporting failed" not in capsys.readouterr().err


@pytest.fixture
def server() -> Iterator[Server]:
    pytest.importorskip("mlflow")
    with served() as server:
        yield server


@pytest.mark.slow
def test_a_server_that_is_killed_stops_no_search_and_gets_the_rest_when_it_is_resumed(
    tiny_cohort_folder: Path,
    tmp_path: Path,
    server: Server,
    ray_session: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tracking, "PATIENCE_S", 1.0)
    server.kill_when = lambda: len(server.runs) > BASELINES  # a network trains
    given = ["search", "--space", "tiny", "--data", str(tiny_cohort_folder), "--folds", "2", "--name", "tracked"]
    given += ["--runs", str(tmp_path / "runs"), "--mlflow", server.address, "--trials", "3", "--epochs", "3"]
    assert main(given) == 0
    err = capsys.readouterr().err
    assert err.count("reporting failed") == 1 and "Traceback" not in err
    assert "records were not delivered; `lymphtune search --resume" in err
    run = Run(tmp_path / "runs" / "tracked")
    assert run.description.status == "done" and "RUNNING" in server.statuses().values()
    for thread in threading.enumerate():
        if thread.name == "lymphtune-tracker":
            thread.join(120.0)
    server.kill_when = lambda: False
    server.start()
    monkeypatch.setattr(tracking, "PATIENCE_S", 120.0)
    assert main(given) == 0
    assert "not delivered" not in capsys.readouterr().err
    assert sorted(server.statuses()) == names(run) and len(server.runs) == BASELINES + 3
    assert set(server.statuses().values()) == {"FINISHED"}
    for row in run.leaderboard.itertuples():
        assert server.steps(f"{row.trial[:6]} {row.title}") == list(range(1, row.epochs + 1))
