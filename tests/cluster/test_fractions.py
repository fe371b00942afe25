"""Parts of GPUs: what is measured on a CPU, and where trials are put on GPUs that Ray only pretends to have."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lymphtune.cluster.fractions import MOST, busy_share, demand, fraction, measured_fraction, slim
from lymphtune.searching.plan import concurrency
from lymphtune.searching.prepare import prepare
from lymphtune.searching.settings import Settings
from lymphtune.training.network import NetworkMember
from lymphtune.training.precision import Precision


@pytest.mark.parametrize(
    ("memory", "busy", "found"),
    [
        (0.9, 0.1, 1),  # memory for one
        (0.2, 0.24, 1 / 4),  # memory and time for four
        (0.1, 0.51, 1),  # a second one would wait for the first
        (0.1, 0.5, 1 / 2),
        (0.01, 0.01, 1 / MOST),
        (0.0, 0.0, 1 / MOST),
        (3.0, 1.0, 1),  # does not even fit alone: the trial halves its chunks
    ],
)
def test_as_many_share_a_gpu_as_its_memory_and_time_have_room_for(memory: float, busy: float, found: float) -> None:
    assert fraction(memory, busy) == found


@pytest.mark.slow
def test_steps_are_really_measured(tiny_cohort_folder: Path) -> None:
    cohort, plan = prepare("tiny", tiny_cohort_folder, Settings(trials=6, folds=2))
    small = slim(plan)
    assert {trial.configuration.title.split()[0] for trial in small.trials} == {"vanilla", "resnet-4", "resnet-8"}
    _, busy = demand(cohort, plan, plan.trials[0], torch.device("cpu"), Precision())
    assert 0.1 < busy <= 1
    assert 1 / MOST <= measured_fraction(cohort, replace(small, trials=small.trials[:1]), "cpu", Precision()) <= 1


def test_waiting_is_not_being_busy() -> None:
    import time

    assert busy_share(lambda: time.sleep(0.2), cuda=False) < 0.2


def test_the_profiler_s_own_time_is_not_the_work_s(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    class Slow(torch.profiler.profile):
        def __enter__(self) -> "Slow":
            time.sleep(0.5)
            super().__enter__()
            return self

    monkeypatch.setattr(torch.profiler, "profile", Slow)
    matrix = torch.ones(1500, 1500)
    assert busy_share(lambda: matrix @ matrix, cuda=False) > 0.5


def test_all_fold_models_of_a_trial_are_measured(tiny_cohort_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort, plan = prepare("tiny", tiny_cohort_folder, Settings(trials=1, folds=2, repeats=2))
    epochs = Counter[int]()
    monkeypatch.setattr(NetworkMember, "train_epoch", lambda self, epoch: epochs.update([id(self)]))
    demand(cohort, plan, plan.networks[0], torch.device("cpu"), Precision())
    assert list(epochs.values()) == [3] * 4  # one warms up, one is timed, one profiled


def test_auto_without_a_gpu_means_none() -> None:
    assert concurrency(Settings(gpus_per_trial="auto"), 4, 0) == (4, 0.0)


# ---- GPUs that Ray only pretends to have

PLACED = """
import json, os, sys, time
from pathlib import Path
import ray
ray.init(address="local", num_cpus=6, num_gpus=2, include_dashboard=False, log_to_driver=False)
import lymphtune
from lymphtune.cluster import driver as search_module
from lymphtune.cluster import runner as on_ray
from lymphtune.searching.trial import Shared
from lymphtune.training.precision import Precision
from lymphtune.training.network import NetworkMember
from dataclasses import replace

notes, at_once = Path(sys.argv[2]), int(sys.argv[4])
notes.mkdir()

class Watched(Shared):
    def train(self, trial, start=None):
        seen = {
            "device": self.device, "gpus": ray.get_gpu_ids(), "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "from": time.time(),
        }
        deadline = time.time() + 20  # until as many run as were expected
        me = notes / f"{trial.number}.running"
        me.touch()
        while len(list(notes.glob("*.running"))) < at_once and time.time() < deadline:
            time.sleep(0.05)
        seen["beside"] = len(list(notes.glob("*.running")))
        (notes / f"{trial.number}.json").write_text(json.dumps(seen))
        yield from Shared.train(replace(self, device="cpu"), trial, start)

search_module.Shared = Watched
on_ray.precision_there = lambda *given: Precision()
on_ray.measured_fraction = lambda *given: 0.25
gpus = sys.argv[3] if sys.argv[3] == "auto" else float(sys.argv[3])
lymphtune.search("tiny", sys.argv[1], runs=notes / "runs", trials=4, epochs=1, folds=2, gpus_per_trial=gpus)
"""


def placed(cohort: Path, notes: Path, gpus: str, at_once: int) -> list[dict]:
    """Return what four trials saw, on six CPUs and two GPUs that are not there."""
    given = [sys.executable, "-c", PLACED, str(cohort), str(notes), gpus, str(at_once)]
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(given, capture_output=True, text=True, env=environment, cwd=notes.parent, timeout=200)
    assert done.returncode == 0, done.stderr
    return [json.loads((notes / f"{number}.json").read_text()) for number in range(4)]


@pytest.mark.slow
@pytest.mark.parametrize("gpus", ["0.5", "auto"])
def test_four_trials_share_two_gpus(tiny_cohort_folder: Path, tmp_path: Path, gpus: str) -> None:
    seen = placed(tiny_cohort_folder, tmp_path / "notes", gpus, 4)
    assert max(trial["beside"] for trial in seen) == 4
    assert {trial["device"] for trial in seen} == {"cuda"}
    assert all(len(trial["gpus"]) == 1 and trial["visible"] == str(trial["gpus"][0]) for trial in seen)
    if gpus == "0.5":
        assert sorted(trial["visible"] for trial in seen) == ["0", "0", "1", "1"]


@pytest.mark.slow
def test_a_cpu_trial_on_a_gpu_node_does_not_touch_it(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    seen = placed(tiny_cohort_folder, tmp_path / "notes", "0", 4)
    assert max(trial["beside"] for trial in seen) == 4
    assert all(trial["device"] == "cpu" and trial["gpus"] == [] for trial in seen)
