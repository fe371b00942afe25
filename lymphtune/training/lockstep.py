"""A trial's training: the same configuration on every fold, side by side, one result an epoch.

Shapes: R repeats (seeds), K folds, P patients of the cohort.
"""

import gc
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from traceback import clear_frames

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from lymphtune.cohort.cohort import TO_PREDICT, Cohort
from lymphtune.config import Configuration
from lymphtune.files import atomic_file
from lymphtune.models.bag_classifier import Chunk
from lymphtune.models.memory import freed_memory_kept
from lymphtune.statistics.metrics import balanced_log_loss
from lymphtune.training.arithmetic import Arithmetic
from lymphtune.training.batches import Bags
from lymphtune.training.clinical import ClinicalMember
from lymphtune.training.frozen import features, place_backbone
from lymphtune.training.network import SUFFIX, Diverged, NetworkMember


class CheckpointError(Exception):
    """A checkpoint cannot be gone on from: damaged, or of another training."""


@dataclass(frozen=True)
class Protocol:
    """How every trial of a run is trained: folds_RP holds the fold that holds patient p out, -1 for none.

    arithmetic: None takes what is usual for the device. chunk_pixels: what goes through an encoder at once; None: as
    much as fits. further: ends of more cycles, each a warm restart over the epochs that it adds.
    """

    folds_RP: np.ndarray
    epochs: int
    seed: int
    arithmetic: Arithmetic | None = None
    chunk_pixels: int | None = None
    further: tuple[int, ...] = ()

    @property
    def last(self) -> int:
        """Return the epoch after which the training is over."""
        return (self.epochs, *self.further)[-1]

    def begins_after(self, epoch: int) -> int:
        """Return how many epochs the cycle has that begins after this one; 0 where none does."""
        ends = (self.epochs, *self.further)
        return next((later - end for end, later in itertools.pairwise(ends) if end == epoch), 0)


@dataclass(frozen=True)
class Start:
    """Where a training goes on: after `epoch`, from a checkpoint, or from a folder of weights at the end of a cycle.

    lowest: the least log loss of the weights in that folder, where they are those of the best epoch.
    """

    epoch: int
    path: Path
    lowest: float = np.inf


@dataclass(frozen=True)
class EpochResult:
    """One epoch of all folds; probabilities_RP are out-of-fold, NaN for patients never held out.

    train_loss, train_loss_sd: mean and standard deviation over the fold models of all repeats, 0 for one of them.
    gates_RP: share of the pictures' expert, NaN where the model has no gate. chunk_pixels: what goes through the
    encoder at once since a GPU's memory ran out, 0 where it did not.
    """

    epoch: int
    probabilities_RP: np.ndarray
    gates_RP: np.ndarray
    train_loss: float
    train_loss_sd: float
    learning_rate: float
    seconds: float
    save: Callable[[Path], None]  # writes a weights file a fold model; call it before the next epoch is asked for
    chunk_pixels: int = 0
    checkpoint: Callable[[Path], None] | None = None  # writes all the next epoch depends on, likewise; None: clinical


def train(
    configuration: Configuration, cohort: Cohort, protocol: Protocol, device: str = "cpu", start: Start | None = None
) -> Iterator[EpochResult]:
    """Yield one result an epoch (a clinical model has one); raises Diverged when a loss is not a number.

    From a `start` the results are those that an unbroken training would have given from there on.
    """
    if configuration.kind == "clinical":
        yield train_clinical(configuration, cohort, protocol)
    else:
        try:
            with freed_memory_kept():
                yield from _train_networks(configuration, cohort, protocol, torch.device(device), start)
        except (Diverged, torch.OutOfMemoryError) as error:
            clear_frames(error.__traceback__)  # whoever tells of it would hold the networks
            raise
        finally:
            gc.collect()
            if device != "cpu":
                torch.cuda.empty_cache()


def fold_models(folds_RP: np.ndarray) -> list[tuple[int, int]]:
    """Return (repeat, fold) of every fold model of a trial."""
    return [(r, int(k)) for r, folds_P in enumerate(folds_RP) for k in np.unique(folds_P[folds_P >= 0])]


