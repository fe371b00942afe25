"""Traps of Ray that were met once: what keeps us out of them is still there."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lymphtune.cluster import runner as on_ray
from lymphtune.cluster.local_ray import Folders
from lymphtune.cluster.runner import _last_line
from lymphtune.errors import InputError


def test_tune_counts_a_worker_killed_for_memory_as_that_trial_s_failure() -> None:
    """It catches RayActorError alone, by this name in these modules; a Ray without them must be looked at."""
    from ray.air.execution._internal import actor_manager
    from ray.exceptions import OutOfMemoryError, RayActorError
    from ray.tune.execution import tune_controller

    on_ray.survive_out_of_memory()
    on_ray.survive_out_of_memory()  # twice does no harm
    for module in (actor_manager, tune_controller):
        assert vars(module)["RayActorError"] == (RayActorError, OutOfMemoryError)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ray.exceptions.OutOfMemoryError: Task was killed", "out of memory: the machine killed its worker"),
        ("Failure # 1\nTraceback\n  File x\nValueError: too few\n\n", "ValueError: too few"),
        ("", "its worker died"),
        ("Failure # 1\nray.exceptions.ActorDiedError: The actor died unexpectedly before finishing", "its worker died"),
    ],
)
def test_a_reason_is_the_last_thing_that_was_said(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "error.txt").write_text(text)
    assert _last_line(str(tmp_path / "error.txt")) == reason
    assert _last_line(None) == "its worker died"


def test_what_tune_writes_down_never_holds_the_board() -> None:
    """It pickles searcher, scheduler, stopper and callbacks; a board in them would be gigabytes, or fail."""
    kinds: list[Any] = [on_ray._Numbers, on_ray._Scheduler, on_ray._Callback, on_ray._Stopper]
    for kind in kinds:
        assert kind.__new__(kind).__getstate__() == {}


def test_tune_is_told_to_be_patient_and_quiet() -> None:
    for name, value in (on_ray.QUIET | on_ray.PATIENT).items():
        assert os.environ[name] == value, name
    assert not logging.getLogger("ray.tune").isEnabledFor(logging.ERROR)


LISTENING = """
import psutil
from lymphtune.cluster.runner import ray_cluster
with ray_cluster(None):
    own = psutil.Process()
    for process in [own, *own.children(recursive=True)]:
        for line in process.net_connections(kind="inet"):
            if line.status == psutil.CONN_LISTEN:
                print(line.laddr.ip)
"""


@pytest.mark.slow
def test_a_local_ray_listens_on_loopback_only(tmp_path: Path) -> None:
    root = str(Path(on_ray.__file__).parents[2])
    given = {"args": [sys.executable, "-c", LISTENING], "cwd": tmp_path, "env": os.environ | {"PYTHONPATH": root}}
    said = subprocess.run(**given, capture_output=True, text=True, check=True, timeout=120).stdout.split()
    assert said and {address.removeprefix("::ffff:") for address in said} == {"127.0.0.1"}


def test_a_ray_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def late(**options: object) -> None:
        raise Exception("The current node timed out during startup. This could happen because ...")

    monkeypatch.setattr(on_ray.ray, "init", late)
    with pytest.raises(InputError, match="Ray did not start in time"):
        on_ray._start_ray(Folders(tmp_path, None))
