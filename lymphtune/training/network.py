"""A network as a member: one fold's bag classifier, its optimiser and its average, trained an epoch at a time."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import SGD, Adam, AdamW, Optimizer

from lymphtune import registry
from lymphtune.config import Configuration, Training
from lymphtune.files import atomic_file
from lymphtune.models.bag_classifier import BagClassifier, Chunk
from lymphtune.models.output import BagOutput
from lymphtune.training.arithmetic import Arithmetic, usual
from lymphtune.training.averaging import MovingAverage
from lymphtune.training.batches import Bags, Batch, evaluation_views

SUFFIX = ".safetensors"
STATISTICS_CELLS = 256  # cells that the batch-norm statistics are measured on
STATISTICS_PATIENTS = 16  # at a time, with as many cells each at most
SMALLEST = 1e-6  # probabilities are kept this far from 0 and 1 in the loss
Result = TypeVar("Result")


class Diverged(Exception):
    """The loss is no longer a number."""


class Prediction(NamedTuple):
    """probability_P: of being tumoral; gate_P: share of the pictures' expert in it, NaN where there is no gate."""

    probability_P: np.ndarray
    gate_P: np.ndarray


class CellPrediction(NamedTuple):
    """probability_C: each cell's own of being tumoral, NaN where only whole bags are judged, and that of the pictures'
    expert where there are two; weight_C: share of each cell in its bag, sums to 1 a bag, NaN where cells have none."""

    probability_C: np.ndarray
    weight_C: np.ndarray


