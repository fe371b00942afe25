"""A network as a member: one fold's bag classifier, its optimiser and its weight average, trained epoch by epoch."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from lymphtune.training.averaging import MovingAverage
from lymphtune.training.batches import Bags, Batch, evaluation_orientations
from lymphtune.training.precision import Precision, default_precision

SUFFIX = ".safetensors"
STATISTICS_CELLS = 256  # cells from which the batch-norm statistics are computed
STATISTICS_PATIENTS = 16  # patients a batch, and the largest number of cells of each
SMALLEST = 1e-6  # the loss clips probabilities to this distance from 0 and 1
Result = TypeVar("Result")


class Diverged(Exception):
    """The loss or a probability is not a finite number."""


class Prediction(NamedTuple):
    """probability_P: of being tumoral; gate_P: weight of the pictures' expert, NaN for a model without a gate."""

    probability_P: np.ndarray
    gate_P: np.ndarray


class CellPrediction(NamedTuple):
    """Probability and weight of single cells.

    probability_C: each cell's own probability of being tumoral, by the pictures' expert where there are two experts;
    NaN for an aggregator that scores whole bags only. weight_C: weight of each cell in its bag, which sums to 1 over
    the bag; NaN for a clinical model.
    """

    probability_C: np.ndarray
    weight_C: np.ndarray


