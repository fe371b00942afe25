"""What a search costs beside its training: workers that wait, the driver's work, and Tune's.

    python benchmarks/search.py busy [--seconds 5 20 60] [--workers 1 2] [--trials N]
    python benchmarks/search.py scale [--trials 100 300 1000 3000 10000] [--workers 1000]
    python benchmarks/search.py tune [--trials 50 200 800]

`busy`: the share of the workers' wall time that is training, from before Ray starts to after it has ended; lymphtune
beside the same trials on Tune's function API with its defaults (dataset by `with_parameters`, one report an epoch, no
checkpoints). A trial is a real training of a very small network; each of its epochs is filled up with further training
steps until it has lasted its time, so its length is fixed and its processor is never idle. Nobody is stopped.

`scale`: workers simulated, all that the driver does for them real: reports of epochs in the order of a discrete-event
loop, halving, the trials' folders, leaderboard, both displays. Then the run is read as `--resume` would read it.

`tune`: trials of one epoch that trains nothing, two at a time on a real local Ray with lymphtune's options.

Each figure comes from a process of its own. Shapes: R repeats, P patients.
"""

import argparse
import heapq
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from lymphtune.cluster.driver import run_plan
from lymphtune.cohort import Cohort
from lymphtune.cohort.folds import make_folds
from lymphtune.files import hashes
from lymphtune.runs.run import Run
from lymphtune.searching.board import Board
from lymphtune.searching.display import Display
from lymphtune.searching.epoch_report import Report
from lymphtune.searching.plan import Plan, make_plan
from lymphtune.searching.prepare import prepare
from lymphtune.searching.progress import ProgressFile
from lymphtune.searching.settings import Settings
from lymphtune.searching.stop_watcher import StopWatcher
from lymphtune.searching.trial import WEIGHTS_AT, Shared
from lymphtune.spaces import load_space

TARGETS = {5.0: 0.85, 20.0: 0.95, 60.0: 0.97}  # busy share, by the seconds of a trial
EPOCHS = 5  # of a trial of `busy`
WALL_S = 120.0  # of one search of `busy`, about
PATIENTS, CELLS = 12, 8  # of the cohort that `busy` trains on
MADE_UP = 200  # patients of the cohort that nobody trains on
LEVEL = 1.5  # the last figure over the first, above which a cost is said to grow
NEGLIGIBLE = 0.05  # of all that a trial costs the driver: growth by less is not said
KB = 1e3


# ---- busy


def fill_step() -> Callable[[], None]:
    """Return one training step of a small network, about a millisecond of a processor."""
    import torch
    from torch import nn

    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(1)
    )
    pictures, labels = torch.rand(8, 3, 24, 24), torch.rand(8, 1).round()
    network(pictures)
    optimiser = torch.optim.AdamW(network.parameters())

    def step() -> None:
        optimiser.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(network(pictures), labels).backward()
        optimiser.step()

    return step


def filled(results: Any, epoch_s: float, marks: Path) -> Iterator[Any]:
    """Yield the epochs of a training, each made to last `epoch_s`; mark when they began and ended, and how much of
    the filling was on a processor."""
    step = fill_step()
    with closing(results), marks.open("a") as file:
        for result in results:
            filling, on_processor = time.perf_counter(), time.process_time()
            began = filling - result.seconds
            while time.perf_counter() - began < epoch_s:
                step()
            ended = time.perf_counter()
            mark = {"ended": time.time(), "seconds": ended - began, "filled": ended - filling}
            print(json.dumps(mark | {"on_processor": time.process_time() - on_processor}), file=file, flush=True)
            yield replace(result, seconds=ended - began)


@dataclass(frozen=True)
class Timed(Shared):
    """Trials whose epochs all last equally long."""

    epoch_s: float = 0.0
    marks: Path = Path()

    def train(self, trial: Any, start: Any = None) -> Any:
        return filled(super().train(trial, start), self.epoch_s, self.marks / f"{trial.number}.jsonl")


def by_lymphtune(cohort: Cohort, plan: Plan, data: Path, epoch_s: float, marks: Path) -> None:
    from lymphtune.cluster import driver as search

    search.Shared = lambda *given: Timed(*given, epoch_s, marks)  # type: ignore[misc, assignment]
    run_plan(cohort, plan, data, time.monotonic())


