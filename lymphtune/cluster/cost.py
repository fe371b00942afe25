"""What a trial takes of this machine, from steps that are really taken: time and memory."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lymphtune.cohort import Cohort
from lymphtune.platforms import peak_memory_bytes
from lymphtune.searching.plan import Plan, Trial

MEASURED = 8  # encoders that are tried out; the others are taken to cost their mean


@dataclass(frozen=True)
class Cost:
    """Of one trial that is not stopped early."""

    seconds: float
    weights_bytes: int
    memory_bytes: int


def kinds(plan: Plan) -> dict[str, Trial]:
    """Return a network of each encoder, by the encoder's name."""
    return {trial.configuration.title.split()[0]: trial for trial in plan.networks}


def measure(cohort: Cohort, plan: Plan, trial: Trial, device: Any, precision: Any) -> Cost:
    """Return the cost of a trial from two real steps and one real evaluation on this machine's one device."""
    import torch

    from lymphtune.training.batches import Bags
    from lymphtune.training.frozen import placeholder_features
    from lymphtune.training.network import NetworkMember

    assert trial.configuration.training is not None
    torch.set_num_threads(plan.settings.cpus_per_trial)
    before = peak_memory_bytes()
    bags = Bags(cohort, trial.configuration.data, device, placeholder_features(trial.configuration, cohort))
    per_step = trial.configuration.training.patients_per_step
    rows = both_classes(cohort, 2 * per_step)
    member = NetworkMember(trial.configuration, bags, rows, max(trial.epochs, 2), [trial.seed, 0, 0], precision)
    member.train_epoch(1)  # warms up
    losses: list[torch.Tensor] = []
    training_s = _timed(lambda: losses.extend(map(member.step, member.batches(2))), device) / len(rows)
    closing_s = _timed(lambda: member.close_epoch(2, losses), device)
    cells = cohort.patients["n_cells"].to_numpy()
    evaluation_s = _timed(lambda: member.predict(rows), device) / cells[rows].sum()
    folds, repeats = plan.n_folds, len(plan.folds_RP)
    held_out = plan.folds_RP[0] >= 0
    trained = len(cohort.labelled) * folds - held_out.sum()
    epoch_s = repeats * (trained * training_s + folds * closing_s + cells[held_out].sum() * evaluation_s)
    weights = sum(value.nbytes for value in member.state().values()) * folds * repeats
    grown = peak_memory_bytes() - before
    return Cost(epoch_s * trial.epochs, weights, grown + 5 * weights)  # weights, gradient, two moments, average


def both_classes(cohort: Cohort, count: int) -> np.ndarray:
    """Return rows of labelled patients, both classes among them."""
    by_class = [np.flatnonzero(cohort.labels == label)[: max(count // 2, 1)] for label in (0, 1)]
    return np.concatenate(by_class)


def _timed(work: Callable[[], object], device: Any) -> float:
    """Return the time of the work, what it leaves a GPU to do included."""
    import torch

    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