class NetworkMember:
    """The model of one fold and repeat; everything in it is fitted on the patients in `rows` alone."""

    def __init__(
        self,
        configuration: Configuration,
        bags: Bags,
        rows: np.ndarray,
        epochs: int,
        seed: list[int],
        precision: Precision | None = None,
        chunk: Chunk | None = None,
    ) -> None:
        assert configuration.model is not None and configuration.training is not None
        self.bags, self.rows, self.seed, self.plan = bags, rows, seed, configuration.training
        self.precision = precision or default_precision(bags.device)
        if self.plan.precision != "auto":
            self.precision = self.precision._replace(precision=self.plan.precision)
        torch.manual_seed(self._seed_of(0))
        self.live = self._build_model(configuration, chunk)
        self.class_weights = _class_weights(bags.labels_P[rows], self.plan.class_weight)
        self._begin(epochs)

    def _begin(self, epochs: int) -> None:
        """Create weight average, optimiser and schedule for this number of epochs, from the current weights."""
        self.average = MovingAverage(self.live, self.plan.moving_average)
        self.average.model.chunk = self.live.chunk
        self.optimiser = _optimiser(self.live, self.plan)
        steps = math.ceil(len(self.rows) / self.plan.patients_per_step)
        schedule = registry.schedules[self.plan.schedule.word]
        self.schedule = schedule.build(self.optimiser, steps, epochs, self.plan.schedule.options)

    def restart(self, state: dict[str, Tensor], epochs: int) -> None:
        """Begin another cycle of this number of epochs with a new optimiser and schedule; `state` holds the weights.

        Source: warm restarts, Loshchilov and Hutter 2017, section 3 (arXiv:1608.03983).
        """
        self.live.load_state_dict(state)
        self._begin(epochs)

    def progress(self) -> dict[str, Any]:
        """Return the state that the next epoch depends on; random numbers depend on seed and epoch alone."""
        return {
            "live": self.live.state_dict(),
            "average": self.average.model.state_dict(),
            "steps": self.average.steps,
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def load_progress(self, progress: dict[str, Any]) -> None:
        """Restore the state that `progress` returned; the next epoch is then the same as without a break."""
        self.live.load_state_dict(progress["live"])
        self.average.model.load_state_dict(progress["average"])
        self.average.steps = progress["steps"]
        self.optimiser.load_state_dict(progress["optimiser"])
        self.schedule.load_state_dict(progress["schedule"])

    def _build_model(self, configuration: Configuration, chunk: Chunk | None) -> BagClassifier:
        """Return the network before its first step, its scalers fitted on the training patients."""
        model = BagClassifier(configuration, chunk, self.bags.attributes_PA.shape[1])
        if hasattr(model.encoder, "initialise"):
            model.encoder.initialise()
        model.fit_attributes(self.bags.attributes_PA[self.rows])
        if self.bags.features_OCD is not None:
            model.encoder.fit(self.bags.features_of(self.rows), self._seed_of(0))
        model.to(self.bags.device)
        model.set_memory_format(self.precision.channels_last)
        return model

    def _seed_of(self, epoch: int) -> int:
        return int(np.random.SeedSequence([*self.seed, epoch]).generate_state(1)[0])

    def train_epoch(self, epoch: int) -> float:
        """Train on every patient once and return the mean loss; the epoch number determines which cells are sampled."""
        return self.close_epoch(epoch, [self.step(batch) for batch in self.batches(epoch)])

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Put the network in training mode and yield the epoch's batches."""
        torch.manual_seed(self._seed_of(epoch))
        self.live.train()
        rng = np.random.default_rng([*self.seed, epoch])
        yield from self.bags.training(self.rows, self.plan.patients_per_step, rng)

    def step(self, batch: Batch) -> Tensor:
        """Take one optimiser step on a batch and return its loss before the step."""
        loss = retry_in_smaller_chunks(self.live.chunk, batch, lambda: self.backward(batch))
        if self.plan.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.live.parameters(), self.plan.gradient_clip)
        self.optimiser.step()
        self.schedule.step()
        self.average.update()
        return loss

    def backward(self, batch: Batch) -> Tensor:
        """Compute the gradients of the batch's loss and return the loss."""
        with self.precision.autocast(self.bags.device):
            output = self.live(batch.cells, batch.counts, batch.attributes_BA)
        loss = self.loss(output, batch.labels_B)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        return loss.detach()

    def loss(self, output: BagOutput, labels_B: Tensor) -> Tensor:
        """Return the weighted mean of the loss of the bags' probabilities and of the experts' losses."""
        given = (labels_B, self.class_weights, self.plan.label_smoothing)
        if output.expert_probability_XB is None:
            return bag_loss(output.probability_B, *given)
        experts = torch.stack(
            [bag_loss(probability_B, *given) for probability_B in output.expert_probability_XB]
        ).mean()
        if output.expert_loss == 1:
            return experts
        return (1 - output.expert_loss) * bag_loss(output.probability_B, *given) + output.expert_loss * experts

    def close_epoch(self, epoch: int, losses: list[Tensor]) -> float:
        """Prepare the averaged network for prediction and return the mean loss; raises Diverged if it is not finite."""
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise Diverged(f"loss is {loss} in epoch {epoch}")
        self._measure_batch_statistics(np.random.default_rng([*self.seed, epoch, 1]))
        return loss

    def _measure_batch_statistics(self, rng: np.random.Generator) -> None:
        """Compute batch-norm statistics for the averaged weights, on cells of the training patients.

        In a training of a few hundred steps the running statistics lag far behind the weights.
        Source: precise batch normalisation, Wu and Johnson 2021, section 3 (arXiv:2105.07576).
        """
        model = self.average.model
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        if not norms:
            return
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
            norm.train()
        n_cells = 0
        for batch in self.bags.training(self.rows, STATISTICS_PATIENTS, rng, STATISTICS_PATIENTS):
            with torch.no_grad(), self.precision.autocast(self.bags.device):
                retry_in_smaller_chunks(model.chunk, batch, partial(model.encode, batch.cells))
            n_cells += len(batch.cells)
            if n_cells >= STATISTICS_CELLS:
                break
        model.eval()

    def predict(self, rows: np.ndarray) -> Prediction:
        """Return the averaged network's prediction for the patients in the cohort's `rows`."""
        return predict(self.average.model, self.bags, rows, self.precision)

    @property
    def learning_rate(self) -> float:
        return float(self.optimiser.param_groups[0]["lr"])

    def state(self) -> dict[str, Tensor]:
        """Return a copy of all that prediction needs: averaged weights, batch statistics, attribute scales."""
        return {name: value.detach().cpu().clone() for name, value in self.average.model.state_dict().items()}

    @staticmethod
    def save(state: Mapping[str, Tensor], path: Path) -> None:
        """Write the state as safetensors."""
        with atomic_file(path.with_suffix(SUFFIX)) as scratch:
            save_file({name: value.contiguous() for name, value in state.items()}, scratch)


