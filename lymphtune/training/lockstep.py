"""The training of a trial: one configuration on every fold, all folds epoch by epoch, one result per epoch.

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
from lymphtune.models.memory import keep_freed_memory
from lymphtune.statistics.metrics import balanced_log_loss
from lymphtune.training.batches import Bags
from lymphtune.training.clinical import ClinicalMember
from lymphtune.training.frozen import features, place_backbone
from lymphtune.training.network import SUFFIX, Diverged, NetworkMember
from lymphtune.training.precision import Precision


class CheckpointError(Exception):
    """A training cannot resume from a checkpoint: it is damaged or belongs to another training."""


@dataclass(frozen=True)
class Protocol:
    """How every trial of a run is trained: folds_RP is the fold that holds patient p out, -1 for none.

    precision: None means `default_precision` of the device. chunk_pixels: the number of pixels that an encoder takes
    at once; None means as many as fit. further_cycles: the last epochs of the cycles after the first, each of which
    starts with a warm restart.
    """

    folds_RP: np.ndarray
    epochs: int
    seed: int
    precision: Precision | None = None
    chunk_pixels: int | None = None
    further_cycles: tuple[int, ...] = ()

    @property
    def last_epoch(self) -> int:
        """Return the number of the training's last epoch."""
        return (self.epochs, *self.further_cycles)[-1]

    def next_cycle_length(self, epoch: int) -> int:
        """Return the number of epochs of the cycle that begins after this epoch; 0 where none does."""
        ends = (self.epochs, *self.further_cycles)
        return next((later - end for end, later in itertools.pairwise(ends) if end == epoch), 0)


@dataclass(frozen=True)
class Start:
    """Where a training resumes: after `epoch`, from a checkpoint file, or from a folder of weights at a cycle's end.

    lowest: the log loss of the weights in that folder, where they are those of the best epoch.
    """

    epoch: int
    path: Path
    lowest: float = np.inf


@dataclass(frozen=True)
class EpochResult:
    """One epoch of all folds; probabilities_RP are out-of-fold, NaN for patients that are never held out.

    train_loss, train_loss_sd: mean and standard deviation over the fold models of all repeats; the latter is 0 for a
    single one. gates_RP: weight of the pictures' expert, NaN for a model without a gate. chunk_pixels: the number of
    pixels that the encoder takes at once since a GPU ran out of memory, 0 where none did. save: writes a weights file
    per fold model. checkpoint: writes all that the next epoch depends on; None for a clinical model. Both are to be
    called before the next epoch is requested.
    """

    epoch: int
    probabilities_RP: np.ndarray
    gates_RP: np.ndarray
    train_loss: float
    train_loss_sd: float
    learning_rate: float
    seconds: float
    save: Callable[[Path], None]
    chunk_pixels: int = 0
    checkpoint: Callable[[Path], None] | None = None


def train(
    configuration: Configuration, cohort: Cohort, protocol: Protocol, device: str = "cpu", start: Start | None = None
) -> Iterator[EpochResult]:
    """Yield one result per epoch (a clinical model has one); raises Diverged when a loss is not finite.

    With a `start` the results are the same as those of an uninterrupted training from that epoch on.
    """
    if configuration.kind == "clinical":
        yield train_clinical(configuration, cohort, protocol)
    else:
        try:
            with keep_freed_memory():
                yield from _train_networks(configuration, cohort, protocol, torch.device(device), start)
        except (Diverged, torch.OutOfMemoryError) as error:
            clear_frames(error.__traceback__)  # frees the networks while the error is reported
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
            configuration,
            bags,
            _training_rows(cohort, protocol, r, k),
            protocol.epochs,
            [protocol.seed, r, k],
            protocol.precision,
            chunk,
        )
        for r, k in fold_models(protocol.folds_RP)
    }
    saved = _SavedWeights(members, configuration, chunk)
    if start is not None:
        saved.resume(start, device)
    try:
        for epoch in range(start.epoch + 1 if start else 1, protocol.last_epoch + 1):
            if more := protocol.next_cycle_length(epoch - 1):
                saved.restart(more)
            result = _epoch(epoch, members, protocol.folds_RP, saved)
            saved.update_best(result.probabilities_RP, cohort.labels)
            yield result
    finally:
        members.clear()  # the last result still refers to them


