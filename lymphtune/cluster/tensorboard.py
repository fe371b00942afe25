"""Curves of every trial as TensorBoard files in the run's folder, always."""

from io import FileIO
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.logger import TBXLoggerCallback
from tensorboardX.record_writer import register_writer_factory

from lymphtune.files import named_write_errors
from lymphtune.searching.board import Board
from lymphtune.searching.stop_watcher import StopWatcher

TENSORBOARD = "tensorboard"  # folder of a run, one folder a trial in it
CURVES = "lymphtune:"  # before a path, for tensorboardX: to be opened by us


class Tracking(tune.Callback):
    """Passes trials and their scores on to Ray's TensorBoard logger, as plain numbers a step an epoch."""

    def __init__(self, inner: Any, board: Board, stop_watcher: StopWatcher) -> None:
        self.inner, self.board, self.stop_watcher = inner, board, stop_watcher

    def setup(self, *given: Any, **info: Any) -> None:
        self.inner.setup(*given, **info)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        with self.stop_watcher.pausing(), named_write_errors(self.board.run.path):
            self.inner.log_trial_start(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        latest = self.board.records[trial.config["number"]].latest
        if latest:
            numbers = {name: float(value) for name, value in latest.items()}
            epoch = int(latest["epoch"])
            with self.stop_watcher.pausing(), named_write_errors(self.board.run.path):
                self.inner.log_trial_result(iteration, trial, numbers | {"training_iteration": epoch})

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.inner.log_trial_end(trial, failed=False)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.inner.log_trial_end(trial, failed=True)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self.inner.on_experiment_end(trials, **info)

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Curves:
    """A file of TensorBoard's on a disk that may fill: it ends with the last flush that found room, without a word.

    tensorboardX writes from a thread and as the process exits, where an error would be a traceback and nothing more.
    """

    def __init__(self, path: str) -> None:
        self.file = FileIO(path, "wb")
        self.pending, self.full = b"", False

    def write(self, data: bytes) -> None:
        self.pending += data

    def flush(self) -> None:
        data, self.pending = self.pending, b""
        if not self.full:
            try:
                self.full = self.file.write(data) < len(data)
            except OSError:
                self.full = True

    def close(self) -> None:
        self.flush()
        self.file.close()


class _CurvesFactory:
    def open(self, path: str) -> _Curves:
        return _Curves(path.removeprefix(CURVES))

    def directory_check(self, path: str) -> None:
        Path(path.removeprefix(CURVES)).mkdir(parents=True, exist_ok=True)


class _TensorBoard(TBXLoggerCallback):
    """Ray's TensorBoard logger, with its files in the run's folder under the trial's own name."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def log_trial_start(self, trial: Any) -> None:
        if trial not in self._trial_writer:  # else its worker died, and it is resumed
            register_writer_factory(CURVES.rstrip(":"), _CurvesFactory())
            folder = f"{CURVES}{self.folder / trial.config['hash']}"
            self._trial_writer[trial] = self._summary_writer_cls(folder, flush_secs=30)
            self._trial_result[trial] = {}


def tensorboard(board: Board, stop_watcher: StopWatcher) -> Tracking:
    """Return the callback that writes the TensorBoard files of a run's trials."""
    return Tracking(_TensorBoard(board.run.path / TENSORBOARD), board, stop_watcher)
