"""MLflow: one run a trial, in an experiment with the search's name; a folder is a SQLite database and its artifacts."""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lymphtune.masking import masked
from lymphtune.searching.trackers.tracker import Delivered, Ending, TrackedTrial

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # at least two letters: C: is a disk
SQLITE = "sqlite:///"
DATABASE, ARTIFACTS = "mlflow.db", "artifacts"  # in a folder
DEFAULTS = {  # where the user has not set them: no tries for minutes, no report of its use, no links on stdout
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
STATUSES = {"done": "FINISHED", "stopped": "KILLED", "failed": "FAILED", "interrupted": "KILLED"}  # in MLflow's words
TRIAL, SEARCH, STATUS, REASON = "lymphtune.trial", "lymphtune.search", "lymphtune.status", "lymphtune.reason"
AT_ONCE = 100  # parameters of one request


def folder_of(given: str) -> Path | None:
    """Return the folder that is meant, None where a server or a database is."""
    if given.startswith("file:"):
        return Path(unquote(urlsplit(given).path)).absolute()
    if SCHEME.match(given) or given == "databricks":
        return None
    return Path(given).expanduser().absolute()


def database_of(given: str) -> Path | None:
    """Return the file of a SQLite database, None where something else is meant."""
    if folder := folder_of(given):
        return folder / DATABASE
    return Path(given.removeprefix(SQLITE)).absolute() if given.startswith(SQLITE) else None


def absolute(given: str) -> str:
    """Return what means the same in any working directory: a resumed search may be started from another one."""
    if folder := folder_of(given):
        return str(folder)
    return f"{SQLITE}{database}" if (database := database_of(given)) else given


def missing(given: str) -> bool:
    """Return whether packages are missing; a database needs two that MLflow's client alone does not install."""
    wanted = ["mlflow"] if given.startswith(("http:", "https:")) else ["mlflow", "sqlalchemy", "alembic"]
    return any(find_spec(name) is None for name in wanted)


def load() -> None:
    """Import MLflow, which takes seconds, with settings that suit a search."""
    os.environ |= {name: value for name, value in DEFAULTS.items() if name not in os.environ}
    import mlflow.tracking  # noqa: F401

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)  # else every table that it makes is a line


def client(given: str) -> Any:
    """Return MLflow's client for a folder or a URI."""
    load()
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=f"{SQLITE}{database}" if (database := database_of(given)) else given)


@dataclass
class _Run:
    """A run there, and what it holds."""

    id: str
    epochs: int = 0
    status: str = ""
    described: bool = False  # its parameters are there


class MlflowTracker:
    """See Tracker."""

    def __init__(self, given: str, search: str) -> None:
        self.place = f"MLflow at {masked(given)}"
        self.given, self.search, self.folder = given, search, folder_of(given)
        self._experiment = ""
        self._runs: dict[str, _Run] | None = None  # by the trial's hash; None: to be asked for

    @cached_property
    def client(self) -> Any:
        return client(self.given)

    def delivered(self, trial: TrackedTrial) -> Delivered:
        run = self._there(trial).get(trial.hash)
        return Delivered(run.epochs, run.status) if run else Delivered()

    def trial_started(self, trial: TrackedTrial, at_s: float) -> None:
        self._run(trial, at_s)

    def epoch(self, trial: TrackedTrial, metrics: Mapping[str, float], at_s: float) -> None:
        from mlflow.entities import Metric

        run, epoch = self._run(trial, at_s), int(metrics["epoch"])
        if epoch > run.epochs:
            points = [Metric(name, value, int(1000 * at_s), epoch) for name, value in metrics.items()]
            self.client.log_batch(run.id, metrics=points)
            run.epochs = epoch

    def trial_ended(self, trial: TrackedTrial, ending: Ending, at_s: float) -> None:
        run = self._run(trial, at_s)
        self._tag(run, {STATUS: ending.status, REASON: ending.reason})
        self.client.set_terminated(run.id, STATUSES[ending.status], int(1000 * at_s))
        run.status = ending.status

    def close(self) -> None:
        """Nothing is kept open."""

    def _run(self, trial: TrackedTrial, at_s: float) -> _Run:
        """Return the trial's run, which is running: a new one, or that of an earlier search, opened again."""
        run = self._there(trial).get(trial.hash) or self._create(trial, at_s)
        if not run.described:
            self._describe(run, trial)
        if run.status:
            self.client.update_run(run.id, "RUNNING")
            self._tag(run, {STATUS: "running", REASON: ""})
            run.status = ""
        return run

    def _create(self, trial: TrackedTrial, at_s: float) -> _Run:
        own = {f"lymphtune.{name}": value for name, value in trial.tags.items()}
        tags = own | {TRIAL: trial.hash, SEARCH: trial.search, STATUS: "running"}
        runs, self._runs = self._there(trial), None  # asked for again if this fails: it may be there all the same
        created = self.client.create_run(self._experiment, int(1000 * at_s), tags, trial.name)
        self._runs = runs
        runs[trial.hash] = _Run(created.info.run_id)
        return runs[trial.hash]

    def _describe(self, run: _Run, trial: TrackedTrial) -> None:
        from mlflow.entities import Param

        parameters = [Param(name, str(value)) for name, value in trial.parameters.items()]
        for start in range(0, len(parameters), AT_ONCE):
            self.client.log_batch(run.id, params=parameters[start : start + AT_ONCE])
        run.described = True

    def _tag(self, run: _Run, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(run.id, tags=[RunTag(name, value) for name, value in tags.items()])

    def _there(self, trial: TrackedTrial) -> dict[str, _Run]:
        """Return the runs of the trial's search by their trial's hash."""
        if self._runs is None:
            self._experiment = self._experiment or self._experiment_id()
            found, token = dict[str, _Run](), None
            while True:
                page = self.client.search_runs(
                    [self._experiment], f"tags.`{SEARCH}` = '{trial.search}'", page_token=token
                )
                found |= {run.data.tags[TRIAL]: _read(run) for run in page if TRIAL in run.data.tags}
                token = page.token
                if not token:
                    break
            self._runs = found
        return self._runs

    def _experiment_id(self) -> str:
        """Return the experiment of the search's name, made where there is none."""
        if there := self.client.get_experiment_by_name(self.search):
            return str(there.experiment_id)
        artifacts = (self.folder / ARTIFACTS / self.search).as_uri() if self.folder else None
        return str(self.client.create_experiment(self.search, artifacts))


def _read(run: Any) -> _Run:
    status = "" if run.info.status == "RUNNING" else run.data.tags.get(STATUS, "")
    return _Run(run.info.run_id, int(run.data.metrics.get("epoch", 0)), status, bool(run.data.params))
