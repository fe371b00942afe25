"""What the folder of a run says of its trials' past; what is damaged in it is not believed, and done again.

Shapes: R repeats, P patients of the cohort, E epochs of a trial.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lymphtune import console
from lymphtune.errors import InputError
from lymphtune.files import hashes, read_yaml
from lymphtune.runs.ledger import Ledger
from lymphtune.runs.run import Run, read_table
from lymphtune.searching.epoch_report import Report
from lymphtune.searching.plan import Plan, Trial
from lymphtune.searching.trial import WEIGHTS, WEIGHTS_AT, Place

LEDGER = "ledger.jsonl"  # of the run: which trials failed, lost a worker, and what they were, where a searcher chose
DAMAGED = (None, errno.ENOENT, errno.EISDIR, errno.ENOTDIR)  # of an OSError where a file is not what was written


@dataclass
class Found:
    """One trial's past. row: of the leaderboard, where its fate was settled; the epochs up to then stand in `curves`,
    `probabilities` [E][R, P] and `gates`, later ones in `reports`. over: it cannot be resumed."""

    trial: Trial
    row: dict[str, Any] = field(default_factory=dict)
    curves: list[dict[str, float]] = field(default_factory=list)
    probabilities: list[np.ndarray] = field(default_factory=list)
    gates: list[np.ndarray] = field(default_factory=list)
    weights: dict[str, str] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)
    failure: str = ""
    retries: int = 0
    over: bool = True


class RunHistory:
    """Reads a run's folder. forgiven: failed trials are tried as if they never had been; remove: empties the folder of
    a trial, wherever there are copies of it."""

    def __init__(self, run: Run, plan: Plan, forgiven: bool, remove: Callable[[str], None]) -> None:
        self.run, self.folds_RP, self.forgiven, self.remove = run, plan.folds_RP, forgiven, remove
        self.failures: dict[str, str] = {}
        self.retries: dict[str, int] = {}
        self.parameters: dict[int, dict[str, Any]] = {}  # of trials that a searcher chose, by number
        for fact in Ledger(run.path / LEDGER).read():
            if "failed" in fact:
                self.failures[fact["trial"]] = fact["failed"]
            elif "parameters" in fact:
                self.parameters[fact["number"]] = fact["parameters"]
            elif "tried_again" in fact:
                self.retries[fact["trial"]] = self.retries.get(fact["trial"], 0) + 1

    def of(self, trial: Trial) -> Found:
        """Return what is known of the trial; a folder with damage in it is removed."""
        folder = self.run.trial(trial.hash)
        found = Found(trial, retries=self.retries.get(trial.hash, 0))
        try:
            self._read_settled(found, folder)
        except (InputError, KeyError, TypeError, ValueError) as error:
            if failed_read := _failed_read(error):
                raise InputError(
                    f"{folder}: cannot be read at the moment ({failed_read.strerror}); nothing was changed; try again"
                ) from error
            console.say(f"{folder}: damaged, and trained again ({error})")
            self.remove(trial.hash)
            return Found(trial)
        status = found.row.get("status")
        failed = status == "failed" or (not found.row and trial.hash in self.failures)
        if failed and self.forgiven:
            self.remove(trial.hash)
            return Found(trial)
        found.over = status in ("failed", "stopped") or bool(found.row.get("reason"))
        if status == "done" and found.row["epochs"] < trial.epochs and not found.over:
            found.over = not (folder / WEIGHTS).is_dir()  # not among the best: it cannot be resumed
            lowest = min(curve["log_loss"] for curve in found.curves)
            found.trial = replace(trial, base=found.row["epochs"], lowest=lowest)
        if not found.row or not found.over:
            found.reports = _unbroken(folder, len(found.curves))
            found.failure = self.failures.get(trial.hash, "")
        return found

    def _read_settled(self, found: Found, folder: Path) -> None:
        """Read the folder of a trial whose fate was settled; leave `found` empty where it was not."""
        path = folder / "config.yaml"
        if not path.is_file():
            return
        given = read_yaml(path)
        if not given.get("settled"):
            return
        row, weights = given["result"], given["weights"]
        kept = hashes(folder / WEIGHTS)
        if kept and kept != weights:
            raise InputError(f"{folder / WEIGHTS}: not the weights that were written")
        curves = read_table(folder / "curves.parquet")
        oof = read_table(folder / "oof.parquet")
        held_RP = self.folds_RP >= 0
        epochs = row["epochs"]
        if len(curves) != epochs or len(oof) != epochs * held_RP.sum():
            raise InputError(f"{epochs} epochs expected")
        found.row, found.weights = row, weights
        found.curves = curves.to_dict("records")
        for column, into in (("probability", found.probabilities), ("gate", found.gates)):
            for held_out in oof[column].to_numpy(np.float64).reshape(epochs, int(held_RP.sum())):
                probability_RP = np.full(self.folds_RP.shape, np.nan)
                probability_RP[held_RP] = held_out
                into.append(probability_RP)


def _failed_read(error: BaseException | None) -> OSError | None:
    """Return the operating system's failure that lies behind the error, None where what was read is damaged itself."""
    while error is not None:
        if isinstance(error, OSError) and error.errno not in DAMAGED:
            return error
        error = error.__cause__
    return None


def _unbroken(folder: Path, known: int) -> list[Report]:
    """Return the reports of the trial's ledger after the known epochs, up to one whose weights are damaged."""
    place = Place(folder)
    reports: list[Report] = []
    for index, fact in enumerate(place.facts):
        if fact.get("epoch") != known + len(reports) + 1:
            continue
        report = Report.read(fact)
        rung = folder / WEIGHTS_AT.format(report.epoch)
        if report.weights and report.weights not in (hashes(rung), hashes(folder / WEIGHTS)):
            console.say(f"{rung}: damaged, and trained again")
            place.ledger.cut(index)  # which no longer names the checkpoint: it is of a later epoch
            break
        reports.append(report)
    return reports
