"""A trial as it is trained: the training generator, its reports, and on disk all that a break must not cost.

In the trial's folder: `epochs.jsonl`, a fact an epoch and a checkpoint; `checkpoint`, of an epoch that the ledger
names; `weights-epoch-N` of every epoch that may turn out to be its last. A report is sent after all that is written.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lymphtune import console
from lymphtune.cohort import Cohort
from lymphtune.config import Configuration, digest
from lymphtune.files import exclusive_lock, hashes, is_locked, named_write_errors, sha256, write_text
from lymphtune.runs.ledger import Ledger
from lymphtune.runs.mirror import Mirror
from lymphtune.runs.storage import PATIENT_S
from lymphtune.searching.epoch_report import Report
from lymphtune.searching.plan import Trial

OWN, IN_USE = "lymphtune-trial-", ".in-use"  # a running trial's own folder, and the file whose lock it holds
LEFT_S = 3600.0  # such a folder is no longer in use where its lock is free and it is older
CHUNKS = "chunk_pixels"  # folder of one small file an encoder
EPOCHS = "epochs.jsonl"
CHECKPOINT = "checkpoint"
WEIGHTS_AT = "weights-epoch-{}"
WEIGHTS = "weights"
CHECKPOINT_EVERY_S = 60.0  # so much work is lost at most where an epoch is shorter
CHECKPOINT_SHARE = 0.05  # of the time, at most, where that means one a minute or more


@dataclass(frozen=True)
class Shared:
    """What every trial of a run reads: put into Ray's object store once."""

    cohort: Cohort
    plan: Any  # searching.plan.Plan
    run_path: Path
    device: str
    precision: Any  # training.precision.Precision
    storage: str | None = None  # URI of the run, where its folder is not one that every worker sees
    scratch: Path | None = None  # for the folders of trials that run, where storage is named; removed after the search

    @contextmanager
    def at_hand(self, trial: Trial) -> Iterator[tuple["Shared", Callable[[], None]]]:
        """Yield what works on a folder of this machine's own, and what brings the trial's part of it to the storage."""
        if self.storage is None:
            yield self, lambda: None
            return
        with _own_folder(self.scratch) as folder:
            mirror, name = Mirror(self.storage, folder, PATIENT_S), f"trials/{trial.hash}"
            mirror.pull(name)
            yield replace(self, run_path=folder), lambda: mirror.push(name)

    def train(self, trial: Trial, start: Any = None) -> Any:
        """Return the generator of epoch results of one trial, from a training.lockstep.Start on where there is one."""
        from lymphtune.training.lockstep import Protocol, train

        protocol = Protocol(
            self.plan.folds_RP,
            trial.cycles[0],
            trial.seed,
            self.precision,
            read_chunk(chunk_file(self.run_path, trial.configuration)),
            trial.cycles[1:],
        )
        return train(trial.configuration, self.cohort, protocol, self.device, start)


def train_on(
    trial: Trial, shared: Shared, report: Any, heard: int = 0, push: Callable[[], None] = lambda: None
) -> None:
    """Train a trial from where its folder says it was left; `push` it and report every epoch not yet `heard`."""
    from lymphtune.training.lockstep import CheckpointError

    place = Place(shared.run_path / "trials" / trial.hash)
    keep = {*shared.plan.rungs(), *trial.cycles}
    for epoch_report in place.reports():
        if epoch_report.epoch > heard:
            report(epoch_report.fact())
    start = place.start(trial.base, trial.lowest)
    while True:
        try:
            with closing(shared.train(trial, start)) as results:
                for result in results:
                    _note_chunk(chunk_file(shared.run_path, trial.configuration), result.chunk_pixels)
                    fact = place.keep(result, result.epoch in keep)
                    push()
                    if result.epoch > heard:
                        report(fact)
            return
        except CheckpointError as error:
            console.say(f"{trial.hash}: trained from its start, its checkpoint is of no use ({error})")
            if start is None or start.path.is_dir():
                raise
            start = place.start_without_checkpoint(trial.base, trial.lowest)


