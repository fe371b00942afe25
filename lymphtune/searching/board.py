"""The state of a search: the reports of every trial, early stopping, and how each trial ends.

Shapes: R repeats, P patients of the cohort, E epochs of a trial.
"""

import math
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from lymphtune import console
from lymphtune.cohort import Cohort
from lymphtune.runs.ledger import Ledger
from lymphtune.runs.mirror import Mirror
from lymphtune.runs.run import Run
from lymphtune.searching.epoch_report import Report
from lymphtune.searching.failures import FailurePolicy
from lymphtune.searching.leaderboard import Leaderboard
from lymphtune.searching.past import LEDGER, Found, RunHistory
from lymphtune.searching.plan import Plan, Trial
from lymphtune.searching.record import Record, oof_of, pooled, row_of
from lymphtune.searching.retention import CheckpointRetention
from lymphtune.searching.rungs import Rungs, standing
from lymphtune.searching.time_left import TimeLeft, time_left
from lymphtune.searching.tpe import Tpe
from lymphtune.searching.trial import WEIGHTS
from lymphtune.searching.trial_store import TrialStore
from lymphtune.statistics.metrics import METRICS

Event = Literal["started", "epoch", "settled"]  # of a trial, as those who follow a search hear of it


class StopReason(NamedTuple):
    """Why a search ends before all its trials have: its status from then on, and the reason in words."""

    status: str
    why: str