def _epoch(
    epoch: int, members: Mapping[tuple[int, int], NetworkMember], folds_RP: np.ndarray, saved: "_SavedWeights"
) -> EpochResult:
    """Train every member for one epoch and predict the patients that it does not train on."""
    started = time.perf_counter()
    probabilities_RP, gates_RP = (np.full(folds_RP.shape, np.nan) for _ in range(2))
    losses = []
    for (r, k), member in members.items():
        losses.append(member.train_epoch(epoch))
        held_out = np.flatnonzero(folds_RP[r] == k)
        probabilities_RP[r, held_out], gates_RP[r, held_out] = member.predict(held_out)
    if not np.isfinite(probabilities_RP[folds_RP >= 0]).all():
        raise Diverged(f"a probability is not a number in epoch {epoch}")
    probabilities_RP = probabilities_RP.clip(0, 1)  # rounding may lift a float32 mean above 1
    one = next(iter(members.values()))
    seconds = time.perf_counter() - started
    return EpochResult(
        epoch,
        probabilities_RP,
        gates_RP,
        float(np.mean(losses)),
        _spread(losses),
        one.learning_rate,
        seconds,
        saved.save,
        (one.live.chunk.pixels or 0) if one.live.chunk.halved else 0,
        lambda path: saved.checkpoint(path, epoch),
    )


def _spread(losses: Sequence[float]) -> float:
    """Return the standard deviation of the fold models' losses, 0 for a single one."""
    return float(np.std(losses, ddof=1)) if len(losses) > 1 else 0.0


class _SavedWeights:
    """The weights that a trial saves: of the last epoch, or of the epoch with the lowest loss (`checkpoint: best`)."""

    def __init__(
        self, members: Mapping[tuple[int, int], NetworkMember], configuration: Configuration, chunk: Chunk
    ) -> None:
        self.members, self.configuration, self.chunk = members, configuration, chunk
        self.lowest = np.inf
        self.states: dict[tuple[int, int], dict[str, torch.Tensor]] = {}

    def update_best(self, probabilities_RP: np.ndarray, labels_P: np.ndarray) -> None:
        """Copy the weights if the configuration keeps its best epoch and this one has the lowest loss so far."""
        score = pooled_log_loss(probabilities_RP, labels_P) if self.configuration.picks_epoch else np.inf
        if score < self.lowest:
            self.lowest = score
            self.states = {name: member.state() for name, member in self.members.items()}

    def save(self, folder: Path) -> None:
        for (r, k), member in self.members.items():
            NetworkMember.save(self.states.get((r, k)) or member.state(), folder / member_name(r, k))
        place_backbone(self.configuration, folder)

    def restart(self, epochs: int) -> None:
        """Begin a cycle of this number of epochs from the weights that would be saved now."""
        for name, member in self.members.items():
            member.restart(self.states.get(name) or member.state(), epochs)

    def checkpoint(self, path: Path, epoch: int) -> None:
        """Write all that the next epochs depend on into one file."""
        members = {member_name(r, k): member.progress() for (r, k), member in self.members.items()}
        states = {member_name(r, k): state for (r, k), state in self.states.items()}
        given = {"epoch": epoch, "members": members, "states": states, "lowest": float(self.lowest)}
        with atomic_file(path) as scratch:
            torch.save(given | {"chunk": asdict(self.chunk)}, scratch)

    def resume(self, start: Start, device: torch.device) -> None:
        """Restore the members' state after `start.epoch`; raises CheckpointError where the file does not hold it."""
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
                member.load_progress(given["members"][member_name(r, k)])
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
            raise CheckpointError(f"{start.path}: the checkpoint is of epoch {epoch}, expected epoch {start.epoch}")


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
    """Return the labelled patients that the fold does not hold out, the only ones that its model is fitted on."""
    held_out = protocol.folds_RP[repeat] == fold
    return np.flatnonzero((cohort.labels != TO_PREDICT) & ~held_out)


def pooled_log_loss(probabilities_RP: np.ndarray, labels_P: np.ndarray) -> float:
    """Return the class-balanced log loss of the out-of-fold probabilities, which are first averaged over repeats."""
    scored = ~np.isnan(probabilities_RP).all(axis=0)
    return float(balanced_log_loss(np.nanmean(probabilities_RP[:, scored], axis=0), labels_P[scored]))
