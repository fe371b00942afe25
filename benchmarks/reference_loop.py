"""How much faster lymphtune trains and predicts than the study's own procedure, on the same patients and networks.

The reference is written from the study's description: every picture decoded from its file in each epoch and sent
through the network by itself, in float32; the bag's probability is the mean of its cells'; one patient a step.

    python benchmarks/reference_loop.py [--quick] [--data FOLDER]

The machine must be idle: where other work takes a core, threads wait for each other and the reference suffers most.

Shapes: M cells of one patient, S side of the crop, D features, A attributes.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from lymphtune.cohort.cohort import PICTURE_PX, REFERENCE_DATE, Cohort
from lymphtune.cohort.simulation.patients import write_simulated
from lymphtune.cohort.study import read_study, survey_study
from lymphtune.config import Configuration, configuration
from lymphtune.models.bag_classifier import ATTRIBUTES
from lymphtune.models.memory import keep_freed_memory
from lymphtune.training.batches import Bags
from lymphtune.training.network import NetworkMember

FILTERS = 32
HIDDEN = (1000, 500, 100)
DROPOUT = 0.5
LEARNING_RATE = 5e-4
PATIENTS, CELLS = 12, 60  # of the simulated cohort; the study's median is 66 cells a patient
PATIENTS_PER_STEP = (1, 4)  # the study's, lymphtune's
NEEDS = {  # times the reference, by what is measured and the side of the crop
    ("mixed, training", 224): 6,
    ("mixed, training", 112): 20,
    ("pictures only, training", 224): 2,
    ("pictures only, training", 112): 7,
    ("mixed, evaluation", 224): 3,
    ("mixed, evaluation", 112): 8,
    ("pictures only, evaluation", 224): 3,
    ("pictures only, evaluation", 112): 8,
}
STUDY_RATES: dict[str, float] = {}  # the reference's pictures a second at 224 px, once measured


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class Block(nn.Module):
    """Two 3x3 convolutions beside a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(convolution(inputs, outputs, 3, stride), nn.ReLU(), convolution(outputs, outputs, 3))
        self.shortcut = convolution(inputs, outputs, 1, stride)

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(self.path(maps) + self.shortcut(maps))