def by_tune(cohort: Cohort, plan: Plan, workers: int, epoch_s: float, marks: Path) -> None:
    """Search as Tune's own first examples do."""
    import ray
    from ray import tune

    def trainable(config: dict[str, Any], cohort: Cohort, plan: Plan) -> None:
        from lymphtune.training.lockstep import Protocol, pooled_log_loss, train

        trial = plan.trials[config["number"]]
        results = train(trial.configuration, cohort, Protocol(plan.folds_RP, plan.epochs, trial.seed))
        for result in filled(results, epoch_s, marks / f"{trial.number}.jsonl"):
            tune.report({"log_loss": pooled_log_loss(result.probabilities_RP, cohort.labels), "epoch": result.epoch})

    ray.init(num_cpus=workers, log_to_driver=False)
    tune.Tuner(
        tune.with_parameters(trainable, cohort=cohort, plan=plan),
        param_space={"number": tune.grid_search(list(range(len(plan.trials))))},
        run_config=tune.RunConfig(storage_path=str(marks.parent / "tune")),
    ).fit()
    ray.shutdown()


def busy_one(by: str, seconds: float, workers: int, trials: int, data: str) -> dict[str, float]:
    """Return the busy share of one search, with what went before the first epoch and after the last one."""
    with tempfile.TemporaryDirectory(prefix="lt-busy-") as scratch:
        marks = Path(scratch) / "marks"
        marks.mkdir()
        settings = Settings(
            trials=trials,
            epochs=EPOCHS,
            folds=2,
            repeats=1,
            scheduler="none",
            max_concurrent=workers,
            runs=Path(scratch) / "runs",
        )
        cohort, plan = prepare("tiny", data, settings)
        began = time.time()
        if by == "lymphtune":
            by_lymphtune(cohort, plan, Path(data), seconds / EPOCHS, marks)
        else:
            by_tune(cohort, plan, workers, seconds / EPOCHS, marks)
        wall_s = time.time() - began
        told = pd.concat([pd.read_json(path, lines=True, convert_dates=False) for path in marks.iterdir()])
    if len(told) != trials * EPOCHS:
        raise SystemExit(f"{by}: {len(told)} epochs of {trials * EPOCHS} were trained")
    first, last = (told["ended"] - told["seconds"]).min(), told["ended"].max()
    trained_s = told["seconds"].sum()
    return {
        "busy": trained_s / wall_s / workers,
        "between": trained_s / (last - first) / workers,
        "before": first - began,
        "after": began + wall_s - last,
        "wall": wall_s,
        "processor": told["on_processor"].sum() / told["filled"].sum(),
    }


def busy(given: argparse.Namespace) -> None:
    """Print the table of busy shares."""
    import torch

    from lymphtune.cohort.simulation.patients import write_simulated
    from lymphtune.training.precision import fastest_precision

    with tempfile.TemporaryDirectory(prefix="lt-busy-") as scratch:
        os.environ["LYMPHTUNE_CACHE"] = f"{scratch}/cache"
        write_simulated(Path(scratch) / "cohort", PATIENTS, CELLS)
        fastest_precision(torch.device("cpu"), 1)  # once a machine: not a cost of each search
        print(
            "busy: trained seconds / (wall seconds x workers); between: from the first epoch's begin to the last's end"
        )
        print(
            f"{'trial':>5} {'workers':>7} {'trials':>6}  {'lymphtune':9} {'(between, before, after)':26} {'naive':5} "
            f"{'(between, before, after)':26} target"
        )
        for seconds in given.seconds:
            for workers in given.workers:
                trials = given.trials or max(workers, round(WALL_S * workers / seconds))
                how = {"seconds": seconds, "workers": workers, "trials": trials, "data": f"{scratch}/cohort"}
                ours, naive = (alone("busy_one", by=by, **how) for by in ("lymphtune", "naive"))
                target = TARGETS.get(seconds)
                met = "-" if target is None else f"{target:.2f} {'met' if ours['busy'] >= target else 'MISSED'}"
                print(
                    f"{seconds:4g}s {workers:7} {trials:6}  {_shares(ours)} {_shares(naive)} {met}; filling on a "
                    f"processor {ours['processor']:.2f} and {naive['processor']:.2f}",
                    flush=True,
                )


