"""One search from its words to its leaderboard: plan, describe, train, report; and the same again after a break."""

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from lymphtune import console
from lymphtune.cluster.addresses import check_answers
from lymphtune.cluster.local_ray import check_local_ray
from lymphtune.cohort import SIMULATED, Cohort, default_data
from lymphtune.cohort.folds import folds_table, roles_table
from lymphtune.console import counted
from lymphtune.errors import InputError
from lymphtune.files import RUNS, DiskFullError, exclusive_lock, hashes, remove, write_table, write_yaml
from lymphtune.platforms import usable_cpus
from lymphtune.runs.description import RunDescription, StoppingDescription
from lymphtune.runs.driver_lock import only_driver
from lymphtune.runs.mirror import Mirror, StorageError, check_writable
from lymphtune.runs.run import DRIVER, Run, find_run, resume_command, stopping_text
from lymphtune.runs.storage import PATIENT_S, join
from lymphtune.scratch import remove_unfinished
from lymphtune.searching.board import Board, StopReason
from lymphtune.searching.budget import Budget
from lymphtune.searching.description import as_sampled, check_same, describe, settings_of, space_of, stages_of
from lymphtune.searching.display import Display, leaderboard_text
from lymphtune.searching.epoch_report import Report
from lymphtune.searching.grid_table import table_text
from lymphtune.searching.live_report import LiveReport, live_report
from lymphtune.searching.plan import Plan, concurrency
from lymphtune.searching.prepare import prepare
from lymphtune.searching.progress import ProgressFile
from lymphtune.searching.settings import Settings
from lymphtune.searching.stop_watcher import STOP, StopWatcher
from lymphtune.searching.trackers.tracking import tracked
from lymphtune.searching.trial import WEIGHTS_AT, Shared
from lymphtune.spaces import Space, load_space

CUT_SHOWN = 5  # trials named as cut short


class _Ended(Exception):
    """The search was halted while something before its trials was computed."""


def search(
    space: str | Path = "mixed",
    data: str | Path | None = None,
    settings: Settings | None = None,
    started: float | None = None,
) -> Run:
    """Return the finished run of a search of `space` on the cohort `data`.

    A run of the same name is resumed, and extended where more trials or epochs are asked for. Raises InputError
    on anything a person can mend, before anything is written or started. started: when the command began, by
    time.monotonic, from where its time budget counts; now unless it is given.
    """
    started = time.monotonic() if started is None else started
    settings = settings or Settings()
    check_cluster(settings)
    data = default_data() if data is None else data
    if settings.name and (settings.runs / settings.name / "run.yaml").is_file():
        run = Run((settings.runs / settings.name).resolve())
        return _go_on(run, as_sampled(run, load_space(space)), data, settings, started)
    cohort, plan = prepare(space, data, settings)
    return run_plan(cohort, plan, data, started)


def resume(
    name: str | None = None,
    runs: Path = RUNS,
    data: str | Path | None = None,
    forgiven: bool = False,
    started: float | None = None,
    **changes: Any,
) -> Run:
    """Return the named run, or the latest, resumed where it was left: nothing that has ended is repeated.

    changes: Settings of the machine, or more trials or epochs; others raise InputError, as they make another search.
    forgiven: failed trials are retried. started: as for `search`.
    """
    started = time.monotonic() if started is None else started
    found = find_run(name, runs, changes.get("storage"))
    run = Run(found.path.resolve())
    settings = settings_of(run, changes)
    check_cluster(settings)
    was = run.description.cohort.data
    if data is None and str(was) != SIMULATED and not Path(was).exists():
        raise InputError(f"{was}: no such file or folder, and the run {run.name} is of it; name the cohort with --data")
    return _go_on(run, space_of(run), data or was, settings, started, forgiven)


def check_address(settings: Settings) -> None:
    """Raise InputError where a cluster is named and none answers at its address."""
    if settings.address is not None:
        check_answers(settings.address)


def check_cluster(settings: Settings) -> None:
    """Raise InputError where no Ray cluster answers at the address, or no local one could start here."""
    check_address(settings)
    if settings.address is None:
        check_local_ray()


def _go_on(run: Run, space: Space, data: str | Path, settings: Settings, started: float, forgiven: bool = False) -> Run:
    cohort, plan = prepare(space, data, settings, stages_of(run))
    check_same(run, describe(run, cohort, plan, data))
    return run_plan(cohort, plan, data, started, run, forgiven)


