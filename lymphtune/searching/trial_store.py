"""The folders of trials that have ended: written whole, swept, and brought to the storage."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lymphtune.files import named_write_errors, remove, write_table, write_yaml
from lymphtune.runs.mirror import Mirror
from lymphtune.runs.run import Run
from lymphtune.searching.record import Record
from lymphtune.searching.trial import CHECKPOINT, EPOCHS, WEIGHTS, WEIGHTS_AT


class TrialStore:
    """The trials' folders of a run here and, with a mirror, in its storage."""

    def __init__(self, run: Run, about: Mapping[str, str], mirror: Mirror | None) -> None:
        self.run, self.about, self.mirror = run, about, mirror

    def write(self, record: Record, oof: pd.DataFrame, settled: bool) -> None:
        """Write the trial's folder; config.yaml comes last and makes it count, what a restart needs goes after that.

        settled: no other trial's report can change it any more.
        """
        trial, epochs = record.trial, len(record.curves)
        folder = self.run.trial(trial.hash)
        if self.mirror:
            self.mirror.pull(f"trials/{trial.hash}")
        write_table(folder / "curves.parquet", pd.DataFrame(record.curves), self.about)
        write_table(folder / "oof.parquet", oof, self.about)
        if record.status != "failed":
            _place_weights(folder, folder / WEIGHTS_AT.format(epochs), move=settled)
        given = {
            "number": trial.number,
            "seed": trial.seed,
            "epochs": trial.epochs,
            "cycles": list(trial.cycles),
            "retries": record.retries,
            "settled": settled,
            "result": record.row,
            "weights": record.weights.get(epochs, {}),
        }
        write_yaml(folder / "config.yaml", given | dict(self.about) | {"configuration": trial.configuration.as_yaml()})
        self.push(trial.hash)
        if settled:  # not before the results are in the storage
            self.sweep(record)

    def push(self, trial: str) -> None:
        """Bring the trial's folder to the storage, if there is one."""
        if self.mirror:
            self.mirror.push(f"trials/{trial}")

    def sweep(self, record: Record) -> None:
        """Remove the files that only a resumable trial needs; a worker that was stopped late leaves some, too."""
        failed = [WEIGHTS] if record.status == "failed" else []
        self.remove(record.trial.hash, EPOCHS, CHECKPOINT, f"{CHECKPOINT}-new", WEIGHTS_AT.format("*"), *failed)

    def remove(self, trial: str, *patterns: str) -> None:
        """Remove files and folders of a trial's folder here, and their copies in the storage."""
        folder = self.run.trial(trial)
        for path in [path for pattern in patterns for path in folder.glob(pattern)]:
            remove(path)
        if self.mirror:
            self.mirror.remove(f"trials/{trial}", patterns)


def _place_weights(folder: Path, source: Path, move: bool) -> None:
    """Put the weights of the last epoch in their place; a copy where the trial may yet be stopped earlier."""
    if not source.is_dir():  # moved already, before an interruption
        return
    with named_write_errors(folder / WEIGHTS):
        shutil.rmtree(folder / WEIGHTS, ignore_errors=True)
        if move:
            source.rename(folder / WEIGHTS)
        else:
            shutil.copytree(source, folder / WEIGHTS)
