"""A search in processes of its own, that tests harm from outside, and what there is of it afterwards."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow.parquet as pq

import lymphtune
from lymphtune.runs.run import Run
from lymphtune.searching.trial import EPOCHS

ROOT = Path(lymphtune.__file__).parent.parent
COMMAND = ("--space", "tiny", "--trials", 4, "--epochs", 60, "--folds", 2)
TAG = "LYMPHTUNE_TEST"  # in the environment of every process of a search, wherever it came from
GONE_WITHIN_S = 15.0
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")  # of Ray: they look for its dead server for a minute
PATIENCE_S = 150.0


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    def only_line(self) -> str:
        """Return the one line with which the command says why it ended."""
        assert "Traceback" not in self.err and "Traceback" not in self.out, self.err
        lines = [line for line in self.err.splitlines() if line.startswith("lymphtune: ")]
        assert len(lines) == 1, self.err
        return lines[0]


class Search:
    """One run, whichever process drives it. `scratch` has a short path: Ray's sockets lie in it."""

    def __init__(self, data: Path, runs: Path) -> None:
        self.data, self.runs = data, runs
        self.run = Run(runs / "harmed")
        self.tag = uuid.uuid4().hex
        self.scratch = Path(tempfile.mkdtemp(prefix="lt-"))
        self.started: list[subprocess.Popen[bytes]] = []
        self.known = 0  # epochs on the disk when the latest driver was started

    def start(self, *given: object, **environment: str) -> "Search":
        """Start what the search is begun with."""
        new = ("--data", self.data, "--runs", self.runs, "--name", self.run.name)
        return self.drive("-m", "lymphtune", "search", *COMMAND, *new, *given, **environment)

    def resume(self, *given: object, **environment: str) -> "Search":
        new = ("--resume", self.run.name, "--runs", self.runs)
        return self.drive("-m", "lymphtune", "search", *new, *given, **environment)

    def drive(self, *given: object, **environment: str) -> "Search":
        """Start Python as the driver."""
        self.known = self.epochs
        number = len(self.started)
        with (self.scratch / f"out-{number}").open("wb") as out, (self.scratch / f"err-{number}").open("wb") as err:
            self.started.append(
                subprocess.Popen(
                    [sys.executable, *map(str, given)],
                    env=self.environment | environment,
                    cwd=self.scratch,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                    preexec_fn=_heed_interrupts,
                )
            )
        return self

    def beside(self, *given: str) -> subprocess.CompletedProcess[str]:
        """Run another command to its end while the driver goes on."""
        return subprocess.run(
            [sys.executable, "-m", "lymphtune", *given],
            env=self.environment,
            cwd=self.scratch,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    @property
    def environment(self) -> dict[str, str]:
        unset = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        ours = {TAG: self.tag, "TMPDIR": str(self.scratch), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return unset | ours

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        return self.started[-1]

    @property
    def epochs(self) -> int:
        """Return how many epochs of networks are on the disk."""
        return sum(map(_epochs, self.run.path.glob("trials/*")))

    def until(self, condition: Callable[[], object], patience_s: float = PATIENCE_S) -> "Search":
        """Wait until the condition is met while the driver lives."""
        deadline = time.monotonic() + patience_s
        while not condition():
            assert self.process.poll() is None, f"ended too soon: {self.said()}"
            assert time.monotonic() < deadline, f"not within {patience_s} s: {self.said()}"
            time.sleep(0.02)
        return self

    def until_trained(self, epochs: int) -> "Search":
        """Wait until so many more epochs are on the disk."""
        return self.until(lambda: self.epochs >= self.known + epochs)

    def wait(self, seconds: float) -> "Search":
        """Let the driver go on for a while, or to its end where that is nearer."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self

    def said(self) -> Ended:
        number = len(self.started) - 1
        out, err = ((self.scratch / f"{name}-{number}").read_text(errors="replace") for name in ("out", "err"))
        return Ended(self.process.poll() if self.process.poll() is not None else -999, out, err)

    def end(self, patience_s: float = PATIENCE_S) -> Ended:
        """Return how the driver ended; nothing that it started outlives it for long."""
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"still there after {patience_s} s: {self.said()}") from error
        self.assert_gone()
        return self.said()

    def kill(self) -> "Search":
        """kill -9 of the driver alone."""
        self.process.kill()
        assert self.process.wait() == -signal.SIGKILL
        self.assert_gone(but=AGENTS)
        for agent in self.processes():
            _kill(agent)
        return self

    def processes(self) -> dict[int, str]:
        """Return the command lines of the processes with this search's tag, by pid."""
        mark, found = f"{TAG}={self.tag}".encode(), {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue  # it has ended meanwhile
        return found

    def named(self, text: str) -> list[int]:
        return [pid for pid, command in self.processes().items() if text in command]

    def assert_gone(self, but: tuple[str, ...] = ()) -> None:
        deadline = time.monotonic() + GONE_WITHIN_S
        while left := [command for command in self.processes().values() if command not in but]:
            assert time.monotonic() < deadline, left
            time.sleep(0.05)

    def clear(self) -> None:
        """Kill what is left, whatever the test came to."""
        for pid in self.processes():
            _kill(pid)
        for process in self.started:
            process.wait()

    def finish(self) -> "Search":
        """Go on to the end, which has to be reached without a word of complaint."""
        ended = self.resume().end()
        assert ended.code == 0 and "Traceback" not in ended.err, ended.err
        assert self.run.description.status == "done"
        return self

    def table(self) -> pd.DataFrame:
        return self.run.leaderboard.drop(columns="seconds")

    def results(self) -> dict[str, bytes]:
        """Return the probabilities and the weights that are kept, by their path in the run."""
        kept = [
            path for path in self.run.path.rglob("*") if path.name == "oof.parquet" or path.suffix == ".safetensors"
        ]
        return {str(path.relative_to(self.run.path)): path.read_bytes() for path in kept}


def assert_same(search: Search, unbroken: Search) -> None:
    """The leaderboard, the probabilities and the weights are those of the unbroken search; nothing is left over."""
    pd.testing.assert_frame_equal(search.table(), unbroken.table())
    ours, theirs = search.results(), unbroken.results()
    assert sorted(ours) == sorted(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert [str(path) for path in search.run.path.rglob(".*")] == []  # half-written files
    assert list(search.run.path.rglob(EPOCHS)) == []


def _epochs(trial: Path) -> int:
    with suppress(FileNotFoundError):
        return (trial / EPOCHS).read_bytes().count(b'"epoch":')
    with suppress(FileNotFoundError):  # settled
        rows = pq.read_metadata(trial / "curves.parquet").num_rows
        return rows if rows > 1 else 0  # of a baseline
    return 0


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # which what runs in a shell's background ignores


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