class ReferenceNetwork(nn.Module):
    """The study's residual network, flattened, with a linear head, or the mixed model's head on the attributes too."""

    def __init__(self, crop_px: int, mixed: bool) -> None:
        super().__init__()
        widths = [FILTERS * 2**stage for stage in range(4)]
        blocks = [Block(i, o, s) for i, o, s in zip([FILTERS, *widths], widths, (1, 2, 2, 2), strict=False)]
        self.encoder = nn.Sequential(
            convolution(3, FILTERS, 7, 2), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1), *blocks, nn.Flatten()
        )
        features = widths[-1] * (-(-crop_px // 32)) ** 2 + mixed * len(ATTRIBUTES)
        head: list[nn.Module] = []
        for hidden in HIDDEN if mixed else ():
            head += [nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(DROPOUT)]
            features = hidden
        self.head = nn.Sequential(*head, nn.Linear(features, 1))
        self.mixed = mixed

    def forward(self, picture_13SS: Tensor, attributes_1A: Tensor) -> Tensor:
        """Return the probability [] of one cell."""
        features_1D = self.encoder(picture_13SS)
        if self.mixed:
            features_1D = torch.cat([features_1D, attributes_1A], dim=1)
        return self.head(features_1D).sigmoid().squeeze()


@dataclass
class Patient:
    """What the reference knows of a patient: picture files, standardised attributes, label."""

    paths: Sequence[Path]
    attributes_1A: Tensor
    label: float


@dataclass
class Reference:
    """The study's procedure, one patient a step and one picture at a time."""

    network: ReferenceNetwork
    patients: Sequence[Patient]
    crop_px: int
    class_weights: tuple[float, float]
    optimiser: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        self.optimiser = torch.optim.Adam(self.network.parameters(), LEARNING_RATE)

    def train(self) -> None:
        self.network.train()
        for patient in self.patients:
            loss = F.binary_cross_entropy(
                self._probability(patient),
                torch.tensor(patient.label),
                torch.tensor(self.class_weights[int(patient.label)]),
            )
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()

    @torch.no_grad()
    def evaluate(self) -> None:
        self.network.eval()
        for patient in self.patients:
            self._probability(patient).item()

    def _probability(self, patient: Patient) -> Tensor:
        return torch.stack(
            [self.network(_decoded(path, self.crop_px), patient.attributes_1A) for path in patient.paths]
        ).mean()


def _decoded(path: Path, crop_px: int) -> Tensor:
    """Return [1, 3, S, S] in [-1, 1], the centre of the picture."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    low = (PICTURE_PX - crop_px) // 2
    crop = torch.from_numpy(pixels[low : low + crop_px, low : low + crop_px].copy())
    return crop.permute(2, 0, 1)[None].float().sub_(127.5).div_(127.5)


def wanted(crop_px: int, mixed: bool, patients_per_step: int) -> Configuration:
    """Return lymphtune's configuration of the same network on all cells of a patient."""
    head = {"mlp": {"hidden": list(HIDDEN), "dropout": DROPOUT}} if mixed else "linear"
    return configuration(
        {
            "model": {
                "encoder": {"resnet": {"filters": FILTERS, "pooling": "flatten"}},
                "fusion": "concat" if mixed else "none",
                "head": head,
            },
            "data": {"crop_px": crop_px, "bag_size": None},
            "training": {
                "optimiser": "adam",
                "learning_rate": LEARNING_RATE,
                "weight_decay": 0.0,
                "schedule": "constant",
                "patients_per_step": patients_per_step,
            },
        },
        "benchmark",
    )


def chosen(cohort: Cohort, n_patients: int) -> np.ndarray:
    """Return labelled rows, half of each class, with bags as close to the median size as there are."""
    n_cells = cohort.patients["n_cells"].to_numpy()
    distance = np.abs(n_cells - np.median(n_cells))
    rows = [np.flatnonzero(cohort.labels == label) for label in (0, 1)]
    return np.sort(np.concatenate([some[distance[some].argsort()][: n_patients // 2] for some in rows]))


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def steady(work: Callable[[], object]) -> float:
    """Return the seconds of lymphtune's work as in the middle of a trial, which keeps freed memory."""
    with keep_freed_memory():
        work()
        return seconds(work)


def train_steps(member: NetworkMember) -> None:
    """Train on every patient once; the batch-norm statistics of an epoch's end cost as much for any cohort."""
    member.live.train()
    for batch in member.bags.training(member.rows, member.plan.patients_per_step, np.random.default_rng(0)):
        member.step(batch)


def compare(cohort: Cohort, folder: Path, rows: np.ndarray, crop_px: int, mixed: bool, rounds: int) -> None:
    """Print a line for training and one for evaluation; each round times the reference and lymphtune in turn."""
    bags = Bags(cohort, wanted(crop_px, mixed, 1).data, torch.device("cpu"))
    members = [
        NetworkMember(wanted(crop_px, mixed, n), bags, rows, epochs=rounds + 1, seed=[0]) for n in PATIENTS_PER_STEP
    ]
    reference = reference_on(cohort, folder, rows, crop_px, mixed, members[0].class_weights)
    sizes = {sum(p.numel() for p in network.parameters()) for network in (reference.network, members[0].live)}
    if len(sizes) != 1:
        raise SystemExit(f"the two networks differ: {sizes} parameters")
    warm = Reference(reference.network, reference.patients[:1], crop_px, reference.class_weights)
    warm.train()
    training, evaluation = [], []
    for _ in range(rounds):
        training.append([seconds(reference.train), *(steady(partial(train_steps, member)) for member in members)])
        evaluation.append([seconds(reference.evaluate), steady(partial(members[0].predict, rows))])
    n_pictures = int((bags.starts[rows + 1] - bags.starts[rows]).sum())
    kind = "mixed" if mixed else "pictures only"
    _line(f"{kind}, training", crop_px, n_pictures, training)
    _line(f"{kind}, evaluation", crop_px, n_pictures, evaluation)


def reference_on(
    cohort: Cohort, folder: Path, rows: np.ndarray, crop_px: int, mixed: bool, weights: tuple[float, float]
) -> Reference:
    known = cohort.attributes_PA
    standard = torch.from_numpy((known - known[rows].mean(axis=0)) / known[rows].std(axis=0)).float()
    surveyed = survey_study(folder, REFERENCE_DATE)
    files = surveyed.sources(range(len(surveyed)))
    patients = [Patient(files[row].paths, standard[row][None], float(cohort.labels[row])) for row in rows]
    torch.manual_seed(0)
    return Reference(ReferenceNetwork(crop_px, mixed), patients, crop_px, weights)


def _line(what: str, crop_px: int, n_pictures: int, rounds: Sequence[Sequence[float]]) -> None:
    """Print pictures a second and times the reference: medians of the rounds, each ratio within its round."""
    rates = [statistics.median(n_pictures / took for took in column) for column in zip(*rounds, strict=True)]
    ratios = [statistics.median(row[0] / row[n] for row in rounds) for n in range(1, len(rates))]
    whole = STUDY_RATES.setdefault(what, rates[0])
    cells = "".join(
        f"{rate:>14.0f}{ratio:>7.1f}{rate / whole:>7.1f}" for rate, ratio in zip(rates[1:], ratios, strict=True)
    )
    needs = NEEDS[what, crop_px]
    print(f"{what:<26}{crop_px:>4}{rates[0]:>11.1f}{cells:<56}{needs:>6}", flush=True)


def measure(folder: Path, quick: bool) -> None:
    cohort = read_study(folder, REFERENCE_DATE)
    rows = chosen(cohort, 2 if quick else 4)
    n_cells = cohort.patients["n_cells"].to_numpy()[rows]
    print(f"{len(rows)} patients of {n_cells.min()} to {n_cells.max()} cells, {torch.get_num_threads()} threads")
    print("pictures a second; times the reference at the same crop, and at 224 px as the study ran it")
    print("in brackets: patients a step (evaluation has no steps); needs: the times asked for")
    lymphtune = "".join(f"{f'lymphtune[{n}]':>14}{'times':>7}{'of 224':>7}" for n in PATIENTS_PER_STEP)
    print(f"{'':<26}{'px':>4}{'reference':>11}{lymphtune}{'needs':>6}")
    for crop_px in (224, 112):
        for mixed in (True, False):
            compare(cohort, folder, rows, crop_px, mixed, rounds=1 if quick else 2 + (crop_px < PICTURE_PX))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder in the study's layout; simulated unless given")
    parser.add_argument("--quick", action="store_true", help="2 patients and one round: about a quarter of the time")
    given = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["LYMPHTUNE_CACHE"] = scratch
        folder = given.data or Path(scratch) / "cohort"
        if given.data is None:
            write_simulated(folder, PATIENTS, CELLS)
        measure(folder, given.quick)


if __name__ == "__main__":
    main()
