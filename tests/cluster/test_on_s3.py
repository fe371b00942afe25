"""Whole searches on a real S3 server, each command in a process and with a cache of its own, as on other machines."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import lymphtune
from lymphtune.files import hashes, read_yaml
from lymphtune.runs.mirror import Mirror
from lymphtune.runs.run import Run
from lymphtune.runs.storage import join
from tests.s3 import KEY, SECRET, Gate, Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT = Path(lymphtune.__file__).parent.parent
PATIENCE_S = 600.0
READING = (
    ("status", "w3"),
    ("runs",),
    ("compare", "w3", "w2"),
    ("report", "--run", "w3", "--no-pictures"),
    ("ensemble", "--run", "w3", "--top", "2"),
    ("stability", "--run", "w3"),
    ("robustness", "--run", "w3", "--cells", "2"),
)
TRIALS = 6


class Machines:
    """Commands on the runs at a URI; each machine is a name, its cache a folder."""

    def __init__(self, uri: str, data: Path) -> None:
        self.uri, self.data = uri, data
        self.folder = Path(tempfile.mkdtemp(prefix="lt-"))  # a short path: Ray's sockets lie in it
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, machine: str, *command: object) -> "subprocess.Popen[bytes]":
        unset = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        ours = {"LYMPHTUNE_CACHE": str(self.folder / machine), "TMPDIR": str(self.folder), "PYTHONPATH": str(ROOT)}
        errors = self.folder / f"err-{len(self.started)}"
        given = [sys.executable, "-m", "lymphtune", *map(str, command), "--runs", self.uri]
        process = subprocess.Popen(
            given,
            env=unset | ours | {"OMP_NUM_THREADS": "1"},
            cwd=self.folder,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors.open("w"),
        )
        self.started.append(process)
        return process

    def search(self, epochs: int, name: str = "w3") -> "subprocess.Popen[bytes]":
        new = ("--space", "tiny", "--trials", TRIALS, "--epochs", epochs, "--folds", 2, "--no-report")
        return self.start("driver", "search", *new, "--name", name, "--data", self.data)

    def run(self, machine: str, *command: object) -> tuple[int, str]:
        """Return exit code and errors of a command run to its end."""
        return self.end(self.start(machine, *command))

    def end(self, process: "subprocess.Popen[bytes]") -> tuple[int, str]:
        process.wait(PATIENCE_S)
        told = (self.folder / f"err-{self.started.index(process)}").read_text(errors="replace")
        assert "Traceback" not in told, told
        return process.returncode, told

    def until(self, condition: Callable[[], object], process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert process.poll() is None, self.end(process)
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def pulled(self) -> Run:
        """Return the run as it lies in the storage, in a new folder."""
        path = Path(tempfile.mkdtemp(dir=self.folder)) / "w3"
        Mirror(join(self.uri, "w3"), path).pull()
        return Run(path)

    def clear(self) -> None:
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@pytest.fixture
def machines(s3_server: Server, bucket: str, _tiny_cohort_files: Path) -> Iterator[Machines]:
    found = Machines(s3_server.uri(bucket, keys=""), _tiny_cohort_files)
    try:
        yield found
    finally:
        found.clear()


def assert_complete(run: Run, keys: set[str]) -> None:
    """Every trial has all its files, the weights are those that were written, and nothing else is left over."""
    board = run.leaderboard
    networks = board.query("kind == 'network' and not baseline")
    assert run.description.status == "done" and len(networks) == TRIALS and not board["trial"].duplicated().any()
    for trial in board["trial"]:
        folder = run.trial(trial)
        described = read_yaml(folder / "config.yaml")
        assert described["settled"] and (folder / "curves.parquet").is_file() and (folder / "oof.parquet").is_file()
        assert described["weights"] and hashes(folder / "weights") == described["weights"]
        assert sorted(path.name for path in folder.iterdir()) == [
            "config.yaml",
            "curves.parquet",
            "oof.parquet",
            "weights",
        ]
    hidden = {key for key in keys if "/." in key or key.endswith("/")}
    assert {key.rpartition("/")[2] for key in hidden} <= {".driver.lock"}, hidden


def trained(server: Server, bucket: str) -> Callable[[], bool]:
    """Return what says whether a network's first epochs are in the storage."""
    return lambda: any(key.startswith("runs/w3/") and key.endswith("epochs.jsonl") for key in server.keys(bucket))


def test_nothing_is_lost_beside_commands_that_read(machines: Machines, s3_server: Server, bucket: str) -> None:
    assert machines.end(machines.search(2, "w2"))[0] == 0  # to compare with
    driver = machines.search(300)
    machines.until(trained(s3_server, bucket), driver)
    code, told = machines.run("second", "search", "--resume", "w3")
    assert code == 2 and "another search drives this run (process" in told.splitlines()[-1], told
    beside = 0
    while driver.poll() is None:
        for command in READING:
            code, told = machines.run(command[0], *command)
            assert code in (0, 2), told
            beside += driver.poll() is None
    assert beside >= len(READING), "the search was over before each command had run beside it"
    code, told = machines.end(driver)
    assert code == 0, told
    for command in READING:
        code, told = machines.run(command[0], *command)
        assert code == 0, told
    found = machines.pulled()
    assert_complete(found, s3_server.keys(bucket))
    assert (found.path / "ensembles" / "top" / "ensemble.yaml").is_file() and (found.path / "report.html").is_file()
    assert list(machines.folder.glob("lymphtune-trial-*")) == []


def test_a_search_pauses_where_the_server_goes_away_and_is_resumed(
    s3_server: Server, bucket: str, _tiny_cohort_files: Path
) -> None:
    gate = Gate(s3_server.port)
    gate.open()
    uri = s3_server.uri(bucket, keys="").replace(f":{s3_server.port}", f":{gate.port}")
    machines = Machines(uri, _tiny_cohort_files)
    try:
        driver = machines.search(80)
        machines.until(trained(s3_server, bucket), driver)
        gate.shut()
        code, told = machines.end(driver)
        last = told.splitlines()[-1]
        assert code == 2 and "paused" in last and "the server does not answer" in last, told
        assert f"lymphtune search --resume w3 --runs '{uri}'" in last, told
        gate.open()
        code, told = machines.run("driver", "search", "--resume", "w3")
        assert code == 0, told
        assert_complete(machines.pulled(), s3_server.keys(bucket))
    finally:
        gate.shut()
        machines.clear()


def test_a_search_is_stopped_from_another_machine(machines: Machines, s3_server: Server, bucket: str) -> None:
    driver = machines.search(400)
    machines.until(trained(s3_server, bucket), driver)
    code, told = machines.run("other", "stop", "w3")
    assert code == 0, told
    code, told = machines.end(driver)
    assert code == 0 and "`lymphtune stop` asked for it" in told, told
    assert machines.pulled().description.status == "stopped"
    assert "runs/w3/stop" not in s3_server.keys(bucket)


def test_configurations_are_trained_again_beside_their_run(machines: Machines, s3_server: Server, bucket: str) -> None:
    assert machines.end(machines.search(2))[0] == 0
    code, told = machines.run("other", "stability", "--run", "w3", "--retrain", 2)
    assert code == 0, told
    keys = s3_server.keys(bucket)
    assert any(key.startswith("runs/w3-retrained/trials/") for key in keys)
    assert any(key.startswith("runs/w3-retrained/stability/") for key in keys), keys
