"""Trials on Ray Tune: a scheduler and a callback that only pass on what the board decides."""

import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

PATIENT = {"TUNE_FUNCTION_THREAD_TIMEOUT_S": "300"}  # for a stopped trial's clean-up; Tune drops the next trial after 2
QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # the run's folder is the truth, Tune's own state is of no use
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours below notices that it was interrupted; Tune's would not tell
}
os.environ |= {name: value for name, value in (QUIET | PATIENT).items() if name not in os.environ}

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray._private import ray_constants  # noqa: E402
from ray.tune.schedulers import FIFOScheduler, TrialScheduler  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402

from lymphtune import console  # noqa: E402
from lymphtune.cluster.fractions import measured_fraction, slim  # noqa: E402
from lymphtune.cluster.local_ray import Folders, local_folders, own_token  # noqa: E402
from lymphtune.cluster.ray_errors import errors_in_a_line, latest_reason  # noqa: E402
from lymphtune.cluster.tensorboard import tensorboard  # noqa: E402
from lymphtune.cluster.trainable import FAILED, NO_ROOM, SAID, run_trial  # noqa: E402
from lymphtune.cohort import Cohort  # noqa: E402
from lymphtune.errors import InputError, shortened  # noqa: E402
from lymphtune.platforms import kill_groups, led_process_groups, usable_cpus  # noqa: E402
from lymphtune.runs.description import PrecisionDescription  # noqa: E402
from lymphtune.searching.board import Board, StopReason  # noqa: E402
from lymphtune.searching.epoch_report import Report  # noqa: E402
from lymphtune.searching.plan import concurrency  # noqa: E402
from lymphtune.searching.settings import Settings  # noqa: E402
from lymphtune.searching.stop_watcher import StopWatcher  # noqa: E402
from lymphtune.searching.trial import Shared  # noqa: E402

logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failures stand on the leaderboard
VITAL = {"gcs_server", "raylet"}  # of the processes of a local Ray
LOCAL_STORE_BYTES = 150_000_000  # pictures of a local search are mapped from the cache, not stored


@contextmanager
def ray_cluster(address: str | None) -> Iterator[dict[str, float]]:
    """Yield the cluster's resources; a local Ray is started for the block and listens on loopback only."""
    if ray.is_initialized():  # the caller's own cluster: used, and left running
        yield ray.cluster_resources()
        return
    handler = signal.getsignal(signal.SIGTERM)  # Ray puts its own there, which would end the search without a word
    try:
        with errors_in_a_line(), _local_ray() if address is None else _joined_ray(address):
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)
            yield ray.cluster_resources()
    except SystemExit as error:  # what Ray's handler does
        raise KeyboardInterrupt from error


