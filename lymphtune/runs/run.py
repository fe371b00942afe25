"""A run on disk: where its files lie, and how a finished or unfinished one is found and read."""

import re
import shlex
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow import ArrowException

from lymphtune import console
from lymphtune.config import Configuration, configuration
from lymphtune.errors import InputError, listed, one_line, reason
from lymphtune.files import RUNS, is_locked, read_json, read_yaml
from lymphtune.masking import masked
from lymphtune.platforms import is_alive
from lymphtune.runs.description import LONGEST_TEXT, RunDescription, StoppingDescription
from lymphtune.runs.storage import join
from lymphtune.runs.tables import check_table

DRIVER = "driver.json"  # of a run: which process drives it, and holds its lock while it does
REPORT, FIGURES = "report.html", "figures"  # of a run: its page, and the pictures of it
PROGRESS = "progress.json"  # of a run: how far it is, written every few seconds while it is driven
TRIAL = re.compile(r"[0-9A-Za-z_-]{1,64}")  # names a folder
SILENT_S = 60.0  # a search on another host, whose lock cannot be seen, is taken for dead after so long


@dataclass(frozen=True)
class Run:
    """The folder of one search; every file in it is written whole or not at all."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def description(self) -> RunDescription:
        """What run.yaml holds; raises InputError where it is not a run's."""
        path = self.path / "run.yaml"
        return RunDescription.read(read_yaml(path), path)

    @property
    def status(self) -> str:
        """Return running, done, interrupted, stopped, out of time, paused, failed, or broken off: nobody drives it."""
        status = self.description.status
        if is_locked(self.path / DRIVER):
            return "running"
        if status != "running":
            return status
        here = self.driver.get("host") == socket.gethostname() and not is_alive(self.driver.get("pid"))
        try:
            silent_s = time.time() - (self.path / PROGRESS).stat().st_mtime
        except FileNotFoundError:
            silent_s = SILENT_S
        return "broken off" if here or silent_s >= SILENT_S else "running"

    @property
    def driver(self) -> dict[str, Any]:
        """Return pid, host and start of the process that drives the run, or did last; {} where that is not known."""
        try:
            found = read_json(self.path / DRIVER)
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) and {"pid", "host", "since"} <= set(found) else {}

    @property
    def leaderboard(self) -> pd.DataFrame:
        """Return one row a trial, best first; raises InputError where no trial has ended yet."""
        path = self.path / "leaderboard.parquet"
        if not path.is_file():
            raise InputError(f"{self.path}: no trial has ended in this run yet; wait for its search")
        board = read_table(path)
        for name, fits in BOARD.items():
            if name in board and not fits(board[name]):
                raise InputError(f"{path}: column {name} holds what no search writes there; search again")
        return board

    @property
    def folds(self) -> pd.DataFrame:
        return read_table(self.path / "folds.parquet")

    def trial(self, trial: str) -> Path:
        """Return the folder of a trial; raises InputError where it has a name that no trial has."""
        if not TRIAL.fullmatch(trial):
            raise InputError(f"{self.path}: {trial[:100]!r} names no trial")
        return self.path / "trials" / trial

    def configuration(self, trial: str) -> Configuration:
        """Return what a trial trained; raises InputError where its file is missing or holds none."""
        path = self.trial(trial) / "config.yaml"
        given = read_yaml(path)
        if not isinstance(given, dict) or "configuration" not in given:
            raise InputError(f"{path}: holds no configuration; search again")
        return configuration(given["configuration"], str(path))


def resume_command(run: Run, storage: str | None = None) -> str:
    """Return the command that resumes a run. storage: URI of the runs, where the folder is a copy of one there."""
    place = storage or run.path.parent
    runs = "" if not storage and run.path.parent.resolve() == RUNS.resolve() else f" --runs {shlex.quote(str(place))}"
    return f"lymphtune search --resume {run.name}{runs}"


def _texts(column: pd.Series) -> bool:
    return bool(column.map(lambda text: isinstance(text, str) and len(text) <= LONGEST_TEXT).all())


def _numbers(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


BOARD: dict[str, Callable[[pd.Series], bool]] = {  # columns of the leaderboard
    "trial": lambda column: bool(
        column.map(lambda trial: isinstance(trial, str) and bool(TRIAL.fullmatch(trial))).all()
    ),
    **dict.fromkeys(("kind", "status", "reason", "title", "sees", "architecture"), _texts),
    **dict.fromkeys(("baseline", "best_epoch_picked"), pd.api.types.is_bool_dtype),
    **dict.fromkeys(("epoch", "epochs", "number"), pd.api.types.is_integer_dtype),
    **dict.fromkeys(("balanced_accuracy", "recall", "specificity", "auc", "log_loss", "seconds"), _numbers),
}


def read_table(path: Path, filters: list[tuple[str, str, Any]] | None = None) -> pd.DataFrame:
    """Return a Parquet table; raises InputError where it is missing, damaged or too large."""
    try:
        check_table(path)
        return pd.read_parquet(path, filters=filters)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, ValueError, ArrowException) as error:
        raise InputError(f"{path}: damaged, not a Parquet table ({reason(error)})") from error


def stopping_text(scheduler: str, counts: StoppingDescription | None) -> str:
    """Return in words what early stopping came to; counts: `stopping` of run.yaml, None where it is not known.

    A rule that decided nothing stopped nothing, whatever its name: a slow trial may hold up all decisions.
    """
    if counts is None or not counts.rungs:
        return scheduler if counts is None else "none"
    rungs = f"{console.counted(counts.rungs, 'rung')}"
    if not counts.decided:
        return f"{scheduler}, which decided at none of its {rungs}: no trial was stopped early"
    trials = f"{console.counted(counts.stopped, 'trial')}"
    return f"{scheduler}, which decided at {counts.decided} of its {rungs} and stopped {trials}"


def find_run(name: str | None, runs: Path = RUNS, storage: str | None = None) -> Run:
    """Return the named run, or the latest one; raises InputError naming what there is.

    storage: URI of the runs, where the folder holds copies of those there.
    """
    if name is None:
        if not (found := all_runs(runs)):
            place = masked(storage or str(runs))
            raise InputError(f"{place}: no run in it; `lymphtune search` makes one, or name another folder with --runs")
        return found[-1]
    for path in (runs / name, Path(name)):
        if (path / "run.yaml").is_file():
            return Run(path)
    there = [run.name for run in all_runs(runs)]
    place = masked(join(storage, name) if storage else str(runs / name))
    raise InputError(f"{place}: no such run; there are: {listed(name, there) or 'none'}")


def all_runs(runs: Path = RUNS) -> list[Run]:
    """Return the runs of a folder, the latest last; what is damaged is named and left out."""
    created = {}
    for path in runs.glob("*/run.yaml"):
        try:
            created[path.parent] = Run(path.parent).description.created
        except InputError as error:
            console.say(one_line(str(error)))
    return [Run(path) for path in sorted(created, key=lambda path: (created[path], path.name))]
