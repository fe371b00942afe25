"""A trial's training: the same configuration on every fold, side by side, one result an epoch.

Shapes: R repeats (seeds), K folds, P patients of the cohort.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lymphtune.cohort.cohort import TO_PREDICT, Cohort
from lymphtune.config import Configuration
from lymphtune.models.bag_classifier import Chunk
from lymphtune.models.memory import freed_memory_kept
from lymphtune.statistics.metrics import balanced_log_loss
from lymphtune.training.arithmetic import Arithmetic
from lymphtune.training.batches import Bags, attributes
from lymphtune.training.clinical import ClinicalMember
from lymphtune.training.frozen import features, place_backbone
from lymphtune.training.fused import Fused
from lymphtune.training.network import Diverged, NetworkMember


@dataclass(frozen=True)
class Protocol:
    """How every trial of a run is trained: folds_RP holds the fold that holds patient p out, -1 for none.

    arithmetic: None takes what is usual for the device. fused: the fold models' steps as one; None measures
    whether that is faster on a GPU, and does without it on a CPU. chunk_pixels: what goes through an encoder at once;
    None: as much as fits.
    """

    folds_RP: np.ndarray
    epochs: int
    seed: int
    arithmetic: Arithmetic | None = None
    fused: bool | None = None
    chunk_pixels: int | None = None


@dataclass(frozen=True)
class EpochResult:
    """One epoch of all folds; probabilities_RP are out-of-fold, NaN for patients never held out.

    gates_RP: share of the pictures' expert, NaN where the model has no gate. chunk_pixels: what goes through the
    encoder at once since a GPU's memory ran out, 0 where it did not. fused: the fold models' steps were one.
    """

    epoch: int
    probabilities_RP: np.ndarray
    gates_RP: np.ndarray
    train_loss: float
    learning_rate: float
    seconds: float
    save: Callable[[Path], None]  # writes a weights file a fold model; call it before the next epoch is asked for
    chunk_pixels: int = 0
    fused: bool = False


def train(
    configuration: Configuration, cohort: Cohort, protocol: Protocol, device: str = "cpu"
) -> Iterator[EpochResult]:
    """Yield one result an epoch (a clinical model has one); raises Diverged when a loss is not a number."""
    if configuration.kind == "clinical":
        yield _train_clinical(configuration, cohort, protocol)
    else:
        try:
            with freed_memory_kept():
                yield from _train_networks(configuration, cohort, protocol, torch.device(device))
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
    configuration: Configuration, cohort: Cohort, protocol: Protocol, device: torch.device
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
    wanted = device.type == "cuda" if protocol.fused is None else protocol.fused
    fused = Fused(list(members.values())) if wanted else None
    if fused and protocol.fused is None and not fused.faster():
        fused = None
    kept = _Kept(members, configuration)
    try:
        for epoch in range(1, protocol.epochs + 1):
            result = _epoch(epoch, members, protocol.folds_RP, fused, kept.save)
            kept.judge(result.probabilities_RP, cohort.labels)
            yield result
    finally:
        members.clear()  # the last result still knows of them


def _epoch(
    epoch: int,
    members: Mapping[tuple[int, int], NetworkMember],
    folds_RP: np.ndarray,
    fused: Fused | None,
    save: Callable[[Path], None],
) -> EpochResult:
    """Train every member for one epoch and let it judge the patients it never sees."""
    started = time.perf_counter()
    probabilities_RP, gates_RP = (np.full(folds_RP.shape, np.nan) for _ in range(2))
    losses = fused.train_epoch(epoch) if fused else []
    for (r, k), member in members.items():
        if not fused:
            losses.append(member.train_epoch(epoch))
        held_out = np.flatnonzero(folds_RP[r] == k)
        probabilities_RP[r, held_out], gates_RP[r, held_out] = member.judge(held_out)
    if not np.isfinite(probabilities_RP[folds_RP >= 0]).all():
        raise Diverged(f"a probability is not a number in epoch {epoch}")
    one = next(iter(members.values()))
    seconds = time.perf_counter() - started
    return EpochResult(
        epoch, probabilities_RP, gates_RP, float(np.mean(losses)), one.learning_rate, seconds, save,
        (one.live.chunk.pixels or 0) if one.live.chunk.halved else 0, fused is not None,
    )  # fmt: skip


class _Kept:
    """The weights a trial would save: the last epoch's, or those of its best-scored epoch (`checkpoint: best`)."""

    def __init__(self, members: Mapping[tuple[int, int], NetworkMember], configuration: Configuration) -> None:
        self.members, self.configuration = members, configuration
        self.lowest = np.inf
        self.states: dict[tuple[int, int], dict[str, torch.Tensor]] = {}

    def judge(self, probabilities_RP: np.ndarray, labels_P: np.ndarray) -> None:
        """Copy the weights if they score best so far, where that is asked for."""
        score = pooled_log_loss(probabilities_RP, labels_P) if self.configuration.picks_epoch else np.inf
        if score < self.lowest:
            self.lowest = score
            self.states = {name: member.state() for name, member in self.members.items()}

    def save(self, folder: Path) -> None:
        for (r, k), member in self.members.items():
            NetworkMember.save(self.states.get((r, k)) or member.state(), folder / member_name(r, k))
        place_backbone(self.configuration, folder)


def _train_clinical(configuration: Configuration, cohort: Cohort, protocol: Protocol) -> EpochResult:
    started = time.perf_counter()
    attributes_PA, labels_P = attributes(cohort), cohort.labels
    probabilities_RP = np.full(protocol.folds_RP.shape, np.nan)
    members = {}
    for r, k in fold_models(protocol.folds_RP):
        rows, held_out = _training_rows(cohort, protocol, r, k), np.flatnonzero(protocol.folds_RP[r] == k)
        seed = int(np.random.SeedSequence([protocol.seed, r, k]).generate_state(1)[0])
        members[r, k] = ClinicalMember(configuration, attributes_PA[rows], labels_P[rows], seed)
        probabilities_RP[r, held_out] = members[r, k].predict(attributes_PA[held_out])

    def save(folder: Path) -> None:
        for (r, k), member in members.items():
            ClinicalMember.save(member.pipeline, folder / member_name(r, k))

    seconds = time.perf_counter() - started
    loss = pooled_log_loss(probabilities_RP, labels_P)
    return EpochResult(1, probabilities_RP, np.full_like(probabilities_RP, np.nan), loss, 0.0, seconds, save)


def _training_rows(cohort: Cohort, protocol: Protocol, repeat: int, fold: int) -> np.ndarray:
    """Return the labelled patients that the fold does not hold out: all that its model may learn from."""
    held_out = protocol.folds_RP[repeat] == fold
    return np.flatnonzero((cohort.labels != TO_PREDICT) & ~held_out)


def pooled_log_loss(probabilities_RP: np.ndarray, labels_P: np.ndarray) -> float:
    """Return the class-balanced log loss of the out-of-fold probabilities, averaged over repeats first."""
    judged = ~np.isnan(probabilities_RP).all(axis=0)
    return float(balanced_log_loss(np.nanmean(probabilities_RP[:, judged], axis=0), labels_P[judged]))