def run_plan(
    cohort: Cohort, plan: Plan, data: str | Path, started: float, earlier: Run | None = None, forgiven: bool = False
) -> Run:
    """Return the finished run of a plan, a new one or `earlier` resumed; `started`: when the work on it began.

    Raises KeyboardInterrupt where a signal ended it, InputError where a disk or failing trials did.
    """
    if plan.settings.storage:
        check_writable(plan.settings.storage)
    run = earlier or _new_run(plan.settings, plan.space.name)
    budget = Budget(plan.settings.time_budget_s, started, plan.settings.report)
    with (
        _mirrored(run, plan.settings.storage, earlier is None) as mirror,
        live_report(run, data, plan.settings.report, budget) as live,
        _only_driver(run),
    ):
        board = Board(run, cohort, plan, mirror)
        if earlier:
            if mirror:
                mirror.pull()
            remove_unfinished(run.path)
            board.restore(forgiven)
        board.limit_s = lambda: budget.left_s - budget.reserve_s
        description = _begin(run, cohort, plan, data)
        with tracked(board, description.created, budget):
            seconds, busy = _drive(board, cohort, budget, live, description)
        _tell(board, cohort, busy, seconds)
    return run


def _drive(
    board: Board, cohort: Cohort, budget: Budget, live: LiveReport | None, description: RunDescription
) -> tuple[float, float]:
    """Train what waits, and write down how that ended; return the seconds it took, and the part spent in training."""
    status, display = "failed", Display(len(board.table.settled))
    stop_watcher = StopWatcher(board, budget)
    watching: list[Callable[[Board], None]] = [display, ProgressFile(), *([live] if live else [])]
    try:
        with stop_watcher.noticing(), suppress(_Ended):
            if board.mirror:  # others see the run before its first trial
                board.mirror.push_own()
            if board.left and not stop_watcher.halted():
                _train(board, cohort, board.plan, watching, description, stop_watcher)
        status = board.halt.status if board.halt else "done"
    except KeyboardInterrupt:
        board.halt = StopReason("interrupted", "a signal")
        status = "interrupted"
    except (DiskFullError, StorageError) as error:
        board.halt = board.halt or StopReason("paused", str(error))
        status = board.halt.status
    finally:
        if status == "failed":
            board.halt = board.halt or StopReason("failed", "an error")
        _close(board, display)
        seconds = budget.spent_s
        busy = board.trained_s / (seconds * board.slots)
        with suppress(InputError):  # where the disk is full, run.yaml stays as it was
            ended = _ended(board.run.description, status, seconds, busy, _stopping(board))
            _write_description(board.run, ended)
            if board.mirror:
                board.mirror.push_own()
        if live:
            live.over(board)
    return seconds, busy


def _ended(
    description: RunDescription, status: str, seconds: float, busy: float, stopping: StoppingDescription
) -> RunDescription:
    """Return the description of a search that ended, with the time it took before it was resumed."""
    before_s, total_s = description.seconds, description.seconds + seconds
    busy = (description.busy * before_s + busy * seconds) / total_s
    timing = {"seconds": round(total_s, 1), "busy": round(busy, 3)}
    return description.changed(status=status, stopping=stopping.as_yaml(), **timing)


def _stopping(board: Board) -> StoppingDescription:
    """Return what early stopping decided so far."""
    decisions = board.rungs.decisions
    decided = sum(count > 0 for count in decisions.values())
    return StoppingDescription(rungs=len(decisions), decided=decided, stopped=len(board.rungs.stopped_at))


def _close(board: Board, display: Display) -> None:
    if board.mirror and board.halt and board.halt.status == "paused":
        board.mirror.hurry()
    try:
        board.close()
    except InputError as error:  # no room: what is written is whole, and the rest is in the ledgers
        board.halt = board.halt or StopReason("paused", str(error))
    display(board)
    display.close()


def _tell(board: Board, cohort: Cohort, busy: float, seconds: float) -> None:
    """Print the results, and how to resume the search where it is not over."""
    if board.table.settled:
        print(leaderboard_text(board.table.rows()))
        if board.plan.space.rows:
            print(table_text(board))
    place = board.mirror.uri if board.mirror else board.run.path
    console.say(_closing(place, cohort, busy, board.slots, seconds))
    console.say(f"early stopping: {stopping_text(board.plan.settings.scheduler, _stopping(board))}")
    if board.halt is None:
        return
    how = f"`{resume_command(board.run, board.plan.settings.storage)}` resumes the search"
    if board.halt.status in ("paused", "failed"):
        raise InputError(f"{board.halt.status}: {board.halt.why}; then {how}")
    if cut := _cut_short(board):
        console.say(cut)
    console.say(f"{counted(board.left, 'trial')} not ended ({board.halt.why}): {how}")
    if board.halt.status == "interrupted":
        raise KeyboardInterrupt


