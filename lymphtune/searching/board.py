"""The truth about a search: every report of every trial, who was stopped, and what of it is on disk.

Shapes: R repeats, P patients of the cohort, E epochs of a trial.
"""

import math
import shutil
import time
from bisect import insort
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from lymphtune import console
from lymphtune.cohort import Cohort
from lymphtune.files import named_write_errors, remove, write_table, write_yaml
from lymphtune.runs.ledger import Ledger
from lymphtune.runs.mirror import Mirror
from lymphtune.runs.run import Run
from lymphtune.searching.epoch_report import Report
from lymphtune.searching.past import LEDGER, Found, RunHistory
from lymphtune.searching.plan import Plan, Trial
from lymphtune.searching.record import Record, oof_of, pooled, row_of
from lymphtune.searching.rungs import Rungs, standing
from lymphtune.searching.time_left import TimeLeft, time_left
from lymphtune.searching.tpe import Tpe
from lymphtune.searching.trial import CHECKPOINT, EPOCHS, WEIGHTS, WEIGHTS_AT
from lymphtune.statistics.metrics import METRICS

Event = Literal["started", "epoch", "settled"]  # of a trial, as those who follow a search hear of it
BEST_OF_EACH = 1  # trials of each kind that keep their weights whatever their rank: a blend takes them
MOSTLY_FAILED = 5  # failures, if they are more than half of all that ended, end the search
TABLE_SHARE = 0.05  # of the time, at most, goes into writing the leaderboard while trials run


class StopReason(NamedTuple):
    """Why a search ends before all its trials have: its status from then on, and the reason in words."""

    status: str
    why: str


