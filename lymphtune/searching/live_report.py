"""The report of a running search, rewritten every minute by a process beside the driver."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lymphtune import console
from lymphtune.errors import InputError
from lymphtune.platforms import start_in_background
from lymphtune.runs.mirror import Mirror
from lymphtune.runs.run import FIGURES, REPORT, Run
from lymphtune.searching.board import Board
from lymphtune.searching.budget import Budget

EVERY_S = 60.0
NICE = 10  # the trials come first


class LiveReport:
    """Call it with the board whenever something may have happened."""

    def __init__(self, run: Run, data: str | Path, budget: Budget | None = None) -> None:
        self.budget, self.run = budget or Budget(None, time.monotonic()), run
        self.command = [sys.executable, "-P", "-m", "lymphtune", "report", "--run", str(run.path), "--data", str(data)]
        self.process: subprocess.Popen[str] | None = None
        self.board: Board | None = None  # of a search that is over
        self.began = time.monotonic()

    def __call__(self, board: Board) -> None:
        if board.table.settled and time.monotonic() - self.began >= EVERY_S and not self._busy():
            self.start()

    def start(self) -> None:
        """Begin a report, which a terminal's Ctrl-C does not end: that is for the search."""
        self.began = time.monotonic()
        self.process = start_in_background(self.command, NICE, env=os.environ | {"OMP_NUM_THREADS": "1"})

    def over(self, board: Board) -> None:
        """Note that the search has ended, and that a last report is due."""
        self.board = board

    def finish(self) -> None:
        """Write the last report, if any trial has ended, or say why there is none."""
        self.end()
        if self.board is None or not self.board.table.settled:
            return
        console.say("writing the report ...")
        self.start()
        line = self._wait()
        if line is None or self.process is None:
            return
        if self.process.returncode:
            console.say(f"no report: {line.strip().splitlines()[-1] if line.strip() else 'its process was killed'}")
        elif self.board.mirror:
            self._push(self.board.mirror)

    def _push(self, mirror: Mirror) -> None:
        try:
            mirror.push(FIGURES, REPORT)
            mirror.remove_replaced(FIGURES)
        except InputError as error:
            console.say(str(error))

    def _wait(self) -> str | None:
        """Return what the report's process printed on stderr; None where the time budget ended first."""
        assert self.process is not None
        limit_s = max(self.budget.left_s, 1.0)
        try:
            return self.process.communicate(timeout=None if limit_s == float("inf") else limit_s)[1]
        except subprocess.TimeoutExpired:
            self.end()
            console.say(f"no report: the time budget ended; `lymphtune report --run {self.run.path}` writes it")
            return None

    def end(self) -> None:
        """End the report that is being written; what it has not put in place is removed with the next one."""
        if self._busy() and self.process is not None:
            self.process.kill()
            self.process.wait()

    def _busy(self) -> bool:
        return self.process is not None and self.process.poll() is None


@contextmanager
def live_report(run: Run, data: str | Path, wanted: bool, budget: Budget | None = None) -> Iterator[LiveReport | None]:
    """Yield what writes the run's report while the block runs, and once more after it; None where none is wanted."""
    if not wanted:
        yield None
        return
    live = LiveReport(run, data, budget)
    try:
        yield live
    finally:
        live.finish()
