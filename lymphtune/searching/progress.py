"""How far a search is: written beside its results every few seconds, and read from another terminal."""

import math
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

from lymphtune import console
from lymphtune.errors import InputError
from lymphtune.files import read_json, write_json
from lymphtune.runs.run import PROGRESS, Run, resume_command, stopping_text
from lymphtune.searching.board import Board
from lymphtune.searching.display import leaderboard_text
from lymphtune.searching.time_left import TimeLeft

WRITTEN_EVERY_S = 5.0
REFRESHED_EVERY_S = 1.0  # while a search elsewhere is waited for
RUNNING_SHOWN = 12
SHOWN_OF_TRIAL = ("epoch", "epochs", "balanced_accuracy", "log_loss")


class ProgressFile:
    """Call it with the board whenever something may have happened."""

    def __init__(self) -> None:
        self.written = -WRITTEN_EVERY_S

    def __call__(self, board: Board) -> None:
        if time.monotonic() - self.written >= WRITTEN_EVERY_S:
            self.written = time.monotonic()
            write_json(board.run.path / PROGRESS, _progress(board))
            if board.mirror:
                board.mirror.push_own()


def _progress(board: Board) -> dict[str, Any]:
    share, left = board.progress()
    return {
        "time": datetime.now().isoformat(timespec="seconds"),
        "share": round(share, 4),
        "left": None if left is None else {name: round(value) for name, value in left._asdict().items()},
        "trials": dict(Counter(record.status for record in board.records.values())),
        "running": [
            {
                "trial": record.trial.hash,
                "title": record.trial.configuration.title,
                "epoch": record.epochs,
                "epochs": record.trial.epochs,
                "balanced_accuracy": round(record.curves[-1]["balanced_accuracy"], 4),
                "log_loss": round(record.curves[-1]["log_loss"], 4),
            }
            for record in board.records.values()
            if record.status == "running"
        ][:RUNNING_SHOWN],
    }


def progress_of(run: Run) -> dict[str, Any] | None:
    """Return the last progress.json of a search, None where there is none that can be read."""
    try:
        found = read_json(run.path / PROGRESS)
        texts = [
            found["time"],
            *found["trials"],
            *(row[name] for row in found["running"] for name in ("trial", "title")),
        ]
        numbers = [found["share"], *(TimeLeft(**found["left"]) if found["left"] else ()), *found["trials"].values()]
        numbers += [row[name] for row in found["running"] for name in SHOWN_OF_TRIAL]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    sound = all(isinstance(text, str) for text in texts) and all(
        isinstance(number, int | float) and math.isfinite(number) for number in numbers
    )
    return dict(found) if sound else None


def status_values(run: Run) -> dict[str, Any]:
    """Return how far a search is, or how it ended, for programs.

    busy: share of the workers' time that was training and evaluation; seconds: of the whole search; both None, as
    progress, where they are not known.
    """
    described, status = run.description, run.status
    try:
        leaderboard: Any = run.leaderboard
    except InputError:  # no trial has ended yet
        leaderboard = []
    cohort = {"cohort": described.cohort.name, "simulated": described.cohort.simulated}
    timing = {name: described.as_yaml().get(name) for name in ("busy", "seconds")}
    progress = progress_of(run) if status in ("running", "broken off") else None
    found = {"run": run.path, "name": run.name, "status": status, **cohort, **timing, "progress": progress}
    return found | {"driver": run.driver or None, "leaderboard": leaderboard}


def status_text(run: Run, storage: str | None = None) -> str:
    """Return what a search is doing, or how it ended, as lines of at most 80 columns; read from its folder alone.

    storage: URI of the runs, where the folder is a copy of one there.
    """
    described, status = run.description, run.status
    lines = console.hanging(f"{run.name}: {status}{_where(run) if status == 'running' else ''}")
    progress = progress_of(run)
    if progress and status in ("running", "broken off"):
        left = f", {TimeLeft(**progress['left'])}" if progress["left"] else ""
        counts = ", ".join(f"{count} {status}" for status, count in sorted(progress["trials"].items()))
        lines += [f"{100 * progress['share']:.0f} % done at {progress['time'][11:]}{left}; {counts}"]
        wide = console.column(36)
        lines += [
            f"   {row['trial'][:6]} {console.cut(row['title'], wide):{wide}} epoch {row['epoch']}/{row['epochs']} "
            f"BA {row['balanced_accuracy']:.3f} loss {row['log_loss']:.3f}"
            for row in progress["running"]
        ]
    try:
        lines.append(leaderboard_text(run.leaderboard))
    except InputError:
        lines.append("no trial has ended yet")
    if described.stopping:
        lines += console.hanging(f"early stopping: {stopping_text(described.protocol.scheduler, described.stopping)}")
    if described.cohort.simulated:
        lines.append(console.painted(console.SIMULATED, "warning"))
    if status not in ("running", "done"):
        lines.append(f"`{resume_command(run, storage)}` resumes the search")
    return "\n".join(lines)


def _where(run: Run) -> str:
    driver = run.driver
    return f" (process {driver['pid']} on {driver['host']} since {driver['since']})" if driver else ""


def wait_until_stopped(run: Run, refresh: Callable[[], None] | None = None) -> None:
    """Return when no process drives the run any longer. refresh: brings the run's files here, where they are a copy."""
    began = last_line = time.monotonic()
    while run.status == "running":
        time.sleep(0.2 if refresh is None else REFRESHED_EVERY_S)
        if refresh is not None:
            refresh()
        if time.monotonic() - last_line > 10:
            last_line = time.monotonic()
            console.say(f"waiting for its trials to end their epoch, {console.duration(last_line - began)} by now")
