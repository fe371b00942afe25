"""Real searches that report to MLflow: every trial is there, once, with its name, its curve and its end."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lymphtune.searching.trackers.tracking import _finite, flat
from tests.searching.processes import Search
from tests.searching.trackers.mlflow_server import Server, served

SMALL = ("--trials", 3, "--epochs", 3)
BASELINES = 4


def test_a_configuration_is_named_by_its_paths() -> None:
    tree = {"model": {"encoder": {"resnet": {"filters": 8}}, "head": {}}, "bag": None}
    assert flat(tree) == {"model.encoder.resnet.filters": 8, "model.head": {}, "bag": None}


def test_only_numbers_are_reported() -> None:
    assert _finite({"a": 1, "b": math.nan, "c": -math.inf, "d": 0.5}) == {"a": 1.0, "d": 0.5}


def names(search: Search) -> list[str]:
    table = search.run.leaderboard
    return sorted(f"{row.trial[:6]} {row.title}" for row in table.itertuples())


def runs_in(folder: Path, experiment: str) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    there = client.get_experiment_by_name(experiment)
    assert there is not None
    return [(run, client) for run in client.search_runs([there.experiment_id])]


def steps(run: Any, client: Any) -> list[int]:
    return [point.step for point in client.get_metric_history(run.info.run_id, "log_loss")]


@pytest.mark.slow
def test_a_search_reports_every_trial_once_to_a_folder(search: Search, mlflow_folder: Path) -> None:
    ended = search.start(*SMALL, "--mlflow", mlflow_folder).end()
    assert ended.code == 0 and "reporting failed" not in ended.err, ended.err
    table = search.run.leaderboard.set_index("trial")
    assert sum(table["baseline"]) == BASELINES and len(table) == BASELINES + 3
    found = runs_in(mlflow_folder, search.run.name)
    assert sorted(run.info.run_name for run, _ in found) == names(search)
    for run, client in found:
        row = table.loc[run.data.tags["lymphtune.trial"]]
        assert (run.info.status, run.data.tags["lymphtune.status"]) == ("FINISHED", row["status"])
        assert steps(run, client) == list(range(1, row["epochs"] + 1))
        assert run.data.metrics["log_loss"] == pytest.approx(row["log_loss"])
        assert run.data.params.keys() >= {"seed"} and len(run.data.params) > 1
    ended = search.resume("--trials", 4, "--epochs", 4).end()
    assert ended.code == 0 and "reporting failed" not in ended.err, ended.err
    found = runs_in(mlflow_folder, search.run.name)
    assert sorted(run.info.run_name for run, _ in found) == names(search)
    networks = [steps(run, client) for run, client in found if run.data.tags["lymphtune.kind"] == "network"]
    assert networks == [[1, 2, 3, 4]] * 4
    assert {run.info.status for run, _ in found} == {"FINISHED"}


@pytest.fixture
def server() -> Iterator[Server]:
    pytest.importorskip("mlflow")
    with served() as server:
        yield server


@pytest.mark.slow
def test_a_server_that_is_killed_stops_no_search_and_gets_the_rest_when_it_is_resumed(
    search: Search, server: Server
) -> None:
    search.start(*SMALL, "--mlflow", server.address)
    search.until(lambda: len(server.runs) > BASELINES)  # a network trains
    server.kill()
    ended = search.end()
    assert ended.code == 0, ended.err
    assert ended.err.count("reporting failed") == 1 and "Traceback" not in ended.err
    assert "records were not delivered; `lymphtune search --resume" in ended.err
    assert "RUNNING" in server.statuses().values()
    server.start()
    ended = search.resume().end()
    assert ended.code == 0 and "not delivered" not in ended.err, ended.err
    assert sorted(server.statuses()) == names(search)
    assert set(server.statuses().values()) == {"FINISHED"} and len(server.runs) == BASELINES + 3
    for row in search.run.leaderboard.itertuples():
        assert server.steps(f"{row.trial[:6]} {row.title}") == list(range(1, row.epochs + 1))