def _shares(of: dict[str, float]) -> str:
    return f"{of['busy']:9.3f} ({of['between']:.3f}, {of['before']:.1f} s, {of['after']:.1f} s)".ljust(36)


# ---- scale


class Watch:
    """Adds up processor and wall time of the blocks it is held to."""

    def __init__(self) -> None:
        self.processor_s = self.wall_s = 0.0

    def __enter__(self) -> None:
        self._began = time.process_time(), time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self.processor_s += time.process_time() - self._began[0]
        self.wall_s += time.perf_counter() - self._began[1]


class Screen(io.StringIO):
    """A terminal that forgets what it shows."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return len(text)


def made_up_cohort() -> Cohort:
    """Return patients with one blank picture each."""
    labels = (np.arange(MADE_UP) < 0.69 * MADE_UP).astype(int)
    patients = pd.DataFrame(
        {
            "patient": [f"P{n}" for n in range(MADE_UP)],
            "label": labels,
            "sex": "",
            "age_years": 60.0,
            "lymphocytes_g_per_l": 8.0,
            "n_cells": 1,
        }
    )
    return Cohort("made-up", patients, np.zeros((MADE_UP, 1, 1, 3), np.uint8), ["0" * 64] * MADE_UP)


def made_up_plan(cohort: Cohort, trials: int, epochs: int) -> Plan:
    """Return a plan of the tiny space without baselines."""
    settings = Settings(trials=trials, epochs=epochs, grace=3, reduction=3)
    plan = make_plan(load_space("tiny"), settings, make_folds(cohort.labels, 5, 1, 0), {"cohort": "made up"})
    return replace(plan, baselines=[])


def new_run(folder: str) -> Run:
    path = Path(folder) / "run"
    path.mkdir()
    return Run(path)


class Workers:
    """Simulated workers that train the board's trials; each epoch takes a random time and improves a little."""

    def __init__(self, board: Board, cohort: Cohort, workers: int) -> None:
        self.board, self.rng = board, np.random.default_rng(0)
        self.keep = {*board.plan.rungs(), board.plan.epochs}
        self.sides_P, self.noise_NP = cohort.labels - 0.5, self.rng.standard_normal((100, len(cohort.labels)))
        self.gates_RP = np.full(board.plan.folds_RP.shape, np.nan)
        self.waiting = iter(board.waiting)
        self.due: list[tuple[float, int, int, float, float]] = []  # when, number, epoch, its usual seconds, skill
        for _ in range(workers):
            self.start(0.0)

    def start(self, now: float) -> None:
        """Have a worker begin with the next trial, if there is one."""
        if (trial := next(self.waiting, None)) is not None:
            usual_s, skill = float(self.rng.lognormal(3, 0.7)), float(self.rng.normal(2, 0.7))
            self.plan_epoch(now, trial.number, 1, usual_s, skill)

    def plan_epoch(self, now: float, number: int, epoch: int, usual_s: float, skill: float) -> None:
        ends = now + usual_s * float(self.rng.lognormal(0, 0.2))
        heapq.heappush(self.due, (ends, number, epoch, usual_s, skill))

    def reports(self) -> Iterator[tuple[int, Report, Callable[[bool], None]]]:
        """Yield number, report, and whom to tell whether the trial goes on, in the order of time."""
        while self.due:
            now, number, epoch, usual_s, skill = heapq.heappop(self.due)
            probability_P = expit((skill + 0.1 * epoch) * self.sides_P + self.noise_NP[self.rng.integers(100)])
            files: dict[str, str] = {}
            if epoch in self.keep:
                files = self.save(number, epoch)
            curve = {
                "train_loss": 0.5,
                "train_loss_sd": 0.1,
                "learning_rate": 1e-3,
                "seconds": usual_s,
                "chunk_pixels": 0,
            }

            def tell(
                goes_on: bool, of: tuple[float, int, int, float, float] = (now, number, epoch, usual_s, skill)
            ) -> None:
                if goes_on:
                    self.plan_epoch(of[0], of[1], of[2] + 1, *of[3:])
                else:
                    self.start(of[0])

            yield number, Report(epoch, probability_P[None], self.gates_RP, curve, files), tell

    def save(self, number: int, epoch: int) -> dict[str, str]:
        folder = self.board.run.trial(self.board.records[number].trial.hash) / WEIGHTS_AT.format(epoch)
        folder.mkdir(parents=True)
        (folder / "repeat-0-fold-0.safetensors").write_bytes(b"weights")
        return hashes(folder)