class Board:
    """Takes the reports of trials, decides with the rungs how each ends, and has its folder and row written."""

    def __init__(self, run: Run, cohort: Cohort, plan: Plan, mirror: Mirror | None = None) -> None:
        self.run, self.plan = run, plan
        self.patients, self.labels_P, self.about = cohort.ids, cohort.labels, cohort.about
        self.groups = cohort.groups
        self.tpe = Tpe(plan.space, plan.settings.seed) if plan.settings.searcher == "tpe" else None
        trials = plan.baselines if self.tpe else plan.baselines + plan.trials
        self.records = {trial.number: Record(trial) for trial in trials}
        self.rungs = Rungs(plan.rules(), plan.epochs, plan.count)
        self.table = Leaderboard(run.path / "leaderboard.parquet", self.about)
        self.store = TrialStore(run, self.about, mirror)
        self.retention = CheckpointRetention(plan.settings.keep_weights)
        self.failures = FailurePolicy()
        self.started = time.monotonic()
        self.trained_s = 0.0  # seconds inside training and evaluation, of all workers
        self.slots = 1  # trials at once
        self.halt: StopReason | None = None
        self._undecided: set[int] = set()  # ended, but other trials' reports may still stop them
        self._decided: set[int] = set()  # of those, the ones that none can any more: to be written down
        self._ledger = Ledger(run.path / LEDGER)
        self.mirror = mirror  # None: the run's folder is all there is
        self.follow: Callable[[Event, Record], None] = lambda event, record: None
        self.limit_s: Callable[[], float] = lambda: math.inf  # seconds until the trials' time budget is spent

    def start(self, number: int) -> None:
        """Note that this search trains the trial now, from its beginning or from where it was left."""
        self.records[number].started = True
        self.follow("started", self.records[number])

    def report(self, number: int, report: Report) -> bool:
        """Take one epoch of a trial; return whether it should continue."""
        record = self.records[number]
        if not record.row and report.epoch == len(record.curves) + 1:  # else said before: a trial that was tried again
            record.status = "running"
            self._take(record, report)
            self.follow("epoch", record)
            self.trained_s += report.curve["seconds"]
            self._reached(record, report.epoch)
            self._settle()
        return number not in self.rungs.stopped_at

    def _take(self, record: Record, report: Report) -> None:
        record.probabilities_ERP.append(report.probabilities_RP)
        record.gates_ERP.append(report.gates_RP)
        record.latest = {"epoch": report.epoch, **report.curve, **self._metrics(report.probabilities_RP)}
        record.curves.append(record.latest)
        if report.weights:
            record.weights[report.epoch] = dict(report.weights)

    def _reached(self, record: Record, epoch: int) -> None:
        if not record.trial.baseline and epoch in self.rungs.epochs:
            scores = (record.log_losses[:epoch], record.probabilities_ERP[:epoch], self.labels_P, self.plan.folds_RP)
            self.rungs.reach(record.trial.number, epoch, standing(record.trial.hash[:6], *scores))

    def end(self, number: int, failure: str = "") -> None:
        """Note that a trial says no more: it ran to its end, was stopped, or failed for the reason given."""
        record = self.records[number]
        if record.is_over:
            if record.row:
                self.store.push(record.trial.hash)
                self.store.sweep(record)  # its worker has trained on until it was told
            return
        self._note_end(record, failure)
        if failure:
            self._ledger.append({"trial": record.trial.hash, "failed": failure})
        if not record.trial.baseline and (why := self.failures.add(failure)) and self.halt is None:
            self.halt = StopReason("failed", why)
        self._settle()

    def tried_again(self, number: int, reason: str) -> None:
        """Note that a trial lost its worker and is resumed from its checkpoint."""
        record = self.records[number]
        record.retries += 1
        self._ledger.append({"trial": record.trial.hash, "tried_again": reason})

    def close(self) -> None:
        """Write the last of it: all trials are over, or the search was halted and those that are not wait."""
        if self.halt is None:
            for number, record in self.records.items():
                self.end(number, "" if record.curves or record.row else "never started")
        self._settle(final=True)
        self.table.write()
        for number, record in self.records.items():
            if record.row and number not in self._undecided:
                self.store.push(record.trial.hash)
                self.store.sweep(record)

    def propose(self) -> Trial | None:
        """Return the next trial of a searcher that learns, written down before it starts; None where none is left."""
        number = len(self.records) - len(self.plan.baselines)
        if self.tpe is None or number >= self.plan.count:
            return None
        trial = self.plan.chosen(number, self.tpe.suggest(number))
        self._ledger.append({"trial": trial.hash, "number": number, "parameters": self.tpe.parameters(number)})
        self.records[number] = Record(trial)
        return trial

    @property
    def left(self) -> int:
        """Return how many trials have not ended, those included that are still to be proposed."""
        return len(self.waiting) + self.plan.count + len(self.plan.baselines) - len(self.records)

    @property
    def waiting(self) -> list[Trial]:
        """Return the trials that have not ended, by number, the baselines first."""
        open_ones = (record.trial for record in self.records.values() if not record.is_over)
        return sorted(open_ones, key=lambda trial: trial.number)

    def progress(self) -> tuple[float, TimeLeft | None]:
        """Return the share of the epochs done, stopped trials counted as done, and the time left, if that is known."""
        total = sum(trial.epochs for trial in self.plan.trials)
        spent_s = self.slots * (time.monotonic() - self.started)
        left = time_left(self.plan, self.records, self.slots, spent_s / self.trained_s if self.trained_s else 1.0)
        return 1 - self._epochs_left() / max(total, 1), left.within(self.limit_s()) if left else None

    def _epochs_left(self) -> int:
        """Return the epochs of all trials that have not ended, those included that are still to be proposed."""
        unknown = self.plan.epochs * (self.left - len(self.waiting))
        return unknown + sum(r.trial.epochs - r.epochs for r in self.records.values() if self._goes_on(r))

    def _goes_on(self, record: Record) -> bool:
        return record.trial.number >= 0 and not record.is_over

    def restore(self, forgiven: bool = False) -> None:
        """Take up what the run's folder holds: decisions come out as if there had been no break.

        forgiven: trials that failed are tried again from their start.
        """
        past = RunHistory(self.run, self.plan, forgiven, lambda trial: self.store.remove(trial, "*"))
        if self.tpe:
            for number, parameters in sorted(past.parameters.items()):
                self.records[number] = Record(self.plan.chosen(number, self.tpe.again(number, parameters)))
        for record in console.each(self.records.values(), "reading the run", len(self.records)):
            self._recall(record, past.of(record.trial))
        for number, record in self.records.items():
            if number in self.rungs.stopped_at and not record.is_over:
                self._note_end(record, "")
        self._settle()

    def _recall(self, record: Record, found: Found) -> None:
        record.trial, record.retries = found.trial, found.retries
        record.curves, record.probabilities_ERP, record.gates_ERP = found.curves, found.probabilities, found.gates
        record.weights[len(found.curves)] = found.weights
        for report in found.reports:
            self._take(record, report)
        for epoch in range(1, len(record.curves) + 1):
            self._reached(record, epoch)
        if found.row and (found.over or found.trial.epochs == found.row["epochs"]):
            record.status, record.reason = found.row["status"], found.row["reason"]
            self._give_row(record, found.row)
            if not record.trial.baseline:
                self.rungs.end(record.trial.number)
                self._teach(record)
                self._retain(record, (self.run.trial(record.trial.hash) / WEIGHTS).is_dir())
            self._forget(record)
        elif found.failure or len(record.curves) == record.trial.epochs:
            self._note_end(record, found.failure)
        elif record.curves:
            record.status = "running"

    def _note_end(self, record: Record, failure: str) -> None:
        number = record.trial.number
        record.status, record.reason = "ended", failure
        self._undecided.add(number)
        if not record.trial.baseline:
            self.rungs.end(number)
        if record.trial.baseline or self.rungs.decided(number):
            self._decided.add(number)

    def _settle(self, final: bool = False) -> None:
        """Write down the trials that have ended and whose fate no other can change; `final`: all that have ended."""
        self._decided |= self._undecided & self.rungs.newly_decided()
        decided = self._decided
        for number in sorted(self._undecided if final else decided):
            self._finish(self.records[number], number in decided)
        self._undecided -= decided
        self._decided = set()  # not before: where the disk was full, they are tried again
        if decided:
            self.table.write_in_time()

    def _finish(self, record: Record, decided: bool) -> None:
        """Cut what came after a stop, give the trial its row, and write its folder."""
        stopped = self.rungs.stopped_at.get(record.trial.number)
        if stopped:
            record.status, record.reason = "stopped", self.rungs.reason[record.trial.number]
            record.cut(stopped)
        elif len(record.curves) == record.trial.epochs and not record.reason:
            record.status = "done"
        elif record.trial.base:
            record.status = "done"
            record.reason = f"not beyond epoch {record.trial.base}: {record.reason or 'ended early'}"
            record.cut(record.trial.base)
        else:
            record.status, record.reason = "failed", record.reason or "ended early"
        self._give_row(record, row_of(record, self.labels_P, self.groups))
        oof = oof_of(record, self.plan.folds_RP, self.patients, self.labels_P)
        self.store.write(record, oof, decided)
        if decided:
            if not record.trial.baseline:
                self._teach(record)
                self._retain(record, has_weights=True)
            self._forget(record)

    def _teach(self, record: Record) -> None:
        """Tell the searcher the truth: who was stopped is not done, and who failed says nothing."""
        if self.tpe:
            row = record.row
            self.tpe.tell(record.trial.number, row["log_loss"], row["status"], record.log_losses)

    def _retain(self, record: Record, has_weights: bool) -> None:
        """Delete the weights that are no longer among the best."""
        for number in self.retention.add(record, has_weights):
            self.store.remove(self.records[number].trial.hash, WEIGHTS)

    def _give_row(self, record: Record, row: dict[str, Any]) -> None:
        if not record.row:
            self.table.settled.append(record)
        record.row = row
        self.follow("settled", record)

    def _forget(self, record: Record) -> None:
        """Keep in memory the row alone; the rest is on the disk."""
        for kept in (record.curves, record.probabilities_ERP, record.gates_ERP, record.weights):
            kept.clear()

    def _metrics(self, probabilities_RP: np.ndarray) -> dict[str, float]:
        probability_P, labels_P = pooled(probabilities_RP, self.labels_P)
        return {name: float(metric(probability_P, labels_P)) for name, metric in METRICS.items()}