def member_name(repeat: int, fold: int) -> str:
    return f"repeat-{repeat}-fold-{fold}"


def _train_networks(
    configuration: Configuration, cohort: Cohort, protocol: Protocol, device: torch.device, start: Start | None
) -> Iterator[EpochResult]:
    bags = Bags(cohort, configuration.data, device, features(configuration, cohort, device))
    chunk = Chunk(protocol.chunk_pixels)
    members = {
        (r, k): NetworkMember(
            configuration, bags, _training_rows(cohort, protocol, r, k), protocol.epochs, [protocol.seed, r, k],
            protocol.arithmetic, chunk,
        )
        for r, k in fold_models(protocol.folds_RP)
    }  # fmt: skip
    kept = _Kept(members, configuration, chunk)
    if start is not None:
        kept.take_up(start, device)
    try:
        for epoch in range(start.epoch + 1 if start else 1, protocol.last + 1):
            if more := protocol.begins_after(epoch - 1):
                kept.restart(more)
            result = _epoch(epoch, members, protocol.folds_RP, kept)
            kept.predict(result.probabilities_RP, cohort.labels)
            yield result
    finally:
        members.clear()  # the last result still knows of them


def _epoch(
    epoch: int,
    members: Mapping[tuple[int, int], NetworkMember],
    folds_RP: np.ndarray,
    kept: "_Kept",
) -> EpochResult:
    """Train every member for one epoch and let it judge the patients it never sees."""
    started = time.perf_counter()
    probabilities_RP, gates_RP = (np.full(folds_RP.shape, np.nan) for _ in range(2))
    losses = []
    for (r, k), member in members.items():
        losses.append(member.train_epoch(epoch))
        held_out = np.flatnonzero(folds_RP[r] == k)
        probabilities_RP[r, held_out], gates_RP[r, held_out] = member.predict(held_out)
    if not np.isfinite(probabilities_RP[folds_RP >= 0]).all():
        raise Diverged(f"a probability is not a number in epoch {epoch}")
    probabilities_RP = probabilities_RP.clip(0, 1)  # a float32 mean may exceed 1 by its rounding
    one = next(iter(members.values()))
    seconds = time.perf_counter() - started
    return EpochResult(
        epoch, probabilities_RP, gates_RP, float(np.mean(losses)), _spread(losses), one.learning_rate, seconds,
        kept.save,
        (one.live.chunk.pixels or 0) if one.live.chunk.halved else 0,
        lambda path: kept.checkpoint(path, epoch),
    )  # fmt: skip


def _spread(losses: Sequence[float]) -> float:
    """Return the standard deviation of so many fold models' losses, 0 for one."""
    return float(np.std(losses, ddof=1)) if len(losses) > 1 else 0.0