@contextmanager
def syncs_watched(watch: Watch) -> Iterator[None]:
    """Have `watch` held to each fsync in the block."""
    real = os.fsync

    def fsync(file: Any) -> None:
        with watch:
            real(file)

    os.fsync = fsync
    try:
        yield
    finally:
        os.fsync = real


def scale_one(trials: int, workers: int = 1000, epochs: int = 9) -> dict[str, float]:
    """Return what the driver of a search of so many trials spends, a trial, and how many were stopped."""
    planned, driven, lines, table, synced, read = (Watch() for _ in range(6))
    cohort = made_up_cohort()
    made_up_plan(cohort, 1, epochs)  # imports what plans need
    with planned:
        plan = made_up_plan(cohort, trials, epochs)
    with tempfile.TemporaryDirectory(prefix="lt-scale-") as scratch, redirect_stderr(io.StringIO()):
        board = Board(new_run(scratch), cohort, plan)
        off, on, file, stop_watcher = Display(), Display(), ProgressFile(), StopWatcher(board)
        simulated = Workers(board, cohort, min(workers, trials))
        before = peak_bytes()
        with syncs_watched(synced):
            for number, said, tell in simulated.reports():
                with driven:
                    goes_on = board.report(number, said) and said.epoch < epochs
                    if not goes_on:
                        board.end(number)
                    stop_watcher.halted()
                    file(board)
                with lines:
                    off(board)
                with table, redirect_stderr(Screen()):
                    on(board)
                tell(goes_on)
            with driven:
                board.close()
        on.close()
        grown = peak_bytes() - before
        statuses = Counter(record.status for record in board.table.settled)
        again = Board(board.run, cohort, plan)
        with read:
            again.restore()
        if again.table.rows().to_csv() != board.table.rows().to_csv():
            raise SystemExit("the run is read as another than it was")
    per = 1e3 / trials
    return {
        "trials": trials,
        "plan": planned.processor_s * per,
        "driver": driven.processor_s * per,
        "lines": lines.processor_s * per,
        "table": table.processor_s * per,
        "wall": driven.wall_s * per,
        "fsync": synced.wall_s / driven.wall_s,
        "kb": grown / KB / trials,
        "stopped": statuses["stopped"] / trials,
        "settled": statuses.total(),
        "read": read.wall_s * per,
    }


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def scale(given: argparse.Namespace) -> None:
    """Print the table of what a trial costs the driver."""
    print(
        f"{given.workers} simulated workers, {MADE_UP} patients; a trial: processor ms to plan, of the driver, of its\n"
        "display as lines and as a live table; its wall ms and the share of them in fsync; peak memory; ms to be read\n"
        "again by --resume"
    )
    print(
        f"{'trials':>6} {'plan':>5} {'driver':>6} {'lines':>6} {'table':>6} {'wall':>6} {'fsync':>5} {'kB':>6} "
        f"{'stopped':>7} {'read':>5}"
    )
    rows = []
    for trials in given.trials:
        one = alone("scale_one", trials=trials, workers=given.workers)
        rows.append(one)
        print(
            f"{trials:6} {one['plan']:5.1f} {one['driver']:6.1f} {one['lines']:6.2f} {one['table']:6.2f} "
            f"{one['wall']:6.1f} {one['fsync']:5.2f} {one['kb']:6.1f} {one['stopped']:7.2f} {one['read']:5.1f}",
            flush=True,
        )
    for name in ("plan", "driver", "lines", "table", "read"):
        say_growth(name, [row[name] for row in rows], given.trials, NEGLIGIBLE * rows[0]["driver"])
    say_growth("kB", [row["kb"] for row in rows], given.trials)


def say_growth(name: str, values: list[float], sizes: list[int], negligible: float = 0.0) -> None:
    """Say whether a cost a trial grows with the number of trials."""
    if len(values) > 1 and values[-1] > LEVEL * values[0] and values[-1] - values[0] > negligible:
        print(f"NOT FLAT: {name} a trial is {values[0]:.3g} at {sizes[0]} trials, {values[-1]:.3g} at {sizes[-1]}")


