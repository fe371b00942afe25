"""Trials on Ray Tune: a scheduler and a callback that only pass on what the board decides."""

import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENT = {"TUNE_FUNCTION_THREAD_TIMEOUT_S": "300"}  # for a stopped trial's clean-up; Tune drops the next trial after 2
QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours below notices that it was interrupted; Tune's would not tell
}
os.environ |= {name: value for name, value in (QUIET | PATIENT).items() if name not in os.environ}

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.schedulers import FIFOScheduler, TrialScheduler  # noqa: E402

from lymphtune import console  # noqa: E402
from lymphtune.errors import InputError  # noqa: E402
from lymphtune.searching.board import Board  # noqa: E402
from lymphtune.searching.plan import Settings, local_cpus  # noqa: E402
from lymphtune.searching.trial import CURVE, FAILED, Shared, run_trial  # noqa: E402

LOCAL_STORE_BYTES = 150_000_000  # pictures of a local search are mapped from the cache, not stored


@contextmanager
def ray_cluster(address: str | None) -> Iterator[dict[str, float]]:
    """Yield the cluster's resources; a local Ray is started for the block and listens on loopback only."""
    if ray.is_initialized():  # the caller's own cluster: used, and left running
        yield ray.cluster_resources()
        return
    scratch = tempfile.mkdtemp(prefix="lt-")
    try:
        if address is None:
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
            ray.init(
                address="local", num_cpus=local_cpus(), include_dashboard=False, log_to_driver=False,
                logging_level=logging.ERROR, object_store_memory=LOCAL_STORE_BYTES, _temp_dir=scratch,
            )  # fmt: skip
        else:
            try:
                ray.init(
                    address=address, log_to_driver=False, logging_level=logging.ERROR,
                    runtime_env={"env_vars": PATIENT},
                )  # fmt: skip
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise InputError(f"address {address}: no Ray cluster answers there ({error})") from error
        yield ray.cluster_resources()
    finally:
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


class _Scheduler(FIFOScheduler):
    """Stops the trials that the board stops."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self.board = board

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if FAILED in result:
            self.board.end(trial.config["number"], result[FAILED])
            return TrialScheduler.STOP
        if "epoch" not in result:
            return TrialScheduler.CONTINUE
        curve = {name: result[name] for name in CURVE}
        said = (result["epoch"], result["probabilities"], curve, result["gates"])
        goes_on = self.board.report(trial.config["number"], *said)
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray writes its scheduler down; the board is the truth, and stays here


class _Callback(tune.Callback):
    """Tells the board of trials that ended or died, and the display of anything that happened."""

    def __init__(self, board: Board, show: Callable[[Board], None]) -> None:
        self.board, self.show = board, show

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.show(self.board)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.board.end(trial.config["number"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.board.end(trial.config["number"], _last_line(trial.error_file))

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _last_line(error_file: str | None) -> str:
    text = Path(error_file).read_text(encoding="utf-8", errors="replace") if error_file else ""
    if "OutOfMemoryError" in text or "ray.exceptions.OutOfMemory" in text:
        return "out of memory: the machine killed its worker"
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "its worker died"


def survive_out_of_memory() -> None:
    """Let Tune count a worker killed for memory as that trial's failure; it would end the whole search."""
    from ray.air.execution._internal import actor_manager
    from ray.exceptions import OutOfMemoryError, RayActorError
    from ray.tune.execution import tune_controller

    for module in (actor_manager, tune_controller):
        if vars(module)["RayActorError"] is RayActorError:
            vars(module)["RayActorError"] = (RayActorError, OutOfMemoryError)


def measured_arithmetic(settings: Settings, device: str, gpus: float) -> Any:
    """Return the fastest precision and layout, a training.arithmetic.Arithmetic, measured where the trials will run."""
    import torch

    from lymphtune.training.arithmetic import measured

    if settings.address is None:
        return measured(torch.device(device), settings.cpus_per_trial)
    there = ray.remote(num_cpus=settings.cpus_per_trial, num_gpus=gpus)(measured)
    return ray.get(there.remote(torch.device(device), settings.cpus_per_trial))


def run_trials(board: Board, shared: Shared, slots: int, gpus: float, show: Callable[[Board], None]) -> bool:
    """Train all trials of the plan, `slots` at a time; return False if a person interrupted it."""
    survive_out_of_memory()
    settings = shared.plan.settings
    scratch = tempfile.mkdtemp(prefix="lymphtune-tune-")
    interrupted: list[int] = []
    trainable = tune.with_resources(
        tune.with_parameters(run_trial, shared=shared), {"cpu": settings.cpus_per_trial, "gpu": gpus}
    )
    tuner = tune.Tuner(
        trainable,
        param_space={"number": tune.grid_search([trial.number for trial in shared.plan.trials])},
        tune_config=tune.TuneConfig(
            scheduler=_Scheduler(board), max_concurrent_trials=slots, reuse_actors=True,
            time_budget_s=settings.time_budget_s, trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="trials", storage_path=scratch, callbacks=[_Callback(board, show)], verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )  # fmt: skip
    try:
        with _noticing_interrupts(interrupted):
            tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return not interrupted


@contextmanager
def _noticing_interrupts(seen: list[int]) -> Iterator[None]:
    """Note SIGINT and SIGTERM in `seen` and let Tune stop cleanly; a second one stops at once."""

    def note(number: int, frame: Any) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)
        console.say("Stopping: what has ended is kept. Once more stops at once.")
        os.kill(os.getpid(), signal.SIGUSR1)  # Tune's own request to stop

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