class NetworkMember:
    """The model of one fold and repeat; `rows` are the patients it trains on, and the only ones it learns from."""

    def __init__(
        self, configuration: Configuration, bags: Bags, rows: np.ndarray, epochs: int, seed: list[int],
        arithmetic: Arithmetic | None = None, chunk: Chunk | None = None,
    ) -> None:  # fmt: skip
        assert configuration.model is not None and configuration.training is not None
        self.bags, self.rows, self.seed, self.plan = bags, rows, seed, configuration.training
        self.arithmetic = arithmetic or usual(bags.device)
        if self.plan.precision != "auto":
            self.arithmetic = self.arithmetic._replace(precision=self.plan.precision)
        torch.manual_seed(self._draw(0))
        self.live = self._built(configuration, chunk)
        self.class_weights = _class_weights(bags.labels_P[rows], self.plan.class_weight)
        self._begin(epochs)

    def _begin(self, epochs: int) -> None:
        """Set up average, optimiser and schedule for so many epochs from the weights as they are."""
        self.average = MovingAverage(self.live, self.plan.moving_average)
        self.average.model.chunk = self.live.chunk
        self.optimiser = _optimiser(self.live, self.plan)
        steps = math.ceil(len(self.rows) / self.plan.patients_per_step)
        schedule = registry.schedules[self.plan.schedule.word]
        self.schedule = schedule.build(self.optimiser, steps, epochs, self.plan.schedule.options)

    def restart(self, state: dict[str, Tensor], epochs: int) -> None:
        """Begin another cycle of so many epochs from weights that `state` returned: optimiser and schedule anew.

        Source: warm restarts, Loshchilov and Hutter 2017, section 3 (arXiv:1608.03983).
        """
        self.live.load_state_dict(state)
        self._begin(epochs)

    def progress(self) -> dict[str, Any]:
        """Return all that the next epoch depends on; the random draws are a function of seed and epoch."""
        return {
            "live": self.live.state_dict(), "average": self.average.model.state_dict(), "steps": self.average.steps,
            "optimiser": self.optimiser.state_dict(), "schedule": self.schedule.state_dict(),
        }  # fmt: skip

    def go_on_from(self, progress: dict[str, Any]) -> None:
        """Take up what `progress` returned: the next epoch comes out as if there had been no break."""
        self.live.load_state_dict(progress["live"])
        self.average.model.load_state_dict(progress["average"])
        self.average.steps = progress["steps"]
        self.optimiser.load_state_dict(progress["optimiser"])
        self.schedule.load_state_dict(progress["schedule"])

    def _built(self, configuration: Configuration, chunk: Chunk | None) -> BagClassifier:
        """Return the network before its first step, with all it takes from its training patients."""
        model = BagClassifier(configuration, chunk, self.bags.attributes_PA.shape[1])
        if hasattr(model.encoder, "initialise"):
            model.encoder.initialise()
        model.standardise_by(self.bags.attributes_PA[self.rows])
        if self.bags.features_VCD is not None:
            model.encoder.fit(self.bags.features_of(self.rows), self._draw(0))
        model.to(self.bags.device)
        model.lay_out(self.arithmetic.channels_last)
        return model

    def _draw(self, epoch: int) -> int:
        return int(np.random.SeedSequence([*self.seed, epoch]).generate_state(1)[0])

    def train_epoch(self, epoch: int) -> float:
        """Train on every patient once and return the mean loss; the same epoch number draws the same cells."""
        return self.close_epoch(epoch, [self.step(batch) for batch in self.batches(epoch)])

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the epoch's batches, the network ready to learn from them."""
        torch.manual_seed(self._draw(epoch))
        self.live.train()
        rng = np.random.default_rng([*self.seed, epoch])
        yield from self.bags.training(self.rows, self.plan.patients_per_step, rng)

    def step(self, batch: Batch) -> Tensor:
        """Learn from one batch and return its loss."""
        loss = with_room(self.live.chunk, batch, lambda: self.learn(batch))
        self.advance()
        return loss

    def learn(self, batch: Batch) -> Tensor:
        """Set the gradients of the batch's loss and return it."""
        self.find_chunk(batch)
        with self.arithmetic.autocast(self.bags.device):
            output = self.live(batch.cells, batch.counts, batch.attributes_BA)
        loss = self.loss(output, batch.labels_B)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        return loss.detach()

    def find_chunk(self, batch: Batch) -> None:
        """Have the encoder know how many such cells go through it at once."""
        with self.arithmetic.autocast(self.bags.device):
            self.live.find_chunk(batch.cells)

    def loss(self, output: BagOutput, labels_B: Tensor, class_weights: Any = None) -> Tensor:
        """Return the loss of the bag's own probability and of its experts, as the model weighs them."""
        given = (labels_B, self.class_weights if class_weights is None else class_weights, self.plan.label_smoothing)
        if output.expert_probability_XB is None:
            return bag_loss(output.probability_B, *given)
        experts = torch.stack(
            [bag_loss(probability_B, *given) for probability_B in output.expert_probability_XB]
        ).mean()
        if output.expert_loss == 1:
            return experts
        return (1 - output.expert_loss) * bag_loss(output.probability_B, *given) + output.expert_loss * experts

    def advance(self) -> None:
        """Take the step that the gradients ask for."""
        if self.plan.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.live.parameters(), self.plan.gradient_clip)
        self.optimiser.step()
        self.schedule.step()
        self.average.update()

    def close_epoch(self, epoch: int, losses: list[Tensor]) -> float:
        """Return the mean loss, the averaged network made ready to judge; raises Diverged where it is no number."""
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise Diverged(f"loss is {loss} in epoch {epoch}")
        self._measure_batch_statistics(np.random.default_rng([*self.seed, epoch, 1]))
        return loss

    def _measure_batch_statistics(self, rng: np.random.Generator) -> None:
        """Give the averaged weights batch-norm statistics of their own, from cells of its training patients.

        The running ones lag far behind the weights in a training of a few hundred steps.
        Source: precise batch normalisation, Wu and Johnson 2021, section 3 (arXiv:2105.07576).
        """
        model = self.average.model
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        if not norms:
            return
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
            norm.train()
        seen = 0
        for batch in self.bags.training(self.rows, STATISTICS_PATIENTS, rng, STATISTICS_PATIENTS):
            with torch.no_grad(), self.arithmetic.autocast(self.bags.device):
                with_room(model.chunk, batch, partial(model.encode, batch.cells))
            seen += len(batch.cells)
            if seen >= STATISTICS_CELLS:
                break
        model.eval()

    def predict(self, rows: np.ndarray) -> Prediction:
        """Return what the averaged network says of patients in the cohort's `rows`."""
        return predict(self.average.model, self.bags, rows, self.arithmetic)

    @property
    def learning_rate(self) -> float:
        return float(self.optimiser.param_groups[0]["lr"])

    def state(self) -> dict[str, Tensor]:
        """Return a copy of what prediction needs: averaged weights, batch statistics, attribute scales."""
        return {name: value.detach().cpu().clone() for name, value in self.average.model.state_dict().items()}

    @staticmethod
    def save(state: Any, path: Path) -> None:
        """Write the state as safetensors."""
        with atomic_file(path.with_suffix(SUFFIX)) as scratch:
            save_file({name: value.contiguous() for name, value in state.items()}, scratch)


def bag_loss(
    probability_B: Tensor, labels_B: Tensor, class_weights: Any = (1.0, 1.0), smoothing: float = 0.0
) -> Tensor:
    """Return the weighted binary cross-entropy of the bags' probabilities, float32.

    Source: Dessaint and Dalla-torre 2021, eq. 1; label smoothing: Szegedy et al. 2016, section 7 (arXiv:1512.00567).
    """
    probability_B = probability_B.float().clamp(SMALLEST, 1 - SMALLEST)
    weight_B = torch.where(labels_B > 0.5, class_weights[1], class_weights[0])
    target_B = labels_B * (1 - smoothing) + smoothing / 2
    loss_B = -(target_B * probability_B.log() + (1 - target_B) * (-probability_B).log1p())
    return (weight_B * loss_B).mean()


