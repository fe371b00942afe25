"""A trial's epoch on a GPU: bfloat16 and float32, pictures in its memory or on the host.

    python benchmarks/gpu.py [--quick]

Where there is no GPU it says so and is done. Ratios are of epochs taken in turn, medians over rounds; an epoch is that
of all fold models, batches and batch-norm statistics included. Pictures are noise, which takes as long as cells do. The
GPU and all processors must be idle.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lymphtune.cohort.cohort import COLUMNS, PICTURE_PX, REFERENCE_DATE, Cohort
from lymphtune.cohort.folds import make_folds
from lymphtune.cohort.simulation.patients import draw_patients
from lymphtune.config import Configuration, configuration
from lymphtune.training.batches import Bags
from lymphtune.training.frozen import placeholder_features
from lymphtune.training.network import NetworkMember
from lymphtune.training.precision import default_precision, fastest_precision

COHORT, BAG = 60, 30  # patients, cells of each
FOLDS, CELLS, PATIENTS = 5, 24, 4  # cells drawn of a patient, patients a step
ROUNDS, EPOCHS = 3, 99
CPU_PATIENTS = 12  # of one fold model, which is enough there
PRECISIONS = ("float32", "bfloat16")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Row:
    """An encoder at a crop."""

    encoder: str
    crop_px: int
    options: tuple[tuple[str, Any], ...] = ()
    frozen: bool = False

    @property
    def configuration(self) -> Configuration:
        options = dict(self.options) | ({"pretrained": True, "frozen": True} if self.frozen else {})
        return configuration(
            {
                "model": {
                    "encoder": {self.encoder: options},
                    "aggregator": "prediction_mean",
                    "fusion": "concat",
                    "head": {"mlp": {"hidden": [128, 32]}},
                },
                "data": {"crop_px": self.crop_px, "bag_size": CELLS},
                "training": {"schedule": "constant", "patients_per_step": PATIENTS},
            },
            "benchmark",
        )


def resnet(filters: int, crop_px: int) -> Row:
    return Row("resnet", crop_px, (("filters", filters), ("pooling", "average")))


QUICK = [resnet(32, 112)]
ROWS = [
    resnet(16, 112),
    *QUICK,
    resnet(32, 224),
    resnet(64, 224),
    Row("resnet", 112, (("filters", 32), ("norm", "group"), ("pooling", "average"))),
    Row("timm:resnet18", 112),
    Row("timm:tf_efficientnet_lite0", 112, frozen=True),
]


class Trial:
    """A configuration's fold models on a device, in one precision, trained an epoch at a time."""

    def __init__(self, row: Row, cohort: Cohort, device: torch.device, precision: str, folds: int = FOLDS) -> None:
        chosen = row.configuration
        self.device, self.epoch = device, 0
        self.bags = Bags(cohort, chosen.data, device, placeholder_features(chosen, cohort))
        folds_P = make_folds(cohort.labels, FOLDS, 1, 0)[0]
        rows = [np.flatnonzero((folds_P >= 0) & (folds_P != fold)) for fold in range(folds)]
        if device.type == "cpu":
            rows = [some[:CPU_PATIENTS] for some in rows]
        layout = default_precision(device)._replace(precision=precision)
        self.members = [NetworkMember(chosen, self.bags, of, EPOCHS, [0, 0, k], layout) for k, of in enumerate(rows)]
        self.pictures = sum(map(len, rows)) * CELLS

    def train_epoch(self) -> None:
        self.epoch += 1
        for member in self.members:
            member.train_epoch(self.epoch)


def noise_cohort() -> Cohort:
    """Return patients who all have as many cells, so that any two batches are of a size."""
    patients = draw_patients(COHORT, BAG, seed=0).assign(n_cells=BAG)[list(COLUMNS)]
    size = (COHORT * BAG, PICTURE_PX, PICTURE_PX, 3)
    pictures_CSS3 = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    return Cohort("noise", patients, pictures_CSS3, [""] * len(pictures_CSS3), REFERENCE_DATE, simulated=True)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the time of the work, what it left the device to do included."""
    wait(device)
    started = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - started


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak(work: Callable[[], object]) -> float:
    """Return the most bytes that tensors took on the GPU during the work."""
    torch.cuda.reset_peak_memory_stats()
    work()
    return float(torch.cuda.max_memory_allocated())


def in_turn(ways: dict[Any, Callable[[], object]], device: torch.device) -> dict[Any, float]:
    """Return the median seconds of each way, ROUNDS each in turn, after one that warms up."""
    took: dict[Any, list[float]] = {way: [] for way in ways}
    for number in range(1 + ROUNDS):
        for way, work in ways.items():
            found = seconds(work, device)
            took[way] += [found] if number else []
    return {way: statistics.median(found) for way, found in took.items()}


def line(row: Row, cohort: Cohort, device: torch.device) -> str:
    """Return what the row's epochs cost, as the table shows it."""
    trials = {precision: Trial(row, cohort, device, precision) for precision in PRECISIONS}
    ways = {precision: trial.train_epoch for precision, trial in trials.items()}
    took = in_turn(ways, device)
    best = min(took, key=lambda way: took[way])
    trial, rate = trials[best], trials[best].pictures / took[best]
    host = float("nan")
    if (resident := trial.bags.resident_CSS3) is not None:

        def from_host() -> None:
            trial.bags.resident_CSS3 = None
            ways[best]()
            trial.bags.resident_CSS3 = resident

        pair = in_turn({"there": ways[best], "host": from_host}, device)
        host = pair["host"] / pair["there"]
    memory = peak(ways[best]) / 1e6 if device.type == "cuda" else 0
    on_cpu = Trial(row, cohort, CPU, default_precision(CPU).precision, folds=1)
    on_cpu.train_epoch()
    cpu_rate = on_cpu.pictures / min(seconds(on_cpu.train_epoch, CPU) for _ in range(2))
    return (
        f"{row.configuration.title.split()[0]:<24}{row.crop_px:>4}{rate:>11.0f}{rate / cpu_rate:>9.1f}"
        f"{took['float32'] / took['bfloat16']:>10.2f}{host:>12.2f}{memory:>8.0f}  {best}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one encoder alone")
    parser.add_argument("--device", default="cuda", help=argparse.SUPPRESS)  # cpu: to try the benchmark itself
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no GPU here: nothing to compare")
        return
    threads = os.cpu_count() or 1
    torch.set_num_threads(threads)
    cohort = noise_cohort()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}; fastest precision: {tuple(fastest_precision(device, threads))}")
    print(
        f"epochs of {FOLDS} fold models, {PATIENTS} patients of {CELLS} cells a step; pictures/s: the faster one;\n"
        f"CPU: times as fast as one fold model on {threads} threads; f32/bf16, host/there: ratios of times;\n"
        "MB: the most that tensors take"
    )
    print(f"{'encoder':<24}{'px':>4}{'pictures/s':>11}{'CPU':>9}{'f32/bf16':>10}{'host/there':>12}{'MB':>8}  fastest")
    for row in QUICK if given.quick else ROWS:
        print(line(row, cohort, device), flush=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