class _Kept:
    """The weights a trial would save: the last epoch's, or those of its best-scored epoch (`checkpoint: best`)."""

    def __init__(
        self, members: Mapping[tuple[int, int], NetworkMember], configuration: Configuration, chunk: Chunk
    ) -> None:
        self.members, self.configuration, self.chunk = members, configuration, chunk
        self.lowest = np.inf
        self.states: dict[tuple[int, int], dict[str, torch.Tensor]] = {}

    def predict(self, probabilities_RP: np.ndarray, labels_P: np.ndarray) -> None:
        """Copy the weights if they score best so far, where that is asked for."""
        score = pooled_log_loss(probabilities_RP, labels_P) if self.configuration.picks_epoch else np.inf
        if score < self.lowest:
            self.lowest = score
            self.states = {name: member.state() for name, member in self.members.items()}

    def save(self, folder: Path) -> None:
        for (r, k), member in self.members.items():
            NetworkMember.save(self.states.get((r, k)) or member.state(), folder / member_name(r, k))
        place_backbone(self.configuration, folder)

    def restart(self, epochs: int) -> None:
        """Begin a cycle of so many epochs from the weights that would be saved now."""
        for name, member in self.members.items():
            member.restart(self.states.get(name) or member.state(), epochs)

    def checkpoint(self, path: Path, epoch: int) -> None:
        """Write all that the epochs after this one depend on, into one file."""
        members = {member_name(r, k): member.progress() for (r, k), member in self.members.items()}
        states = {member_name(r, k): state for (r, k), state in self.states.items()}
        given = {"epoch": epoch, "members": members, "states": states, "lowest": float(self.lowest)}
        with atomic_file(path) as scratch:
            torch.save(given | {"chunk": asdict(self.chunk)}, scratch)

    def take_up(self, start: Start, device: torch.device) -> None:
        """Put the members where they were after `start.epoch`; raises CheckpointError where that cannot be done."""
        try:
            if start.path.is_dir():
                for (r, k), member in self.members.items():
                    file = (start.path / member_name(r, k)).with_suffix(SUFFIX)
                    member.average.model.load_state_dict(load_file(file, str(device)))
                    if self.configuration.picks_epoch:
                        self.states[r, k] = member.state()
                self.lowest = start.lowest
                return
            given = torch.load(start.path, map_location=device, weights_only=True)
            for (r, k), member in self.members.items():
                member.go_on_from(given["members"][member_name(r, k)])
                if given["states"]:
                    self.states[r, k] = {
                        name: value.cpu() for name, value in given["states"][member_name(r, k)].items()
                    }
            self.lowest, epoch = given["lowest"], given["epoch"]
            for name, value in given["chunk"].items():
                setattr(self.chunk, name, value)
        except (OSError, RuntimeError, ValueError, KeyError, EOFError, UnpicklingError, SafetensorError) as error:
            raise CheckpointError(f"{start.path}: {error}") from error
        if epoch != start.epoch:
            raise CheckpointError(f"{start.path}: of epoch {epoch}, expected {start.epoch}")


def train_clinical(
    configuration: Configuration, cohort: Cohort, protocol: Protocol, check: Callable[[], None] = lambda: None
) -> EpochResult:
    """Return the one epoch of a clinical model; `check` is called before each fold and may raise."""
    started = time.perf_counter()
    attributes_PA, labels_P = cohort.attributes_PA, cohort.labels
    probabilities_RP = np.full(protocol.folds_RP.shape, np.nan)
    members = {}
    for r, k in fold_models(protocol.folds_RP):
        check()
        rows, held_out = _training_rows(cohort, protocol, r, k), np.flatnonzero(protocol.folds_RP[r] == k)
        seed = int(np.random.SeedSequence([protocol.seed, r, k]).generate_state(1)[0])
        members[r, k] = ClinicalMember(configuration, attributes_PA[rows], labels_P[rows], seed)
        probabilities_RP[r, held_out] = members[r, k].predict(attributes_PA[held_out])

    def save(folder: Path) -> None:
        for (r, k), member in members.items():
            ClinicalMember.save(member.pipeline, folder / member_name(r, k))

    seconds = time.perf_counter() - started
    loss = pooled_log_loss(probabilities_RP, labels_P)
    return EpochResult(1, probabilities_RP, np.full_like(probabilities_RP, np.nan), loss, 0.0, 0.0, seconds, save)


def _training_rows(cohort: Cohort, protocol: Protocol, repeat: int, fold: int) -> np.ndarray:
    """Return the labelled patients that the fold does not hold out: all that its model may learn from."""
    held_out = protocol.folds_RP[repeat] == fold
    return np.flatnonzero((cohort.labels != TO_PREDICT) & ~held_out)


def pooled_log_loss(probabilities_RP: np.ndarray, labels_P: np.ndarray) -> float:
    """Return the class-balanced log loss of the out-of-fold probabilities, averaged over repeats first."""
    judged = ~np.isnan(probabilities_RP).all(axis=0)
    return float(balanced_log_loss(np.nanmean(probabilities_RP[:, judged], axis=0), labels_P[judged]))