def _cut_short(board: Board) -> str:
    """Return which trials were stopped in the middle, and where a resumed search takes them up; empty if none was."""
    cut = [record for record in board.records.values() if record.started and not record.row]
    if not cut:
        return ""
    named = [f"{record.trial.hash[:6]} after epoch {record.epochs} of {record.trial.epochs}" for record in cut]
    more = f" and {len(cut) - CUT_SHOWN} more" if len(cut) > CUT_SHOWN else ""
    return f"cut short: {', '.join(named[:CUT_SHOWN])}{more}; resumed from their last checkpoints"


@contextmanager
def _mirrored(run: Run, storage: str | None, fresh: bool) -> Iterator[Mirror | None]:
    """Yield the mirror of a run that this search alone drives in the storage, None where its folder is all there is.

    Raises InputError, a fresh run's folder removed, where another search drives it or made it in the meantime.
    """
    if storage is None:
        yield None
        return
    uri, begun = join(storage, run.name), False
    try:
        with only_driver(uri) as may_write:
            mirror = Mirror(uri, run.path, PATIENT_S, may_write)
            if fresh and mirror.has("run.yaml"):
                raise InputError(f"{uri}: another search has made this run in the meantime; take another --name")
            begun = True
            mirror.take(STOP)
            yield mirror
    finally:
        if fresh and not begun:
            shutil.rmtree(run.path, ignore_errors=True)


@contextmanager
def _only_driver(run: Run) -> Iterator[None]:
    """Be the only one that drives this run, or raise InputError."""
    who = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now().isoformat(timespec="seconds")}
    with exclusive_lock(run.path / DRIVER, who):
        remove(run.path / STOP)
        yield


def _begin(run: Run, cohort: Cohort, plan: Plan, data: str | Path) -> RunDescription:
    """Write down what is going to be done, and return it."""
    description = describe(run, cohort, plan, data)
    if (run.path / "run.yaml").is_file():
        before = run.description
        kept = {name: value for name, value in before.as_yaml().items() if name in ("arithmetic", "seconds", "busy")}
        if before.versions != description.versions:
            console.say(
                "The installed versions are not those that the run was started with: numbers may differ a little."
            )
        description = description.changed(created=before.created, **kept)
    _write_description(run, description)
    write_table(run.path / "folds.parquet", folds_table(cohort, plan.folds_RP), cohort.about)
    write_table(run.path / "roles.parquet", roles_table(cohort, plan.folds_RP), cohort.about)
    console.say(_opening(run, cohort, plan))
    return description


def _train(
    board: Board,
    cohort: Cohort,
    plan: Plan,
    watching: Sequence[Callable[[Board], None]],
    description: RunDescription,
    stop_watcher: StopWatcher,
) -> None:
    """Train the baselines (while Ray starts) and the trials that have not ended; who is watching hears of it."""

    def show(board: Board) -> None:
        for watcher in watching:
            watcher(board)

    if plan.settings.address is None:
        _compute_features(cohort, plan, stop_watcher)
    with ThreadPoolExecutor(1) as beside:
        baselines = beside.submit(_train_baselines, board, cohort, plan, stop_watcher)
        from lymphtune.cluster.runner import precision_there, ray_cluster, run_trials, shared_gpus

        began = time.monotonic()
        with ray_cluster(plan.settings.address) as resources:
            stop_watcher.budget.start_up_s = time.monotonic() - began
            board.slots, gpus = concurrency(plan.settings, resources.get("CPU", 1), resources.get("GPU", 0))
            baselines.result()
            show(board)
            if stop_watcher.halted():
                return
            if plan.settings.address is not None:  # other hosts cannot map this one's cache
                cohort = replace(cohort, pictures_CSS3=np.asarray(cohort.pictures_CSS3))
            device = "cuda" if gpus else "cpu"
            precision = precision_there(plan.settings, device, gpus, description.arithmetic)
            _write_description(board.run, description.changed(arithmetic=precision._asdict() | {"device": device}))
            if gpus and plan.settings.gpus_per_trial == "auto":
                board.slots, gpus = shared_gpus(board, cohort, resources["GPU"], precision)
            storage = board.mirror.uri if board.mirror else None
            shared = Shared(cohort, replace(plan, trials=[]), board.run.path, device, precision, storage)
            if board.left and not stop_watcher.halted():
                run_trials(board, shared, gpus, stop_watcher, show)