@contextmanager
def _own_folder(scratch: Path | None) -> Iterator[Path]:
    """Yield a new folder, removed after the block; those of workers that were killed are removed first.

    scratch: a folder that goes when the search ends, which may kill this process first; None: the temporary folder.
    """
    parent = Path(tempfile.gettempdir()) if scratch is None else scratch
    for left in parent.glob(f"{OWN}*"):
        with suppress(FileNotFoundError):  # another worker removes it
            if time.time() - left.stat().st_mtime > LEFT_S and not is_locked(left / IN_USE):
                shutil.rmtree(left, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(prefix=OWN, dir=parent, ignore_cleanup_errors=True) as folder,
        exclusive_lock(Path(folder) / IN_USE, {"pid": os.getpid()}),
    ):
        yield Path(folder)


class Place:
    """The folder of a trial while it is trained."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ledger = folder, Ledger(folder / EPOCHS)
        self.facts = self.ledger.read()
        self.epochs = {fact["epoch"]: fact for fact in self.facts if "epoch" in fact}
        self._saved, self._cost_s = time.monotonic(), 0.0

    def reports(self) -> list[Report]:
        """Return what has been written down, one epoch after the other without a gap."""
        return [Report.read(fact) for fact in self.epochs.values()]

    def start(self, base: int, lowest: float) -> Any:
        """Return where the training resumes: after the checkpoint, if the ledger names it."""
        from lymphtune.training.lockstep import Start

        path = self.folder / CHECKPOINT
        if path.is_file():
            found = sha256(path)
            for fact in reversed(self.facts):
                if fact.get("checkpoint") == found:
                    return Start(fact["after"], path)
        return self.start_without_checkpoint(base, lowest)

    def start_without_checkpoint(self, base: int, lowest: float) -> Any:
        """Return the start from the weights of the cycle before, None for the first one."""
        from lymphtune.training.lockstep import Start

        return Start(base, self.folder / WEIGHTS, lowest) if base else None

    def keep(self, result: Any, weights: bool) -> dict[str, Any]:
        """Put an epoch on the disk: its weights where wanted, its fact, and now and then a checkpoint."""
        files: dict[str, str] = {}
        if weights:
            folder = self.folder / WEIGHTS_AT.format(result.epoch)
            result.save(folder)
            files = hashes(folder)
        fact = Report.of(result, files).fact()
        if result.epoch not in self.epochs:
            self.ledger.append(fact)
            self.epochs[result.epoch] = fact
        if result.checkpoint is not None:
            self._checkpoint(result)
        return fact

    def _checkpoint(self, result: Any) -> None:
        began = time.monotonic()
        if began - self._saved < min(CHECKPOINT_EVERY_S, self._cost_s / CHECKPOINT_SHARE):
            return
        path = self.folder / CHECKPOINT
        fresh = path.with_name(f"{CHECKPOINT}-new")
        result.checkpoint(fresh)
        self.ledger.append({"checkpoint": sha256(fresh), "after": result.epoch})  # before it takes the old one's name
        with named_write_errors(path):
            os.replace(fresh, path)
        self._saved = time.monotonic()
        self._cost_s = self._saved - began


def _note_chunk(known: Path, pixels: int) -> None:
    if pixels and pixels < (read_chunk(known) or pixels + 1):
        write_text(known, f"{pixels}\n")


def chunk_file(run: Path, configuration: Configuration) -> Path:
    """Return the file that remembers for the run's later trials how much of such an encoder's input fitted."""
    model = configuration.model
    return run / CHUNKS / ("none" if model is None else f"{digest(model.encoder.as_yaml())}.txt")


def read_chunk(path: Path) -> int | None:
    """Return the pixels that fitted into an encoder at once after an earlier trial of the run ran out of memory."""
    try:
        return int(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
