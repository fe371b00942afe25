"""The truth about a search: every report of every trial, who was stopped, and what of it is on disk.

Shapes: R repeats, P patients of the cohort, E epochs of a trial.
"""

import shutil
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from lymphtune.cohort import Cohort
from lymphtune.files import write_table, write_yaml
from lymphtune.runs import Run
from lymphtune.searching.plan import Plan, Trial
from lymphtune.searching.rungs import Rungs, smoothed
from lymphtune.statistics.honest import fixed_score
from lymphtune.statistics.metrics import METRICS, balanced_accuracy

WEIGHTS_AT = "weights-epoch-{}"
BEST_OF_EACH = 1  # trials of each kind that keep their weights whatever their rank: a blend takes them


@dataclass
class Record:
    """What one trial has said so far, and how it ended."""

    trial: Trial
    probabilities_ERP: list[np.ndarray] = field(default_factory=list)
    gates_ERP: list[np.ndarray] = field(default_factory=list)
    curves: list[dict[str, float]] = field(default_factory=list)
    status: str = "waiting"  # then running, done, stopped or failed
    reason: str = ""
    row: dict[str, Any] = field(default_factory=dict)  # of the leaderboard, once its fate is settled

    @property
    def log_losses(self) -> list[float]:
        return [curve["log_loss"] for curve in self.curves]