def _compute_features(cohort: Cohort, plan: Plan, stop_watcher: StopWatcher) -> None:
    """Have every frozen encoder's features in the cache before the trials start, on all processors.

    Raises _Ended where the search is halted meanwhile: of the orientation being computed nothing is kept.
    """
    import torch

    from lymphtune.training.frozen import distinct_frozen, features

    def check() -> None:
        if stop_watcher.halted():
            console.say("Features were not finished: those of complete orientations are kept in the cache.")
            raise _Ended

    torch.set_num_threads(usable_cpus())
    on_gpu = torch.cuda.is_available() and plan.settings.gpus_per_trial != 0
    for chosen in distinct_frozen([trial.configuration for trial in plan.networks]):
        features(chosen, cohort, torch.device("cuda" if on_gpu else "cpu"), check=check)
    if on_gpu:
        torch.cuda.empty_cache()  # the trials are other processes


def _train_baselines(board: Board, cohort: Cohort, plan: Plan, stop_watcher: StopWatcher) -> None:
    """Train the clinical baselines, the quick ones first, until the time budget is spent."""
    from lymphtune.training.lockstep import Protocol, train_clinical

    def check() -> None:
        if stop_watcher.budget.over:
            raise _Ended

    for trial in reversed([trial for trial in board.waiting if trial.baseline]):
        try:
            protocol = Protocol(plan.folds_RP, 1, trial.seed)
            result = train_clinical(trial.configuration, cohort, protocol, check)
            folder = board.run.trial(trial.hash) / WEIGHTS_AT.format(result.epoch)
            result.save(folder)
            board.report(trial.number, Report.of(result, hashes(folder)))
            board.end(trial.number)
        except _Ended:
            return
        except ValueError as error:  # scikit-learn's word for too few patients
            board.end(trial.number, str(error).splitlines()[0])


def _new_run(settings: Settings, space: str) -> Run:
    name = settings.name or f"{space}-{datetime.now():%Y%m%d-%H%M%S}"
    path = settings.runs.resolve() / name
    if settings.name is None:
        tries = iter(range(2, 1000))
        while path.exists():
            path = settings.runs.resolve() / f"{name}-{next(tries)}"
    if path.exists():
        raise InputError(f"{path}: is there already and is no run; take another --name")
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be made ({error.strerror}); name another folder with --runs") from error
    return Run(path)


def _write_description(run: Run, description: RunDescription) -> None:
    write_yaml(run.path / "run.yaml", description.as_yaml())


def _opening(run: Run, cohort: Cohort, plan: Plan) -> str:
    n_folds, n_repeats = plan.n_folds, len(plan.folds_RP)
    held_out = int((plan.folds_RP[0] >= 0).sum())
    lines = [
        f"{cohort.title}: {len(cohort.labelled)} labelled patients, "
        f"{len(cohort.to_predict)} to predict, {len(cohort.pictures_CSS3)} pictures",
        f"{run.path}: {counted(plan.count, 'trial')} of '{plan.space.name}', at most {counted(plan.epochs, 'epoch')}, "
        f"{n_folds} {'folds' if n_folds > 1 else 'hold-out'} x {counted(n_repeats, 'seed')}, "
        f"stops at epochs {plan.rungs() or 'none'}",
    ]
    if len(groups := {*cohort.groups[cohort.labelled]}) < len(cohort.labelled):
        lines.append(f"{len(groups)} groups of labelled patients, each of which is in one fold")
    if n_folds == 1:
        lines.append(
            f"One hold-out of {held_out} patients: a balanced accuracy from it is good to about ±11 points, and "
            "choosing among many on it is mostly luck. --folds 5 uses every patient."
        )
    return "\n".join(lines)


def _closing(place: Any, cohort: Cohort, busy: float, slots: int, seconds: float) -> str:
    banner = f"{console.SIMULATED}\n" if cohort.simulated else ""
    warning = "Out-of-fold numbers, and the best row was chosen by them: it is flattered."
    flattered = "\n".join(console.hanging(f"{warning} `lymphtune ensemble` says by how much."))
    return (
        f"{flattered}\n{banner}busy: {100 * busy:.0f} % of {counted(slots, 'worker')} over "
        f"{console.duration(seconds)} was training and evaluation\n{place}"
    )
