"""Follows a search's trials, baselines included, for the trackers that its settings name."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from lymphtune import console
from lymphtune.errors import shortened
from lymphtune.masking import masked
from lymphtune.runs.run import read_table, resume_command
from lymphtune.searching.board import Board, Event
from lymphtune.searching.budget import Budget
from lymphtune.searching.record import Record
from lymphtune.searching.trackers.mlflow_tracker import MlflowTracker
from lymphtune.searching.trackers.tracker import Delivery, Ending, TrackedTrial, Tracker
from lymphtune.searching.trackers.wandb_tracker import WandbTracker

PATIENCE_S = 15.0  # after the last trial, for what has not been delivered
Curve = list[dict[str, float]]


class Tracking:
    """Turns what happens on the board into records. created: of the run, which tells it from one of the same name."""

    def __init__(self, board: Board, created: str, deliveries: list[Delivery]) -> None:
        self.board, self.created, self.deliveries = board, created, deliveries
        self._trials: dict[str, TrackedTrial] = {}

    def __call__(self, event: Event, record: Record) -> None:
        trial, at_s = self._trial(record), time.time()
        if event == "started":
            self._send(lambda tracker: tracker.trial_started(trial, at_s))
        elif event == "epoch":
            metrics = _finite(record.latest)
            self._send(lambda tracker: tracker.epoch(trial, metrics, at_s))
        else:
            self._end(record, _ending(record.row))

    def catch_up(self) -> None:
        """Deliver what the run holds of trials, and its trackers do not."""
        for record in self.board.records.values():
            if record.row:
                curves = partial(self._curves, record)
                self._send(partial(_complete, self._trial(record), curves, _ending(record.row)))
            elif record.curves:
                self._send(partial(_complete, self._trial(record), partial(list, [*record.curves]), None))

    def _curves(self, record: Record) -> Curve:
        path = self.board.run.trial(record.trial.hash) / "curves.parquet"
        rows: list[dict[str, Any]] = read_table(path).to_dict("records")
        return [{str(name): float(value) for name, value in row.items()} for row in rows]

    def close(self, budget: Budget) -> None:
        """Say of trials that the search leaves unfinished that they are, and wait a little for the trackers."""
        for record in self.board.records.values():
            if not record.row and (record.started or record.curves):
                self._end(record, Ending("interrupted", "", record.epochs))
        deadline = time.monotonic() + min(PATIENCE_S, max(budget.left_s - budget.report_s, 1.0))
        for delivery in self.deliveries:
            left = delivery.close(max(deadline - time.monotonic(), 0.0))
            if left:
                storage = self.board.plan.settings.storage
                again = f"`{resume_command(self.board.run, storage)}` sends what is missing"
                console.say(f"{delivery.tracker.place}: {left} records were not delivered; {again}")

    def _end(self, record: Record, ending: Ending) -> None:
        trial, at_s = self._trial(record), time.time()
        self._send(lambda tracker: tracker.trial_ended(trial, ending, at_s))

    def _send(self, record: Callable[[Tracker], None]) -> None:
        for delivery in self.deliveries:
            delivery.send(record)

    def _trial(self, record: Record) -> TrackedTrial:
        trial = record.trial
        if trial.hash not in self._trials:
            configuration = trial.configuration
            about = {str(name): str(value) for name, value in self.board.about.items()}
            self._trials[trial.hash] = TrackedTrial(
                trial.hash,
                f"{trial.hash[:6]} {configuration.title}",
                self.created,
                flat(configuration.as_yaml()) | {"seed": trial.seed},
                about | {"run": self.board.run.name, "kind": configuration.kind, "baseline": str(trial.baseline)},
            )
        return self._trials[trial.hash]


def _complete(trial: TrackedTrial, curves: Callable[[], Curve], ending: Ending | None, tracker: Tracker) -> None:
    """Deliver the epochs and the ending of a trial that the tracker lacks."""
    there, at_s = tracker.delivered(trial), time.time()
    if ending and there.status == ending.status and there.epochs >= ending.epochs:
        return
    tracker.trial_started(trial, at_s)
    for metrics in curves()[there.epochs :]:
        tracker.epoch(trial, _finite(metrics), at_s)
    if ending:
        tracker.trial_ended(trial, ending, at_s)


def _ending(row: Mapping[str, Any]) -> Ending:
    return Ending(row["status"], shortened(masked(row["reason"])), int(row["epochs"]))


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return a configuration's values by their path: {"model": {"head": "mlp"}} as {"model.head": "mlp"}."""
    found = dict[str, Any]()
    for name, value in tree.items():
        path = f"{above}{name}"
        found |= flat(value, f"{path}.") if isinstance(value, Mapping) and value else {path: value}
    return found


@contextmanager
def tracked(board: Board, created: str, budget: Budget) -> Iterator[None]:
    """Report the board's trials to the trackers of its settings while the block runs; nothing where there are none."""
    settings, run = board.plan.settings, board.run
    trackers = list[Tracker]()
    if settings.mlflow:
        trackers.append(MlflowTracker(settings.mlflow, run.name))
    if settings.wandb:
        trackers.append(WandbTracker(settings.wandb, run.name, run.path))
    if not trackers:
        yield
        return
    tracking = Tracking(board, created, [Delivery(tracker) for tracker in trackers])
    tracking.catch_up()
    board.follow = tracking
    try:
        yield
    finally:
        tracking.close(budget)