def bag_loss(
    probability_B: Tensor, labels_B: Tensor, class_weights: tuple[float, float] = (1.0, 1.0), smoothing: float = 0.0
) -> Tensor:
    """Return the weighted binary cross-entropy of the bags' probabilities, float32.

    Source: Dessaint and Dalla-torre 2021, eq. 1; label smoothing: Szegedy et al. 2016, section 7 (arXiv:1512.00567).
    """
    probability_B = probability_B.float().clamp(SMALLEST, 1 - SMALLEST)
    weight_B = torch.where(labels_B > 0.5, class_weights[1], class_weights[0])
    target_B = labels_B * (1 - smoothing) + smoothing / 2
    loss_B = -(target_B * probability_B.log() + (1 - target_B) * (-probability_B).log1p())
    return (weight_B * loss_B).mean()


def retry_in_smaller_chunks(chunk: Chunk, batch: Batch, compute: Callable[[], Result]) -> Result:
    """Return what `compute` returns; when a GPU runs out of memory, halve the chunks and call it again."""
    while True:
        try:
            return compute()
        except torch.OutOfMemoryError:
            if batch.cells.ndim == 2 or not chunk.halve(len(batch.cells), batch.cells.shape[1]):
                raise
        torch.cuda.empty_cache()


@torch.no_grad()
def predict(model: BagClassifier, bags: Bags, rows: np.ndarray, precision: Precision) -> Prediction:
    """Return the model's prediction for the patients in `rows`, float64, batch by batch in evaluation mode.

    It is the mean over the orientations of evaluation and, where all bags have one size, over the subsamples of cells.
    """
    model.eval()
    passes = [
        [_of_bags(output) for _, output in _outputs(model, bags, np.asarray(rows), precision, orientation, subsample)]
        for orientation in evaluation_orientations(bags.data)
        for subsample in bags.subsamples
    ]
    return Prediction(*_mean(passes))


@torch.no_grad()
def predict_cells(
    model: BagClassifier, bags: Bags, rows: np.ndarray, precision: Precision
) -> tuple[Prediction, CellPrediction]:
    """Return the same prediction and that for each cell of these patients, float64.

    Each cell is scored in its whole bag, also where the patients' predictions come from subsamples.
    """
    model.eval()
    of_bags, of_cells = [], []
    for orientation in evaluation_orientations(bags.data):
        outputs = [
            (_of_bags(output), _of_cells(output, batch.counts))
            for batch, output in _outputs(model, bags, np.asarray(rows), precision, orientation)
        ]
        of_bags.append([probability_2B for probability_2B, _ in outputs])
        of_cells.append([probability_2M for _, probability_2M in outputs])
    prediction = Prediction(*_mean(of_bags)) if bags.fixed is None else predict(model, bags, rows, precision)
    return prediction, CellPrediction(*_mean(of_cells))


def _outputs(
    model: BagClassifier,
    bags: Bags,
    rows: np.ndarray,
    precision: Precision,
    orientation: int,
    subsample: int | None = None,
) -> Iterator[tuple[Batch, BagOutput]]:
    """Yield each batch and the model's output for it, with all cells or those of a subsample, in one orientation."""
    for batch in bags.evaluation(rows, orientation, subsample):

        def compute(batch: Batch = batch) -> BagOutput:
            with precision.autocast(bags.device):
                return model(batch.cells, batch.counts, batch.attributes_BA)

        yield batch, retry_in_smaller_chunks(model.chunk, batch, compute)


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


def _mean(passes: list[list[np.ndarray]]) -> np.ndarray:
    """Return the mean over passes of the batches [2, ...] of each, concatenated; [2, 0] without a batch."""
    return np.mean([np.concatenate([np.zeros((2, 0)), *batches], axis=1) for batches in passes], axis=0)


def _optimiser(model: BagClassifier, plan: Training) -> Optimizer:
    """Return the optimiser; modules with a `learning_rate_factor` follow the others in separate parameter groups."""
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