class Board:
    """Takes reports, settles fates, writes each trial's folder and the leaderboard, keeps the best weights."""

    def __init__(self, run: Run, cohort: Cohort, plan: Plan, mirror: Mirror | None = None) -> None:
        self.run, self.plan = run, plan
        self.patients, self.labels_P, self.about = cohort.ids, cohort.labels, cohort.about
        self.groups = cohort.groups
        self.tpe = Tpe(plan.space, plan.settings.seed) if plan.settings.searcher == "tpe" else None
        trials = plan.baselines if self.tpe else plan.baselines + plan.trials
        self.records = {trial.number: Record(trial) for trial in trials}
        self.rungs = Rungs(plan.rules(), plan.epochs, plan.count)
        self.settled: list[Record] = []  # those that have their row, in the order in which they got it
        self.started = time.monotonic()
        self.trained_s = 0.0  # seconds inside training and evaluation, of all workers
        self.slots = 1  # trials at once
        self.halt: StopReason | None = None
        self._undecided: set[int] = set()  # ended, but other trials' reports may still stop them
        self._decided: set[int] = set()  # of those, the ones that none can any more: to be written down
        self._ranked: list[tuple[bool, float, int]] = []  # settled networks that have not failed: see _standing
        self._best: dict[str, list[tuple[bool, float, int]]] = {}  # the first BEST_OF_EACH of them, by what they see
        self._kept: set[int] = set()  # those of them whose weights are on the disk
        self._ledger = Ledger(run.path / LEDGER)
        self.mirror = mirror  # None: the run's folder is all there is
        self._ended: Counter[bool] = Counter()  # failed or not
        self._failures: Counter[str] = Counter()
        self._table_written, self._table_cost_s = 0.0, 0.0
        self.follow: Callable[[Event, Record], None] = lambda event, record: None
        self.limit_s: Callable[[], float] = lambda: math.inf  # seconds until the trials' time budget is spent

    def start(self, number: int) -> None:
        """Note that this search trains the trial now, from its beginning or from where it was left."""
        self.records[number].started = True
        self.follow("started", self.records[number])

    def report(self, number: int, said: Report) -> bool:
        """Take one epoch of a trial; return whether it should go on."""
        record = self.records[number]
        if not record.row and said.epoch == len(record.curves) + 1:  # else said before: a trial that was tried again
            record.status = "running"
            self._take(record, said)
            self.follow("epoch", record)
            self.trained_s += said.curve["seconds"]
            self._reached(record, said.epoch)
            self._settle()
        return number not in self.rungs.stopped_at

    def _take(self, record: Record, said: Report) -> None:
        record.probabilities_ERP.append(said.probabilities_RP)
        record.gates_ERP.append(said.gates_RP)
        record.latest = {"epoch": said.epoch, **said.curve, **self._metrics(said.probabilities_RP)}
        record.curves.append(record.latest)
        if said.weights:
            record.weights[said.epoch] = dict(said.weights)

    def _reached(self, record: Record, epoch: int) -> None:
        if not record.trial.baseline and epoch in self.rungs.epochs:
            said = (record.log_losses[:epoch], record.probabilities_ERP[:epoch], self.labels_P, self.plan.folds_RP)
            self.rungs.reach(record.trial.number, epoch, standing(record.trial.hash[:6], *said))

    def end(self, number: int, failure: str = "") -> None:
        """Note that a trial says no more: it ran to its end, was stopped, or failed for the reason given."""
        record = self.records[number]
        if record.is_over:
            if record.row:
                self._push(record.trial.hash)
                self._sweep(record)  # its worker has trained on until it was told
            return
        self._note_end(record, failure)
        if failure:
            self._ledger.append({"trial": record.trial.hash, "failed": failure})
        if not record.trial.baseline:
            self._count(failure)
        self._settle()

    def _count(self, failure: str) -> None:
        """End the search where most trials fail."""
        self._ended[bool(failure)] += 1
        self._failures[failure] += bool(failure)
        failed = self._ended[True]
        if failed >= MOSTLY_FAILED and failed > self._ended[False] and self.halt is None:
            ((commonest, times),) = self._failures.most_common(1)
            ended = self._ended.total()
            self.halt = StopReason(
                "failed", f"{failed} of the {ended} trials that ended have failed ({times}: {commonest})"
            )

    def tried_again(self, number: int, reason: str) -> None:
        """Note that a trial lost its worker and goes on from its checkpoint."""
        record = self.records[number]
        record.retries += 1
        self._ledger.append({"trial": record.trial.hash, "tried_again": reason})

    def close(self) -> None:
        """Write the last of it: all trials are over, or the search was halted and those that are not wait."""
        if self.halt is None:
            for number, record in self.records.items():
                self.end(number, "" if record.curves or record.row else "never started")
        self._settle(final=True)
        self._write_table()
        for number, record in self.records.items():
            if record.row and number not in self._undecided:
                self._push(record.trial.hash)
                self._sweep(record)

    @property
    def best(self) -> dict[str, Any] | None:
        """Return the row that stands first on the leaderboard, None where nobody has ended without failing."""
        rows = [record.row for record in self.settled if record.status != "failed"]
        return min(rows, key=lambda row: (row["log_loss"], row["number"]), default=None)

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

    def leaderboard(self) -> pd.DataFrame:
        """Return one row a settled trial, by class-balanced log loss; the failed ones last, by number."""
        table = pd.DataFrame([record.row for record in self.settled])
        table["last"] = table["status"] == "failed"
        return table.sort_values(["last", "log_loss", "number"], ignore_index=True).drop(columns="last")

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
        past = RunHistory(self.run, self.plan, forgiven, lambda trial: self._remove(trial, "*"))
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
        for said in found.reports:
            self._take(record, said)
        for epoch in range(1, len(record.curves) + 1):
            self._reached(record, epoch)
        if found.row and (found.over or found.trial.epochs == found.row["epochs"]):
            record.status, record.reason = found.row["status"], found.row["reason"]
            self._give_row(record, found.row)
            if not record.trial.baseline:
                self.rungs.end(record.trial.number)
                self._teach(record)
                self._rank(record, (self.run.trial(record.trial.hash) / WEIGHTS).is_dir())
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
        if decided and time.monotonic() - self._table_written > self._table_cost_s / TABLE_SHARE:
            self._write_table()

    def _write_table(self) -> None:
        began = time.monotonic()
        if self.settled:
            write_table(self.run.path / "leaderboard.parquet", self.leaderboard(), self.about)
        self._table_written = time.monotonic()
        self._table_cost_s = self._table_written - began

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
        self._write(record, decided)
        if decided:
            if not record.trial.baseline:
                self._teach(record)
                self._rank(record, weights=True)
            self._forget(record)

    def _teach(self, record: Record) -> None:
        """Tell the searcher the truth: who was stopped is not done, and who failed says nothing."""
        if self.tpe:
            row = record.row
            self.tpe.tell(record.trial.number, row["log_loss"], row["status"], record.log_losses)

    def _give_row(self, record: Record, row: dict[str, Any]) -> None:
        if not record.row:
            self.settled.append(record)
        record.row = row
        self.follow("settled", record)

    def _forget(self, record: Record) -> None:
        """Keep in memory the row alone; the rest is on the disk."""
        for said in (record.curves, record.probabilities_ERP, record.gates_ERP, record.weights):
            said.clear()

    def _metrics(self, probabilities_RP: np.ndarray) -> dict[str, float]:
        probability_P, labels_P = pooled(probabilities_RP, self.labels_P)
        return {name: float(metric(probability_P, labels_P)) for name, metric in METRICS.items()}

    def _write(self, record: Record, decided: bool) -> None:
        """Write the trial's folder; config.yaml comes last and makes it count, what a restart needs goes after that."""
        folder, epochs = self.run.trial(record.trial.hash), len(record.curves)
        if self.mirror:
            self.mirror.pull(f"trials/{record.trial.hash}")
        oof = oof_of(record, self.plan.folds_RP, self.patients, self.labels_P)
        write_table(folder / "curves.parquet", pd.DataFrame(record.curves), self.about)
        write_table(folder / "oof.parquet", oof, self.about)
        if record.status != "failed":
            _place_weights(folder, folder / WEIGHTS_AT.format(epochs), move=decided)
        given = {
            "number": record.trial.number, "seed": record.trial.seed, "epochs": record.trial.epochs,
            "cycles": list(record.trial.cycles), "retries": record.retries, "settled": decided, "result": record.row,
            "weights": record.weights.get(epochs, {}),
        }  # fmt: skip
        write_yaml(folder / "config.yaml", given | self.about | {"configuration": record.trial.configuration.as_yaml()})
        self._push(record.trial.hash)
        if decided:  # not before the results are in the storage
            self._sweep(record)

    def _push(self, trial: str) -> None:
        if self.mirror:
            self.mirror.push(f"trials/{trial}")

    def _sweep(self, record: Record) -> None:
        """Remove what only a trial that may go on needs; a worker that was told to stop late leaves some, too."""
        failed = [WEIGHTS] if record.status == "failed" else []
        self._remove(record.trial.hash, EPOCHS, CHECKPOINT, f"{CHECKPOINT}-new", WEIGHTS_AT.format("*"), *failed)

    def _remove(self, trial: str, *patterns: str) -> None:
        """Remove files and folders of a trial's folder here, and their copies in the storage."""
        folder = self.run.trial(trial)
        for path in [path for pattern in patterns for path in folder.glob(pattern)]:
            remove(path)
        if self.mirror:
            self.mirror.remove(f"trials/{trial}", patterns)

    def _rank(self, record: Record, weights: bool) -> None:
        """Place a settled network, and delete weights that are no longer among the run's best; none ever comes back."""
        number = record.trial.number
        if record.row["status"] == "failed":
            return
        insort(self._ranked, _standing(record))
        kept = {n for *_, n in self._ranked[: self.plan.settings.keep_weights]} | self._best_of_each(record)
        for fallen in (self._kept | ({number} if weights else set())) - kept:
            self._remove(self.records[fallen].trial.hash, WEIGHTS)
        self._kept = kept

    def _best_of_each(self, record: Record) -> set[int]:
        """Return the best trials of each kind, the record's included."""
        best = self._best.setdefault(record.row["sees"], [])
        insort(best, _standing(record))
        del best[BEST_OF_EACH:]
        return {number for best in self._best.values() for *_, number in best}


def _standing(record: Record) -> tuple[bool, float, int]:
    """Return what orders trials whose weights are kept: those that ran to their end come first, ensembles take them."""
    return record.row["status"] != "done", record.row["log_loss"], record.trial.number


def _place_weights(folder: Path, source: Path, move: bool) -> None:
    """Have the weights of the last epoch in their place; a copy where the trial may yet be stopped earlier."""
    if not source.is_dir():  # a break came after the last try's move
        return
    with named_write_errors(folder / WEIGHTS):
        shutil.rmtree(folder / WEIGHTS, ignore_errors=True)
        if move:
            source.rename(folder / WEIGHTS)
        else:
            shutil.copytree(source, folder / WEIGHTS)