@contextmanager
def _joined_ray(address: str) -> Iterator[None]:
    """Be a driver of the cluster at the address for the block."""
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env={"env_vars": PATIENT})
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise InputError(
            f"address {address}: no Ray cluster answers there that can be joined ({shortened(str(error))}); it wants "
            "the same Ray and the same token (RAY_AUTH_MODE, ~/.ray/auth_token)"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _local_ray() -> Iterator[None]:
    """Run a Ray on this machine for the block; its processes, its token and its folders end with it."""
    groups = list[int]()
    with local_folders() as folders, own_token(folders.token):
        try:
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # read by Ray's own processes as they start,
            ray_constants.ENABLE_RAY_CLUSTER = False  # and by this one when Ray was imported
            _keep_signals_from_ray()
            _start_ray(folders)
            groups = _own_groups()
            yield
        finally:
            if _dead_of_ray():  # its shutdown may then end this process before it comes to anything else
                kill_groups(groups)
            ray.shutdown()
            kill_groups(groups)  # else agents look for a server that crashed for a minute


def _start_ray(folders: Folders) -> None:
    """Start a local Ray; raises InputError where it does not come up in Ray's half minute."""
    spill: dict[str, Any] = {} if folders.spill is None else {"object_spilling_directory": str(folders.spill)}
    try:
        ray.init(
            address="local",
            num_cpus=usable_cpus(),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=LOCAL_STORE_BYTES,
            _temp_dir=str(folders.sessions),
            **spill,
        )
    except Exception as error:  # Ray raises nothing narrower
        if "timed out during startup" not in str(error):
            raise
        raise InputError("Ray did not start in time, as on a machine that is too busy; try again") from error


def _own_groups() -> list[int]:
    """Return the process groups that Ray's own processes lead; their helpers are in them."""
    node: Any = ray._private.worker._global_node
    return led_process_groups([started.process.pid for kind in node.all_processes.values() for started in kind])


def _keep_signals_from_ray() -> None:
    """Start Ray's processes in groups of their own: what a terminal or a batch system sends to the driver's whole group
    would end them first, and they would take the driver along before it has closed the run."""
    from ray._private import services, utils

    start = vars(services)["ConsolePopen"]
    if utils.detect_fate_sharing_support() and not isinstance(start, partial):
        vars(services)["ConsolePopen"] = partial(start, process_group=0)


class _RayDied(BaseException):
    """A process that Ray cannot do without has ended; no Exception, or Tune would try to clean up with its help."""


def _dead_of_ray() -> set[str]:
    """Return which vital processes of a local Ray have ended."""
    node = ray._private.worker._global_node
    return {str(kind) for kind, _ in node.dead_processes()} & VITAL if node else set()


def _check_ray_lives() -> None:
    """Raise _RayDied where a local Ray has lost a vital process: it would end this one, too, within a minute."""
    if dead := _dead_of_ray():
        raise _RayDied(" and ".join(sorted(dead)))


class _Numbers(Searcher):
    """Hands out the trials that wait, one after the other."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self.board, self.waiting = board, iter(board.waiting)

    def suggest(self, trial_id: str) -> Any:
        trial = next(self.waiting, None) or self.board.propose()
        if trial is None:
            return Searcher.FINISHED
        self.board.start(trial.number)
        return trial.as_config() | {"heard": self.board.records[trial.number].epochs}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing to learn here: the board hears it from the callback."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep: the run's folder is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to take up."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray writes its searcher down; the board stays here


class _Scheduler(FIFOScheduler):
    """Stops the trials that the board stops."""

    def __init__(self, board: Board, stop_watcher: StopWatcher) -> None:
        super().__init__()
        self.board, self.stop_watcher = board, stop_watcher

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        goes_on = True
        with self.stop_watcher.pausing():
            goes_on = self._hear(trial.config["number"], result)
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP

    def _hear(self, number: int, result: dict[str, Any]) -> bool:
        if NO_ROOM in result:
            raise InputError(result[NO_ROOM])
        if FAILED in result:
            self.board.end(number, result[FAILED])
            return False
        return SAID not in result or self.board.report(number, Report.read(result[SAID][0]))

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Callback(tune.Callback):
    """Tells the board of trials that ended, died or were tried again, and the display of anything that happened."""

    def __init__(self, board: Board, stop_watcher: StopWatcher, show: Callable[[Board], None]) -> None:
        self.board, self.stop_watcher, self.show = board, stop_watcher, show

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        with self.stop_watcher.pausing():
            self.show(self.board)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        with self.stop_watcher.pausing():
            self.board.end(trial.config["number"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        _check_ray_lives()  # else its workers' ends would count as failures
        with self.stop_watcher.pausing():
            self.board.end(trial.config["number"], _last_line(trial.error_file))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        _check_ray_lives()
        with self.stop_watcher.pausing():
            self.board.tried_again(trial.config["number"], _last_line(trial.error_file))

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Stopper(tune.Stopper):
    """Ends the experiment when the search is halted."""

    def __init__(self, stop_watcher: StopWatcher) -> None:
        self.stop_watcher = stop_watcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        _check_ray_lives()
        return self.stop_watcher.halted()

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _last_line(error_file: str | None) -> str:
    return latest_reason(Path(error_file).read_text(encoding="utf-8", errors="replace") if error_file else "")


def survive_out_of_memory() -> None:
    """Let Tune count a worker killed for memory as that trial's failure; it would end the whole search."""
    from ray.air.execution._internal import actor_manager
    from ray.exceptions import OutOfMemoryError, RayActorError
    from ray.tune.execution import tune_controller

    for module in (actor_manager, tune_controller):
        if vars(module)["RayActorError"] is RayActorError:
            vars(module)["RayActorError"] = (RayActorError, OutOfMemoryError)


def precision_there(settings: Settings, device: str, gpus: float, before: PrecisionDescription | None) -> Any:
    """Return a training.precision.Precision: what the run has trained with before on such a device, else the
    fastest precision and layout, measured where the trials will run."""
    import torch

    from lymphtune.training.precision import Precision, fastest_precision

    if before and before.device == device:
        return Precision(before.precision, before.channels_last)
    if settings.address is None:
        return fastest_precision(torch.device(device), settings.cpus_per_trial)
    there = ray.remote(num_cpus=settings.cpus_per_trial, num_gpus=gpus)(fastest_precision)
    return ray.get(there.remote(torch.device(device), settings.cpus_per_trial))


def shared_gpus(board: Board, cohort: Cohort, gpus: float, precision: Any) -> tuple[int, float]:
    """Return how many trials run at once and what of a GPU each gets, from steps measured on one that is free."""
    there = ray.remote(num_cpus=board.plan.settings.cpus_per_trial, num_gpus=1)(measured_fraction)
    found = ray.get(there.remote(ray.put(cohort), slim(board.plan), "cuda", precision))
    console.say(f"{found:g} of a GPU a trial, measured")
    resources = ray.cluster_resources()
    return concurrency(replace(board.plan.settings, gpus_per_trial=found), resources.get("CPU", 1), gpus)


def run_trials(board: Board, shared: Shared, gpus: float, stop_watcher: StopWatcher, show: Any) -> None:
    """Train all trials that wait, `board.slots` at a time, until they have ended or the search is halted."""
    survive_out_of_memory()
    settings = shared.plan.settings
    scratch = tempfile.mkdtemp(prefix="lymphtune-tune-")
    if settings.address is None:  # its folder goes after all its workers
        node: Any = ray._private.worker._global_node
        shared = replace(shared, scratch=Path(node.get_session_dir_path()))
    trainable = tune.with_resources(
        tune.with_parameters(run_trial, shared=shared), {"cpu": settings.cpus_per_trial, "gpu": gpus}
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=_Numbers(board),
            num_samples=board.left,
            scheduler=_Scheduler(board, stop_watcher),
            max_concurrent_trials=board.slots,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=scratch,
            verbose=0,
            callbacks=[_Callback(board, stop_watcher, show), tensorboard(board, stop_watcher)],
            failure_config=tune.FailureConfig(max_failures=settings.max_failures),
            stop=_Stopper(stop_watcher),
        ),
    )
    stop_watcher.trials_run = True
    try:
        tuner.fit()
    except _RayDied as died:
        why = f"Ray's own {died} died (killed, or for want of memory); see what did it"
        board.halt = board.halt or StopReason("failed", why)
    finally:
        stop_watcher.trials_run = False
        shutil.rmtree(scratch, ignore_errors=True)
