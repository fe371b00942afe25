"""A run on disk: where its files lie, and how a finished or unfinished one is found and read."""

import json
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow import ArrowException

from lymphtune import console
from lymphtune.config import Configuration, configuration
from lymphtune.errors import InputError, one_line, reason
from lymphtune.files import is_held, read_yaml
from lymphtune.tables import check_table

RUNS = Path("runs")
DRIVER = "driver.json"  # of a run: which process drives it, and holds its lock while it does
PROGRESS = "progress.json"  # of a run: how far it is, written every few seconds while it is driven
SILENT_S = 60.0  # a search on another host, whose lock cannot be seen, is taken for dead after so long


@dataclass(frozen=True)
class Run:
    """The folder of one search; every file in it is written whole or not at all."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def description(self) -> dict[str, Any]:
        """Return run.yaml: space, cohort, protocol, versions; raises InputError where it is not a run's."""
        given = read_yaml(self.path / "run.yaml")
        parts = [given.get(key) for key in ("cohort", "protocol")] if isinstance(given, dict) else [None]
        whole = all(isinstance(part, dict) for part in parts) and {"created"} <= set(given)
        if not whole or not {"hash", "reference_date", "data"} <= set(given["cohort"]):
            raise InputError(f"{self.path / 'run.yaml'}: not the description of a run; name the folder of a run")
        return given

    @property
    def status(self) -> str:
        """Return running, done, interrupted, stopped, out of time, paused, failed, or broken off: nobody drives it."""
        status = str(self.description.get("status", "done"))
        if is_held(self.path / DRIVER):
            return "running"
        if status != "running":
            return status
        here = self.driver.get("host") == socket.gethostname()
        try:
            silent_s = time.time() - (self.path / PROGRESS).stat().st_mtime
        except FileNotFoundError:
            silent_s = SILENT_S
        return "broken off" if here or silent_s >= SILENT_S else "running"

    @property
    def driver(self) -> dict[str, Any]:
        """Return pid, host and start of the process that drives the run, or did last; {} where that is not known."""
        try:
            return dict(json.loads((self.path / DRIVER).read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            return {}

    @property
    def leaderboard(self) -> pd.DataFrame:
        """Return one row a trial, best first; raises InputError where no trial has ended yet."""
        path = self.path / "leaderboard.parquet"
        if not path.is_file():
            raise InputError(f"{self.path}: no trial has ended in this run yet; let its search go on")
        return read_table(path)

    @property
    def folds(self) -> pd.DataFrame:
        return read_table(self.path / "folds.parquet")

    def trial(self, trial: str) -> Path:
        return self.path / "trials" / trial

    def configuration(self, trial: str) -> Configuration:
        """Return what a trial trained; raises InputError where its file is missing or holds none."""
        path = self.trial(trial) / "config.yaml"
        given = read_yaml(path)
        if not isinstance(given, dict) or "configuration" not in given:
            raise InputError(f"{path}: holds no configuration; search again")
        return configuration(given["configuration"], str(path))


def read_table(path: Path, filters: list[tuple[str, str, Any]] | None = None) -> pd.DataFrame:
    """Return a Parquet table; raises InputError where it is missing, damaged or too large."""
    try:
        check_table(path)
        return pd.read_parquet(path, filters=filters)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, ValueError, ArrowException) as error:
        raise InputError(f"{path}: damaged, not a Parquet table ({reason(error)})") from error


def find_run(name: str | None, runs: Path = RUNS) -> Run:
    """Return the named run, or the latest one; raises InputError naming what there is."""
    if name is None:
        if not (found := all_runs(runs)):
            raise InputError(f"{runs}: no run in it; `lymphtune search` makes one, or name another folder with --runs")
        return found[-1]
    for path in (runs / name, Path(name)):
        if (path / "run.yaml").is_file():
            return Run(path)
    there = ", ".join(run.name for run in all_runs(runs)) or "none"
    raise InputError(f"{runs / name}: no such run; there are: {there}")


def all_runs(runs: Path = RUNS) -> list[Run]:
    """Return the runs of a folder, the latest last; what is damaged is named and left out."""
    created = {}
    for path in runs.glob("*/run.yaml"):
        try:
            created[path.parent] = str(Run(path.parent).description["created"])
        except InputError as error:
            console.say(one_line(str(error)))
    return [Run(path) for path in sorted(created, key=lambda path: (created[path], path.name))]