def with_room(chunk: Chunk, batch: Batch, work: Callable[[], Result]) -> Result:
    """Return what the work gives; where a GPU's memory does not suffice, it is done again in chunks half as large."""
    while True:
        try:
            return work()
        except torch.OutOfMemoryError:
            if batch.cells.ndim == 2 or not chunk.halve(len(batch.cells), batch.cells.shape[1]):
                raise
        torch.cuda.empty_cache()


@torch.no_grad()
def predict(model: BagClassifier, bags: Bags, rows: np.ndarray, arithmetic: Arithmetic) -> Prediction:
    """Return what the model says of patients in `rows`, float64; streams over them, in evaluation mode.

    The mean over the views that are judged in and, where bags are judged at one size, over the draws of their cells.
    """
    model.eval()
    views = [
        [_of_bags(output) for _, output in _looks(model, bags, np.asarray(rows), arithmetic, view, draw)]
        for view in evaluation_views(bags.data)
        for draw in bags.draws
    ]
    return Prediction(*_mean(views))


@torch.no_grad()
def predict_cells(
    model: BagClassifier, bags: Bags, rows: np.ndarray, arithmetic: Arithmetic
) -> tuple[Prediction, CellPrediction]:
    """Return the same, and what the model says of the cells of these patients, one after the other, float64.

    Of cells as they lie in their whole bags, also where the bags are judged at one size.
    """
    model.eval()
    of_bags, of_cells = [], []
    for view in evaluation_views(bags.data):
        looks = [
            (_of_bags(output), _of_cells(output, batch.counts))
            for batch, output in _looks(model, bags, np.asarray(rows), arithmetic, view)
        ]
        of_bags.append([probability_2B for probability_2B, _ in looks])
        of_cells.append([probability_2M for _, probability_2M in looks])
    said = Prediction(*_mean(of_bags)) if bags.fixed is None else predict(model, bags, rows, arithmetic)
    return said, CellPrediction(*_mean(of_cells))


def _looks(
    model: BagClassifier, bags: Bags, rows: np.ndarray, arithmetic: Arithmetic, view: int, draw: int | None = None
) -> Iterator[tuple[Batch, BagOutput]]:
    """Yield batch after batch with every cell, or those of a draw, in one view, and what the model says of it."""
    for batch in bags.evaluation(rows, view, draw):

        def look(batch: Batch = batch) -> BagOutput:
            with arithmetic.autocast(bags.device):
                return model(batch.cells, batch.counts, batch.attributes_BA)

        yield batch, with_room(model.chunk, batch, look)


def _of_bags(output: BagOutput) -> np.ndarray:
    """Return probabilities and gates [2, B]."""
    gate_B = torch.full_like(output.probability_B, torch.nan) if output.gate_B is None else output.gate_B
    return torch.stack([output.probability_B, gate_B]).double().cpu().numpy()


def _of_cells(output: BagOutput, counts: Sequence[int]) -> np.ndarray:
    """Return probabilities and weights [2, M] of the real cells."""
    weight_BN, own_BN = output.weight_BN, output.cell_probability_BN
    given_2BN = torch.stack([torch.full_like(weight_BN, torch.nan) if own_BN is None else own_BN, weight_BN])
    real_BN = np.arange(weight_BN.shape[1]) < np.asarray(counts)[:, None]
    return given_2BN.double().cpu().numpy()[:, real_BN]


def _mean(views: list[list[np.ndarray]]) -> np.ndarray:
    """Return the mean over the views of what the batches [2, ...] of each say together; [2, 0] without a batch."""
    return np.mean([np.concatenate([np.zeros((2, 0)), *batches], axis=1) for batches in views], axis=0)


def _optimiser(model: BagClassifier, plan: Training) -> Optimizer:
    """Return the optimiser; parts that have a `learning_rate_factor` come after the others, in groups of their own."""
    factors = dict.fromkeys(model.parameters(), 1.0)
    for module in model.modules():
        if factor := getattr(module, "learning_rate_factor", None):
            factors |= dict.fromkeys(module.parameters(), factor)
    groups = [
        {"params": [p for p, own in factors.items() if own == factor], "lr": plan.learning_rate * factor}
        for factor in sorted({1.0, *factors.values()}, key=lambda factor: (factor != 1, factor))
    ]
    if plan.optimiser == "sgd":
        return SGD(groups, plan.learning_rate, momentum=0.9, weight_decay=plan.weight_decay, fused=True)
    kind = Adam if plan.optimiser == "adam" else AdamW
    return kind(groups, plan.learning_rate, weight_decay=plan.weight_decay, fused=True)


def _class_weights(labels: np.ndarray, wanted: str) -> tuple[float, float]:
    if wanted == "none":
        return 1.0, 1.0
    tumoral = float((labels > 0.5).mean())
    return 0.5 / (1 - tumoral), 0.5 / tumoral