class Board:
    """Takes reports, settles fates, writes each trial's folder and the leaderboard, keeps the best weights."""

    def __init__(self, run: Run, cohort: Cohort, plan: Plan) -> None:
        self.run, self.plan = run, plan
        self.patients, self.labels_P, self.about = cohort.ids, cohort.labels, cohort.about
        self.records = {trial.number: Record(trial) for trial in plan.baselines + plan.trials}
        self.rungs = Rungs(plan.rungs(), len(plan.trials), plan.settings.reduction)
        self.started = time.monotonic()
        self.trained_s = 0.0  # seconds inside training and evaluation, of all workers

    def report(
        self, number: int, epoch: int, probabilities_RP: np.ndarray, curve: dict[str, float], gates_RP: np.ndarray
    ) -> bool:
        """Take one epoch of a trial; return whether it should go on."""
        record = self.records[number]
        if epoch <= len(record.curves):  # said before: a trial that was tried again
            return number not in self.rungs.stopped_at
        record.status = "running"
        record.probabilities_ERP.append(probabilities_RP)
        record.gates_ERP.append(gates_RP)
        record.curves.append({"epoch": epoch, **curve, **self._metrics(probabilities_RP)})
        self.trained_s += curve["seconds"]
        if number >= 0:
            self.rungs.reach(number, epoch, smoothed(record.log_losses))
            self._settle()
        return number not in self.rungs.stopped_at

    def end(self, number: int, failure: str = "") -> None:
        """Note that a trial says no more: it ran to its end, was stopped, or failed for the reason given."""
        record = self.records[number]
        if record.row or record.status == "ended":
            return
        record.status, record.reason = "ended", failure
        if number >= 0:
            self.rungs.end(number)
        self._settle()

    def close(self, reason: str, unheard: str = "") -> None:
        """End every trial that has not: the search is over, finished or not.

        `unheard`: why trials that never reported have failed; "" leaves them out of the leaderboard.
        """
        for number, record in self.records.items():
            if record.curves or unheard:
                self.end(number, reason if record.curves else unheard)
        self._settle(final=True)

    @property
    def settled(self) -> list[Record]:
        return [record for record in self.records.values() if record.row]

    def leaderboard(self) -> pd.DataFrame:
        """Return one row a settled trial, by class-balanced log loss; the failed ones last, by number."""
        table = pd.DataFrame([record.row for record in self.settled])
        table["last"] = table["status"] == "failed"
        return table.sort_values(["last", "log_loss", "number"], ignore_index=True).drop(columns="last")

    def _settle(self, final: bool = False) -> None:
        fresh = [
            record
            for number, record in self.records.items()
            if record.status == "ended" and not record.row and (final or number < 0 or self.rungs.decided(number))
        ]
        for record in fresh:
            self._finish(record)
        if fresh:
            self._keep_best_weights()
            write_table(self.run.path / "leaderboard.parquet", self.leaderboard(), self.about)

    def _finish(self, record: Record) -> None:
        """Cut what came after a stop, write the trial's folder, and give it its row."""
        stopped = self.rungs.stopped_at.get(record.trial.number)
        if stopped:
            rank = f"not in the best 1/{self.plan.settings.reduction} at epoch {stopped}"
            record.status, record.reason = "stopped", rank
            for said in (record.curves, record.probabilities_ERP, record.gates_ERP):
                del said[stopped:]
        elif record.reason or len(record.curves) < record.trial.epochs:
            record.status, record.reason = "failed", record.reason or "ended early"
        else:
            record.status = "done"
        record.row = self._row(record)
        self._write(record)

    def _metrics(self, probabilities_RP: np.ndarray) -> dict[str, float]:
        probability_P, labels_P = _pooled(probabilities_RP, self.labels_P)
        return {name: float(metric(probability_P, labels_P)) for name, metric in METRICS.items()}

    def _row(self, record: Record) -> dict[str, Any]:
        trial, curves = record.trial, record.curves
        epoch = len(curves)
        if curves and trial.configuration.picks_epoch:
            epoch = int(np.argmin(record.log_losses)) + 1
        row: dict[str, Any] = {
            "trial": trial.hash, "kind": trial.configuration.kind, "status": record.status, "reason": record.reason,
            "epochs": len(curves), "title": trial.configuration.title, "number": trial.number,
            "baseline": trial.baseline, "epoch": epoch, "best_epoch_picked": trial.configuration.picks_epoch,
            "sees": trial.configuration.sees, "architecture": trial.configuration.architecture,
        }  # fmt: skip
        blank = dict.fromkeys([*METRICS, "balanced_accuracy_low", "balanced_accuracy_high", "repeats_sd"], np.nan)
        row |= blank | {"seconds": sum(curve["seconds"] for curve in curves)}
        if curves:
            probability_P, labels_P = _pooled(record.probabilities_ERP[epoch - 1], self.labels_P)
            bounds = fixed_score(probability_P, labels_P, "balanced_accuracy")
            row |= {name: curves[epoch - 1][name] for name in METRICS}
            row |= {"balanced_accuracy_low": bounds.low, "balanced_accuracy_high": bounds.high}
            row["repeats_sd"] = _repeats_sd(record.probabilities_ERP[epoch - 1], self.labels_P)
        return row

    def _write(self, record: Record) -> None:
        folder = self.run.trial(record.trial.hash)
        given = {"number": record.trial.number, "seed": record.trial.seed, "epochs": record.trial.epochs}
        write_yaml(folder / "config.yaml", given | self.about | {"configuration": record.trial.configuration.as_yaml()})
        write_table(folder / "curves.parquet", pd.DataFrame(record.curves), self.about)
        write_table(folder / "oof.parquet", self._oof(record), self.about)
        for weights in folder.glob(WEIGHTS_AT.format("*")):
            if record.status != "failed" and weights.name == WEIGHTS_AT.format(len(record.curves)):
                weights.rename(folder / "weights")
            else:
                shutil.rmtree(weights)

    def _oof(self, record: Record) -> pd.DataFrame:
        folds_RP = self.plan.folds_RP
        held_R, held_P = np.nonzero(folds_RP >= 0)
        tables = []
        for epoch, probabilities_RP in enumerate(record.probabilities_ERP, start=1):
            tables.append(
                pd.DataFrame(
                    {
                        "trial": record.trial.hash, "repeat": held_R, "fold": folds_RP[held_R, held_P],
                        "epoch": epoch, "patient": np.array(self.patients)[held_P],
                        "label": self.labels_P[held_P], "probability": probabilities_RP[held_R, held_P],
                        "gate": record.gates_ERP[epoch - 1][held_R, held_P],
                    }
                )
            )  # fmt: skip
        columns = ["trial", "repeat", "fold", "epoch", "patient", "label", "probability", "gate"]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)

    def _keep_best_weights(self) -> None:
        """Delete the weights of trials that are no longer among the run's best; none of them ever comes back."""
        table = self.leaderboard()
        ranked = table[(table["status"] != "failed") & ~table["baseline"]]
        kept = {*ranked["trial"].head(self.plan.settings.keep_weights)}
        kept.update(ranked.groupby("sees")["trial"].head(BEST_OF_EACH))
        for trial in set(ranked["trial"]) - kept:
            shutil.rmtree(self.run.trial(trial) / "weights", ignore_errors=True)


def _pooled(probabilities_RP: np.ndarray, labels_P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean probability over repeats, and label, of the patients ever held out."""
    judged = ~np.isnan(probabilities_RP).all(axis=0)
    return np.nanmean(probabilities_RP[:, judged], axis=0), labels_P[judged]


def _repeats_sd(probabilities_RP: np.ndarray, labels_P: np.ndarray) -> float:
    """Return the standard deviation between repeats of the balanced accuracy; NaN for one repeat."""
    if len(probabilities_RP) < 2:
        return float("nan")
    scores = [float(balanced_accuracy(*_pooled(row_P[None], labels_P))) for row_P in probabilities_RP]
    return float(np.std(scores, ddof=1))
