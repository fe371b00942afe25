"""What ends a search before its trials do: signals, a request from another terminal, time, and a disk that fills."""

import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lymphtune import console
from lymphtune.errors import InputError
from lymphtune.files import DiskFullError, remove, write_text
from lymphtune.platforms import termination_signals
from lymphtune.runs.mirror import StorageError
from lymphtune.runs.run import Run
from lymphtune.searching.board import Board, StopReason
from lymphtune.searching.budget import Budget
from lymphtune.searching.trial import CHECKPOINT

STOP = "stop"  # this file in a run's folder asks its search to stop
LOOK_EVERY_S = 1.0
RESERVE_BYTES = 20e6  # of the disk, besides two checkpoints of each trial that runs, is left free


class StopWatcher:
    """Halts the board when there is reason to; asked over and over while trials run."""

    def __init__(self, board: Board, budget: Budget | None = None) -> None:
        self.board, self.path = board, board.run.path
        self.budget = budget or Budget(None, time.monotonic())
        self.looked = 0.0
        self.trials_run = False  # else a signal interrupts at once, unless the search is being halted

    def halted(self) -> bool:
        """Return whether the search is to end now, the disk and the clock looked at every second."""
        if self.board.halt is None and time.monotonic() - self.looked > LOOK_EVERY_S:
            self.looked = time.monotonic()
            self.board.halt = self._reason()
        return self.board.halt is not None

    def _reason(self) -> StopReason | None:
        try:
            if self._asked():
                return StopReason("stopped", "`lymphtune stop` asked for it")
        except (DiskFullError, StorageError) as error:
            return StopReason("paused", str(error))
        if self.budget.over:
            return StopReason("out of time", self._out_of_time())
        return self._no_room()

    def _out_of_time(self) -> str:
        if any(record.curves or record.row for record in self.board.records.values() if not record.trial.baseline):
            return "its time budget is spent"
        given, spent = console.duration(self.budget.total_s or 0), console.duration(self.budget.spent_s)
        kept = console.duration(self.budget.reserve_s)
        return (
            f"the time budget of {given} ended before a trial finished an epoch: {spent} went into reading, features, "
            f"Ray, baselines and first epochs, {kept} are kept for stopping and writing; give more time"
        )

    def _asked(self) -> bool:
        there = (self.path / STOP).exists()
        remove(self.path / STOP)
        mirror = self.board.mirror
        return there or (mirror is not None and mirror.take(STOP))

    def _no_room(self) -> StopReason | None:
        free, wanted = shutil.disk_usage(self.path).free, RESERVE_BYTES + 2 * self._checkpoint_bytes()
        if free >= wanted:
            return None
        left = f"{console.size(free)} left, {console.size(wanted)} are kept free for what is being written"
        return StopReason("paused", f"{self.path}: the disk is almost full ({left}); make room")

    def _checkpoint_bytes(self) -> int:
        running = [r for r in self.board.records.values() if r.status == "running"]
        files = [self.board.run.trial(record.trial.hash) / CHECKPOINT for record in running]
        return sum(file.stat().st_size for file in files if file.exists())

    @contextmanager
    def noticing(self) -> Iterator[None]:
        """Let the signals that end a process end the search cleanly while trials run; a second one ends it at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, frame: Any) -> None:
            again = self.board.halt is not None
            if again and not self.trials_run:
                return  # it is ending, and would leave Ray's processes and folder behind
            self.board.halt = self.board.halt or StopReason("interrupted", "a signal")
            if again or not self.trials_run:
                raise KeyboardInterrupt
            console.say("Stopping: what has been trained is kept. Once more stops at once.")

        before = {number: signal.signal(number, note) for number in termination_signals()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def pausing(self) -> Iterator[None]:
        """Halt the search where the block finds no room on the disk, instead of failing in the middle."""
        try:
            yield
        except InputError as error:
            self.board.halt = self.board.halt or StopReason("paused", str(error))


def ask_to_stop(run: Run) -> None:
    """Ask the search of this run, wherever it is driven from, to stop as after Ctrl-C."""
    write_text(run.path / STOP, "asked to stop\n")
