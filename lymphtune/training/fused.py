"""Several fold models' steps as one: parameters stacked, convolutions grouped; for GPUs that one model leaves idle.

Shapes: F fold models, B bags of a step.
"""

import copy
import itertools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from lymphtune.training.batches import Batch
from lymphtune.training.fused_norm import FusedNorm
from lymphtune.training.network import NetworkMember

WARM, TIMED = 2, 5  # rounds each way of the trial that decides
LOOKED_AT = 10  # batches, to find one that can be learnt together


def fused_where_faster(members: Sequence[NetworkMember], wanted: bool | None) -> "Fused | None":
    """Return how the members learn together; None: they are to learn apart, as `wanted` or as it is faster so.

    Where nothing is wanted a GPU is tried, and a CPU is taken to gain nothing.
    """
    if wanted is False or (wanted is None and members[0].bags.device.type != "cuda"):
        return None
    fused = Fused(members)
    return fused if wanted or fused.faster() else None


class Fused:
    """A trial's fold models, trained side by side: the same losses as apart, but for the draws of dropout."""

    def __init__(self, members: Sequence[NetworkMember]) -> None:
        self.members, self.first = members, members[0]
        self.skeleton = copy.deepcopy(self.first.live).to("meta")
        self.weights_F2 = torch.tensor([member.class_weights for member in members], device=self.first.bags.device)
        self.fits = True  # into the device's memory, all together
        self.taken = False  # in the last epoch, any step of all together

    def train_epoch(self, epoch: int) -> list[float]:
        """Train every member for one epoch and return their mean losses."""
        self.taken = False
        losses: list[list[Tensor]] = [[] for _ in self.members]
        for batches in itertools.zip_longest(*(member.batches(epoch) for member in self.members)):
            for said, loss in zip(losses, self.step(batches), strict=True):
                said += [] if loss is None else [loss]
        return [member.close_epoch(epoch, said) for member, said in zip(self.members, losses, strict=True)]

    def step(self, batches: Sequence[Batch | None]) -> list[Tensor | None]:
        """Let every member learn from its batch: together where the shapes agree, else one after the other."""
        if self.alike(batches):
            try:
                losses = self.learn([batch for batch in batches if batch is not None])
            except torch.OutOfMemoryError:  # there may be room for one at a time
                self.fits = False
            else:
                for member in self.members:
                    member.advance()
                self.taken = True
                return losses
            torch.cuda.empty_cache()
        pairs = zip(self.members, batches, strict=True)
        return [None if batch is None else member.step(batch) for member, batch in pairs]

    def faster(self) -> bool:
        """Return whether gradients of all members together take less time than apart; no weight is changed."""
        streams = zip(*(member.batches(1) for member in self.members), strict=False)
        batches = next(filter(self.alike, itertools.islice(streams, LOOKED_AT)), None)
        if batches is None or len(self.members) < 2:
            return False

        def apart() -> None:
            for member, batch in zip(self.members, batches, strict=True):
                member.learn(batch)

        try:
            needed = self._seconds(apart)
            return self._seconds(lambda: self.learn(batches), needed) < needed
        except RuntimeError:  # out of memory, or a network that vmap does not take
            return False
        finally:
            for member in self.members:
                member.optimiser.zero_grad(set_to_none=True)

    def alike(self, batches: Sequence[Batch | None]) -> bool:
        """Return whether all batches hold as many bags of as many cells, and few enough to go through in one chunk."""
        first = batches[0]
        if not self.fits or first is None or len(set(first.counts)) != 1:
            return False
        self.first.find_chunk(first)
        many = len(first.cells) * len(self.members)
        whole = first.cells.ndim == 2 or self.first.live.chunk.at_once(many, first.cells.shape[1]) == many
        return whole and all(batch is not None and batch.counts == first.counts for batch in batches)

    def learn(self, batches: Sequence[Batch]) -> list[Tensor | None]:
        """Set every member's gradients and return the losses."""
        counts = batches[0].counts
        stacked, buffers = stack_module_state([member.live for member in self.members])
        parameters = {name: value.detach() for name, value in stacked.items()}  # the gradients are vmap's to take

        def loss(parameters: Any, buffers: Any, cells: Tensor, attributes: Tensor, labels: Tensor, w: Tensor) -> Tensor:
            with FusedNorm(), self.first.arithmetic.autocast(self.first.bags.device):
                output = functional_call(self.skeleton, (parameters, buffers), (cells, counts, attributes))
            return self.first.loss(output, labels, w)

        names = ("cells", "attributes_BA", "labels_B")
        given = [torch.stack([getattr(batch, name) for batch in batches]) for name in names]
        together: Any = vmap(grad_and_value(loss), randomness="different")
        gradients, losses_F = together(parameters, buffers, *given, self.weights_F2)
        for number, member in enumerate(self.members):
            for name, parameter in member.live.named_parameters():
                # a fused optimiser takes the two for the same layout
                parameter.grad = torch.empty_like(parameter).copy_(gradients[name][number])
        return list(losses_F.unbind())

    def _seconds(self, work: Callable[[], object], at_most: float = math.inf) -> float:
        """Return the time of TIMED rounds of the work on the members' device, after WARM ones.

        Infinity as soon as those after the first have taken twice `at_most`: some networks' convolutions, grouped, take
        a GPU a hundred times as long.
        """
        rounds: list[float] = []
        while len(rounds) < WARM + TIMED:
            self._wait()
            started = time.perf_counter()
            work()
            self._wait()
            rounds.append(time.perf_counter() - started)
            if sum(rounds[1:]) > 2 * at_most:
                return math.inf
        return sum(rounds[WARM:])

    def _wait(self) -> None:
        if self.first.bags.device.type == "cuda":
            torch.cuda.synchronize(self.first.bags.device)