# ---- tune


@dataclass(frozen=True)
class Idle(Shared):
    """Trials of one epoch that trains nothing."""

    def train(self, trial: Any, start: Any = None) -> Any:
        from lymphtune.training.lockstep import EpochResult

        probability_RP = np.where(self.plan.folds_RP >= 0, 0.5, np.nan)
        yield EpochResult(
            1,
            probability_RP,
            np.full_like(probability_RP, np.nan),
            0.7,
            0.0,
            1e-3,
            0.0,
            lambda folder: folder.mkdir(parents=True),
        )


def tune_one(trials: int, workers: int = 2) -> dict[str, float]:
    """Return what trials that do nothing cost on a real local Ray."""
    import psutil

    from lymphtune.cluster.runner import ray_cluster, run_trials
    from lymphtune.training.precision import Precision

    cohort = made_up_cohort()
    plan = made_up_plan(cohort, trials, 1)
    with tempfile.TemporaryDirectory(prefix="lt-tune-") as scratch, ray_cluster(None):
        board = Board(new_run(scratch), cohort, plan)
        shared = Idle(cohort, replace(plan, trials=[]), board.run.path, "cpu", Precision())
        display, file, memory = Display(), ProgressFile(), psutil.Process().memory_info
        before, watch = memory().rss, Watch()

        def show(board: Board) -> None:
            display(board)
            file(board)

        with watch:
            run_trials(board, shared, workers, 0, StopWatcher(board), show)
        grown = memory().rss - before
        board.close()
        done = sum(record.status == "done" for record in board.table.settled)
    if done != trials:
        raise SystemExit(f"{done} of {trials} trials have ended well")
    return {
        "driver": 1e3 * watch.processor_s / trials,
        "seconds": watch.wall_s / trials,
        "mb": grown / 1e6,
        "kb": grown / KB / trials,
    }


def tune_costs(given: argparse.Namespace) -> None:
    """Print the table of what a trial costs on Tune."""
    print(
        "two workers, trials that train nothing; a trial: processor ms of the driver, seconds; memory the driver grew"
    )
    print(f"{'trials':>6} {'driver':>6} {'seconds':>7} {'MB':>6} {'kB a trial':>10}")
    rows = []
    for trials in given.trials:
        one = alone("tune_one", trials=trials)
        rows.append(one)
        print(f"{trials:6} {one['driver']:6.1f} {one['seconds']:7.3f} {one['mb']:6.1f} {one['kb']:10.1f}", flush=True)
    for name in ("driver", "seconds", "kb"):
        say_growth(name, [row[name] for row in rows], given.trials)


# ---- commands


def alone(function: str, **given: Any) -> dict[str, float]:
    """Return what the function returns in a process of its own, so that peak memory and Ray are its own, too."""
    command = [sys.executable, __file__, "one", json.dumps([function, given])]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode:
        raise SystemExit(f"{function} {given} has failed:\n{child.stdout[-2000:]}\n{child.stderr[-4000:]}")
    return dict(json.loads(child.stdout.splitlines()[-1]))


def one(given: argparse.Namespace) -> None:
    function, how = json.loads(given.call)
    print("\n" + json.dumps({"busy_one": busy_one, "scale_one": scale_one, "tune_one": tune_one}[function](**how)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("busy")
    command.add_argument("--seconds", type=float, nargs="+", default=list(TARGETS))
    command.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    command.add_argument("--trials", type=int, help=f"of each search; without it, as many as last {WALL_S:.0f} s")
    command.set_defaults(call_with=busy)
    command = commands.add_parser("scale")
    command.add_argument("--trials", type=int, nargs="+", default=[100, 300, 1000, 3000, 10_000])
    command.add_argument("--workers", type=int, default=1000)
    command.set_defaults(call_with=scale)
    command = commands.add_parser("tune")
    command.add_argument("--trials", type=int, nargs="+", default=[50, 200, 800])
    command.set_defaults(call_with=tune_costs)
    command = commands.add_parser("one")
    command.add_argument("call")
    command.set_defaults(call_with=one)
    given = parser.parse_args()
    given.call_with(given)


if __name__ == "__main__":
    main()
