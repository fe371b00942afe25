"""Several fold models' steps as one: parameters stacked, convolutions grouped; for GPUs that one model leaves idle.

Shapes: F fold models, B bags of a step.
"""

import copy
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from lymphtune.training.batches import Batch
from lymphtune.training.network import NetworkMember

WARM, TIMED = 2, 5  # rounds each way of the trial that decides


def train_epoch(members: Sequence[NetworkMember], epoch: int) -> list[float]:
    """Train every member for one epoch, side by side, and return their mean losses.

    The same losses as one after the other, but for the draws of dropout.
    """
    losses: list[list[Tensor]] = [[] for _ in members]
    for batches in itertools.zip_longest(*(member.batches(epoch) for member in members)):
        for said, loss in zip(losses, step(members, batches), strict=True):
            said += [] if loss is None else [loss]
    return [member.close_epoch(epoch, said) for member, said in zip(members, losses, strict=True)]


def step(members: Sequence[NetworkMember], batches: Sequence[Batch | None]) -> list[Tensor | None]:
    """Let every member learn from its batch: together where the shapes agree, else one after the other."""
    if _alike(members, batches):
        try:
            losses = _learn_together(members, [batch for batch in batches if batch is not None])
        except torch.OutOfMemoryError:  # there may be room for one at a time
            torch.cuda.empty_cache()
        else:
            for member in members:
                member.advance()
            return losses
    pairs = zip(members, batches, strict=True)
    return [None if batch is None else member.step(batch) for member, batch in pairs]


def faster(members: Sequence[NetworkMember]) -> bool:
    """Return whether gradients of all members together take less time than one after the other; no step is taken."""
    batches = [next(member.batches(1)) for member in members]
    if len(members) < 2 or not _alike(members, batches):
        return False

    def apart() -> None:
        for member, batch in zip(members, batches, strict=True):
            member.learn(batch)

    try:
        return _seconds(members[0], lambda: _learn_together(members, batches)) < _seconds(members[0], apart)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return False


def _seconds(member: NetworkMember, work: Callable[[], object]) -> float:
    """Return the time of TIMED rounds of the work on the member's device, after WARM ones."""
    started = 0.0
    for number in range(WARM + TIMED):
        if number == WARM:
            _wait(member)
            started = time.perf_counter()
        work()
    _wait(member)
    return time.perf_counter() - started


def _wait(member: NetworkMember) -> None:
    if member.bags.device.type == "cuda":
        torch.cuda.synchronize(member.bags.device)


def _alike(members: Sequence[NetworkMember], batches: Sequence[Batch | None]) -> bool:
    """Return whether all batches hold as many bags of as many cells, and few enough to go through in one chunk."""
    first = batches[0]
    if first is None or len(set(first.counts)) != 1:
        return False
    many = len(first.cells)
    fits = first.cells.ndim == 2 or members[0].live.chunk.at_once(many, first.cells.shape[1]) == many
    return fits and all(batch is not None and batch.counts == first.counts for batch in batches)


def _learn_together(members: Sequence[NetworkMember], batches: Sequence[Batch]) -> list[Tensor | None]:
    """Set every member's gradients and return the losses."""
    first, counts = members[0], batches[0].counts
    skeleton = copy.deepcopy(first.live).to("meta")
    stacked, buffers = stack_module_state([member.live for member in members])
    parameters = {name: value.detach() for name, value in stacked.items()}  # the gradients are vmap's to take

    def loss(parameters: dict, buffers: dict, cells: Tensor, attributes: Tensor, labels: Tensor, w: Tensor) -> Tensor:
        with first.arithmetic.autocast(first.bags.device):
            output = functional_call(skeleton, (parameters, buffers), (cells, counts, attributes))
        return first.loss(output, labels, w)

    given = [
        torch.stack([getattr(batch, name) for batch in batches]) for name in ("cells", "attributes_BA", "labels_B")
    ]
    weights_F2 = torch.tensor([member.class_weights for member in members], device=first.bags.device)
    together: Any = vmap(grad_and_value(loss), randomness="different")
    gradients, losses_F = together(parameters, buffers, *given, weights_F2)
    for number, member in enumerate(members):
        for name, parameter in member.live.named_parameters():
            parameter.grad = gradients[name][number]
    return list(losses_F.unbind())
