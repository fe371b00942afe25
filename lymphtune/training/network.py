"""A network as a member: one fold's bag classifier, its optimiser and its average, trained an epoch at a time."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from lymphtune import registry
from lymphtune.config import Configuration, Training
from lymphtune.files import whole
from lymphtune.models.bag_classifier import BagClassifier, as_pictures
from lymphtune.training.averaging import MovingAverage
from lymphtune.training.batches import Bags, Batch

SUFFIX = ".safetensors"
STATISTICS_CELLS = 512  # cells that the batch-norm statistics are measured on
STATISTICS_PATIENTS = 16  # at a time
SMALLEST = 1e-6  # probabilities are kept this far from 0 and 1 in the loss


class Diverged(Exception):
    """The loss is no longer a number."""


def precision(configuration: Configuration, device: torch.device) -> torch.dtype:
    """Return bfloat16 where asked for, or where `auto` finds a processor that multiplies it; else float32."""
    training = configuration.training or Training()
    if training.precision != "auto":
        return getattr(torch, training.precision)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    supported = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if supported else torch.float32


class NetworkMember:
    """The model of one fold and repeat; `rows` are the patients it trains on, and the only ones it learns from."""

    def __init__(self, configuration: Configuration, bags: Bags, rows: np.ndarray, epochs: int, seed: list[int]):
        assert configuration.model is not None and configuration.training is not None
        self.bags, self.rows, self.seed, self.plan = bags, rows, seed, configuration.training
        self.dtype = precision(configuration, bags.device)
        torch.manual_seed(self._draw(0))
        self.live = BagClassifier(configuration)
        self.live.standardise_by(bags.attributes_PA[rows])
        self.live = self.live.to(bags.device).to(memory_format=torch.channels_last)
        self.average = MovingAverage(self.live, self.plan.moving_average)
        self.optimiser = _optimiser(self.live, self.plan)
        steps = math.ceil(len(rows) / self.plan.patients_per_step)
        schedule = registry.schedules[self.plan.schedule.word]
        self.schedule = schedule.build(self.optimiser, steps, epochs, self.plan.schedule.options)
        self.class_weights = _class_weights(bags.labels_P[rows], self.plan.class_weight)

    def _draw(self, epoch: int) -> int:
        return int(np.random.SeedSequence([*self.seed, epoch]).generate_state(1)[0])

    def train_epoch(self, epoch: int) -> float:
        """Train on every patient once and return the mean loss; the same epoch number draws the same cells."""
        torch.manual_seed(self._draw(epoch))
        rng = np.random.default_rng([*self.seed, epoch])
        self.live.train()
        losses = [self._step(b) for b in self.bags.training(self.rows, self.plan.patients_per_step, rng)]
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise Diverged(f"loss is {loss} in epoch {epoch}")
        self._measure_batch_statistics(rng)
        return loss

    def _measure_batch_statistics(self, rng: np.random.Generator) -> None:
        """Give the averaged weights batch-norm statistics of their own, from cells of its training patients.

        The running ones lag far behind the weights in a training of a few hundred steps.
        Source: precise batch normalisation, Wu and Johnson 2021, section 3 (arXiv:2105.07576).
        """
        norms = [module for module in self.average.model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        if not norms:
            return
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
            norm.train()
        seen = 0
        for batch in self.bags.training(self.rows, STATISTICS_PATIENTS, rng):
            with torch.no_grad(), self._autocast():
                self.average.model.encoder(as_pictures(batch.cells_MSS3[:STATISTICS_CELLS]))
            seen += len(batch.cells_MSS3)
            if seen >= STATISTICS_CELLS:
                break
        self.average.model.eval()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.bags.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def _step(self, batch: Batch) -> Tensor:
        with self._autocast():
            output = self.live(batch.cells_MSS3, batch.counts_B, batch.attributes_BA)
        loss = bag_loss(output.probability_B, batch.labels_B, self.class_weights)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.schedule.step()
        self.average.update()
        return loss.detach()

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Return the averaged network's probabilities [len(rows)] of patients in the cohort's `rows`."""
        return predict(self.average.model, self.bags, rows, self.dtype)

    @property
    def learning_rate(self) -> float:
        return float(self.optimiser.param_groups[0]["lr"])

    def state(self) -> dict[str, Tensor]:
        """Return a copy of what prediction needs: averaged weights, batch statistics, attribute scales."""
        return {name: value.detach().cpu().clone() for name, value in self.average.model.state_dict().items()}

    @staticmethod
    def save(state: Any, path: Path) -> None:
        """Write the state as safetensors."""
        with whole(path.with_suffix(SUFFIX)) as scratch:
            save_file({name: value.contiguous() for name, value in state.items()}, scratch)


def bag_loss(probability_B: Tensor, labels_B: Tensor, class_weights: tuple[float, float]) -> Tensor:
    """Return the weighted binary cross-entropy of the bags' probabilities, float32.

    Source: Dessaint and Dalla-torre 2021, eq. 1.
    """
    probability_B = probability_B.float().clamp(SMALLEST, 1 - SMALLEST)
    weight_B = torch.where(labels_B > 0.5, class_weights[1], class_weights[0])
    loss_B = -torch.where(labels_B > 0.5, probability_B.log(), (-probability_B).log1p())  # NaN stays NaN
    return (weight_B * loss_B).mean()


@torch.no_grad()
def predict(model: BagClassifier, bags: Bags, rows: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Return probabilities [len(rows)], float64; streams over the patients, in evaluation mode."""
    model.eval()
    said = []
    for batch in bags.evaluation(np.asarray(rows)):
        with torch.autocast(bags.device.type, dtype, enabled=dtype != torch.float32):
            output = model(batch.cells_MSS3, batch.counts_B, batch.attributes_BA)
        said.append(output.probability_B.double().cpu().numpy())
    return np.concatenate(said) if said else np.zeros(0)


def _optimiser(model: BagClassifier, plan: Training) -> Optimizer:
    weights = [p for p in model.parameters() if p.requires_grad]
    if plan.optimiser == "sgd":
        return SGD(weights, plan.learning_rate, momentum=0.9, weight_decay=plan.weight_decay, fused=True)
    kind = Adam if plan.optimiser == "adam" else AdamW
    return kind(weights, plan.learning_rate, weight_decay=plan.weight_decay, fused=True)


def _class_weights(labels: np.ndarray, wanted: str) -> tuple[float, float]:
    if wanted == "none":
        return 1.0, 1.0
    tumoral = float((labels > 0.5).mean())
    return 0.5 / (1 - tumoral), 0.5 / tumoral
