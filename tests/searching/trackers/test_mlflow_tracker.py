"""MLflow's runs: written into a real SQLite database, read back with MLflow's own client."""

import os
from pathlib import Path
from typing import Any

import pytest

from lymphtune.searching.trackers.mlflow_tracker import (
    DEFAULTS,
    MlflowTracker,
    absolute,
    client,
    database_of,
    folder_of,
    missing,
)
from lymphtune.searching.trackers.tracker import Delivered, Ending, TrackedTrial
from tests.searching.trackers.mlflow_server import served

pytest.importorskip("mlflow")
SEARCH = "2026-11-27T22:00:00+00:00"


def trial(digit: str = "a", search: str = SEARCH) -> TrackedTrial:
    parameters = {"model.encoder.vanilla.filters": 8, "seed": 3} | {f"p{n}": n for n in range(150)}
    return TrackedTrial(digit * 16, f"{digit * 6} vanilla mean", search, parameters, {"cohort": "simulated"})


def runs_of(tracker: MlflowTracker) -> list[Any]:
    experiment = tracker.client.get_experiment_by_name(tracker.search)
    return list(tracker.client.search_runs([experiment.experiment_id]))


def curve(tracker: MlflowTracker, run: Any, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in tracker.client.get_metric_history(run.info.run_id, name)]


def test_a_trial_is_a_named_run_with_parameters_curves_and_its_end(mlflow_folder: Path) -> None:
    tracker = MlflowTracker(str(mlflow_folder), "whole")
    tracker.trial_started(trial(), 1000.0)
    for epoch in (1, 2, 3):
        tracker.epoch(trial(), {"epoch": epoch, "log_loss": 1 / epoch}, 1000.0 + epoch)
    tracker.trial_ended(trial(), Ending("done", "", 3), 1004.0)
    (run,) = runs_of(tracker)
    assert run.info.run_name == "aaaaaa vanilla mean"
    assert (run.info.status, run.info.start_time, run.info.end_time) == ("FINISHED", 1_000_000, 1_004_000)
    assert run.data.params == {name: str(value) for name, value in trial().parameters.items()}
    assert curve(tracker, run, "log_loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    tags = {"lymphtune.trial": "a" * 16, "lymphtune.status": "done", "lymphtune.cohort": "simulated"}
    assert tags.items() <= run.data.tags.items()
    assert run.info.artifact_uri.startswith((mlflow_folder / "artifacts" / "whole").as_uri())


@pytest.mark.parametrize(("status", "there"), [("stopped", "KILLED"), ("failed", "FAILED"), ("interrupted", "KILLED")])
def test_how_a_trial_ended_can_be_told(mlflow_folder: Path, status: str, there: str) -> None:
    tracker = MlflowTracker(str(mlflow_folder), f"ended-{status}")
    tracker.trial_ended(trial(), Ending(status, "a reason", 0), 1000.0)
    (run,) = runs_of(tracker)
    assert (run.info.status, run.data.tags["lymphtune.status"]) == (there, status)
    assert run.data.tags["lymphtune.reason"] == "a reason"


def test_a_resumed_search_continues_its_runs(mlflow_folder: Path) -> None:
    before = MlflowTracker(str(mlflow_folder), "resumed")
    for epoch in (1, 2):
        before.epoch(trial(), {"epoch": epoch, "log_loss": 1.0}, 1000.0)
    before.trial_ended(trial(), Ending("interrupted", "", 2), 1001.0)
    after = MlflowTracker(str(mlflow_folder), "resumed")
    assert after.delivered(trial()) == Delivered(2, "interrupted")
    assert after.delivered(trial("b")) == Delivered()
    after.trial_started(trial(), 1002.0)
    assert [run.info.status for run in runs_of(after)] == ["RUNNING"]
    for epoch in (2, 3):
        after.epoch(trial(), {"epoch": epoch, "log_loss": 0.5}, 1003.0)
    after.trial_ended(trial(), Ending("done", "", 3), 1004.0)
    (run,) = runs_of(after)
    assert run.info.status == "FINISHED" and curve(after, run, "log_loss") == [(1, 1.0), (2, 1.0), (3, 0.5)]


def test_a_server_gets_the_same_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    with served() as server:
        tracker = MlflowTracker(server.address, "served")
        tracker.epoch(trial(), {"epoch": 1, "log_loss": 0.5}, 1000.0)
        tracker.trial_ended(trial(), Ending("done", "", 1), 1001.0)
        assert server.steps("aaaaaa vanilla mean") == [1]
        assert server.statuses() == {"aaaaaa vanilla mean": "FINISHED"}
        assert MlflowTracker(server.address, "served").delivered(trial()) == Delivered(1, "done")
    assert "".join(capfd.readouterr()) == ""  # MLflow would print links among the results


def test_what_the_user_set_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DEFAULTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    client("http://127.0.0.1:9")
    assert {name: os.environ[name] for name in DEFAULTS} == DEFAULTS | {"MLFLOW_HTTP_REQUEST_TIMEOUT": "77"}


def test_another_search_of_the_same_name_has_its_own_runs(mlflow_folder: Path) -> None:
    MlflowTracker(str(mlflow_folder), "twice").trial_started(trial(), 1000.0)
    other = MlflowTracker(str(mlflow_folder), "twice")
    other.trial_started(trial(search="another"), 1000.0)
    assert len(runs_of(other)) == 2


def test_a_run_whose_making_was_not_confirmed_is_not_made_twice(
    mlflow_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = MlflowTracker(str(mlflow_folder), "doubtful")
    create = tracker.client.create_run

    def create_and_break_off(*given: Any) -> None:
        create(*given)
        raise ConnectionError("no answer")

    monkeypatch.setattr(tracker.client, "create_run", create_and_break_off)
    with pytest.raises(ConnectionError):
        tracker.trial_started(trial(), 1000.0)
    monkeypatch.undo()
    tracker.trial_started(trial(), 1000.0)
    (run,) = runs_of(tracker)
    assert len(run.data.params) == len(trial().parameters)


def test_folders_are_told_from_servers_and_databases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for given in ("mine", "./mine", str(tmp_path / "mine"), (tmp_path / "mine").as_uri()):
        assert folder_of(given) == tmp_path / "mine" and absolute(given) == str(tmp_path / "mine")
        assert database_of(given) == tmp_path / "mine" / "mlflow.db"
    assert folder_of("sqlite:///a.db") is None and database_of("sqlite:///a.db") == tmp_path / "a.db"
    assert absolute("sqlite:///a.db") == f"sqlite:///{tmp_path}/a.db"
    for given in ("http://host:5000", "https://host", "postgresql://h/d", "databricks", "databricks://mine"):
        assert folder_of(given) is None and database_of(given) is None and absolute(given) == given


def test_a_database_needs_more_packages_than_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "lymphtune.searching.trackers.mlflow_tracker.find_spec"
    monkeypatch.setattr(module, lambda name: None if name == "alembic" else name)
    assert missing("folder") and missing("sqlite:///a.db") and not missing("http://host:5000")
