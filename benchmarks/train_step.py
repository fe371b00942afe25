"""How fast each encoder trains as lymphtune comes, and how much of a step is linear algebra, which nothing can spare.

    python benchmarks/train_step.py [--quick]

Rates are worth little beyond this machine and this minute; the ratios within each round are what is measured. The
machine must be idle.
"""

import argparse
import os
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reference_loop import Reference, chosen, reference_on, seconds, steady, train_steps
from torch.profiler import ProfilerActivity, profile, record_function

from lymphtune.cohort.cohort import REFERENCE_DATE, Cohort
from lymphtune.cohort.simulation.patients import MIN_PATIENTS, write_simulated
from lymphtune.cohort.study import read_study
from lymphtune.config import Configuration, configuration
from lymphtune.models.memory import keep_freed_memory
from lymphtune.training.batches import Bags
from lymphtune.training.network import NetworkMember
from lymphtune.training.precision import Precision, default_precision

PATIENTS, CELLS = 4, 24  # a step
HIDDEN = (128, 32)
PLAIN = Precision("float32", channels_last=False)
ROUNDS, LEAST_ROUNDS = 3, 2
SECONDS = 25.0  # of a row's rounds; no further round is begun after these
PROFILED = 2  # steps, or one where a step is slow
SLOW = 2.0  # seconds a step
NEEDED = 0.75  # of a step, in linear algebra
CPU = torch.device("cpu")

# What the profiler calls convolutions and matrix products; whatever runs inside them (reorders, casts) is theirs.
LINEAR_ALGEBRA = {
    "aten::mkldnn_convolution",
    "aten::mkldnn_convolution_backward",
    "mkldnn::_convolution_pointwise",
    "aten::convolution_overrideable",
    "aten::convolution_backward",
    "aten::convolution_backward_overrideable",
    "aten::_slow_conv2d_forward",
    "aten::_slow_conv2d_backward",
    "aten::thnn_conv2d",
    "aten::_conv_depthwise2d",
    "aten::addmm",
    "aten::addmm_",
    "aten::mm",
    "aten::bmm",
    "aten::baddbmm",
    "aten::mv",
    "aten::addmv",
    "aten::addmv_",
    "aten::dot",
    "aten::matmul",
    "aten::linear",
    "aten::linear_backward",
    "aten::mkldnn_linear",
    "aten::mkldnn_linear_backward",
    "aten::mkldnn_linear_backward_input",
    "aten::mkldnn_linear_backward_weights",
    "mkldnn::_linear_pointwise",
    "onednn::linear_pointwise",
}
# The rest, by a part of the operation's name or of what called it; the first that fits, from the inside outwards.
REST = {
    "batch norm": ("batch_norm", "BatchNorm"),
    "activation": ("relu", "threshold_backward", "clamp_min", "sigmoid", "dropout", "Relu", "Sigmoid"),
    "pooling": ("max_pool", "MaxPool", "aten::mean", "MeanBackward", "adaptive_avg_pool"),
    "optimiser": ("Optimizer", "_fused_adam", "_foreach_lerp"),
    "copies": ("aten::copy_", "aten::clone", "aten::cat", "aten::fill_", "aten::zero_", "aten::index"),
    "sums": ("aten::add", "aten::mul", "aten::sum", "AddBackward"),
}
KINDS = ("linear algebra", *REST, "other")


@dataclass(frozen=True)
class Row:
    """An encoder at a crop; `filters` where it has them."""

    encoder: str
    filters: int | None
    crop_px: int

    @property
    def configuration(self) -> Configuration:
        options: dict[str, Any] = {} if self.encoder.startswith("timm") else {"pooling": "average"}
        if self.filters is not None:
            options["filters"] = self.filters
        return configuration(
            {
                "model": {
                    "encoder": {self.encoder: options},
                    "aggregator": "prediction_mean",
                    "fusion": "concat",
                    "head": {"mlp": {"hidden": list(HIDDEN)}},
                },
                "data": {"crop_px": self.crop_px, "bag_size": CELLS},
                "training": {"schedule": "constant", "patients_per_step": PATIENTS},
            },
            "benchmark",
        )

    @property
    def has_reference(self) -> bool:
        return (self.encoder, self.filters) == ("resnet", 32)


DEFAULT = Row("resnet", 32, 112)


def all_rows() -> list[Row]:
    sizes = [("vanilla", None), *((e, k) for e in ("plain", "resnet") for k in (32, 64)), ("timm:resnet18", None)]
    return [Row(encoder, filters, crop_px) for encoder, filters in sizes for crop_px in (112, 224)]


def member(row: Row, cohort: Cohort, rows: np.ndarray, precision: Precision | None) -> NetworkMember:
    """Return a network whose epoch is one step."""
    bags = Bags(cohort, row.configuration.data, CPU)
    return NetworkMember(row.configuration, bags, rows, epochs=1, seed=[0], precision=precision)


def against_plain(ours: NetworkMember, plain: NetworkMember) -> list[tuple[float, float]]:
    """Return the seconds of a step of each, a round each, in turn; both keep freed memory, as in a trial."""
    took: list[tuple[float, float]] = []
    with keep_freed_memory():
        train_steps(ours)
        train_steps(plain)
        while len(took) < ROUNDS and (len(took) < LEAST_ROUNDS or sum(map(sum, took)) < SECONDS):
            took.append((seconds(partial(train_steps, ours)), seconds(partial(train_steps, plain))))
    return took


def against_reference(ours: NetworkMember, reference: Reference) -> list[tuple[float, float]]:
    """Return the seconds a picture of each, a round each, in turn."""
    n_pictures = sum(len(patient.paths) for patient in reference.patients)
    warm = Reference(reference.network, reference.patients[:1], reference.crop_px, reference.class_weights)
    warm.train()
    return [
        (steady(partial(train_steps, ours)) / (PATIENTS * CELLS), seconds(reference.train) / n_pictures)
        for _ in range(LEAST_ROUNDS)
    ]


def reference(cohort: Cohort, folder: Path, rows: np.ndarray, crop_px: int, ours: NetworkMember) -> Reference:
    """Return the study's procedure on the mixed model and one patient of each class, no more cells than ours."""
    pair = np.array([rows[cohort.labels[rows] == label][0] for label in (0, 1)])
    built = reference_on(cohort, folder, pair, crop_px, True, ours.class_weights)
    for patient in built.patients:
        patient.paths = patient.paths[:CELLS]
    return built


def time_by_kind(ours: NetworkMember, steps: int) -> dict[str, float]:
    """Return the share of KINDS in the profiled steps; Python's own time between operations is "other"."""
    with keep_freed_memory():
        train_steps(ours)
        with profile(activities=[ProfilerActivity.CPU]) as recorded, record_function("steps"):
            for _ in range(steps):
                train_steps(ours)
    took: Counter[str] = Counter()
    for event in recorded.events():
        took[_kind([caller.name for caller in _callers(event)])] += event.self_cpu_time_total
    return {kind: took[kind] / took.total() for kind in KINDS}


def _callers(event: Any) -> Iterator[Any]:
    """Yield the event, what called it, what called that, ..."""
    while event is not None:
        yield event
        event = event.cpu_parent


def _kind(names: Sequence[str]) -> str:
    """Return one of KINDS for an operation's name and those of its callers, innermost first."""
    if LINEAR_ALGEBRA.intersection(names):
        return "linear algebra"
    fitting = (kind for name in names for kind, parts in REST.items() if any(part in name for part in parts))
    return next(fitting, "other")


def rate(took: Sequence[float], pictures: int = PATIENTS * CELLS) -> float:
    return pictures / statistics.median(took)


def times(pairs: Sequence[tuple[float, float]]) -> float:
    """Return how many times as long the second of each pair took: the median over rounds."""
    return statistics.median(other / ours for ours, other in pairs)


def compare(row: Row, cohort: Cohort, folder: Path, rows: np.ndarray) -> dict[str, float]:
    """Print the row's line and return where its steps' time goes."""
    ours, plain = (member(row, cohort, rows, precision) for precision in (None, PLAIN))
    pairs = against_plain(ours, plain)
    beside = f"{'':>12}{'':>8}"
    if row.has_reference:
        referred = against_reference(ours, reference(cohort, folder, rows, row.crop_px, ours))
        beside = f"{rate([other for _, other in referred], 1):>12.1f}{times(referred):>8.1f}"
    share = time_by_kind(ours, 1 if pairs[-1][0] > SLOW else PROFILED)
    verdict = "met" if share["linear algebra"] >= NEEDED else "NOT MET"
    print(
        f"{row.encoder:<14}{row.filters or '':>4}{row.crop_px:>5}{rate([took for took, _ in pairs]):>11.1f}"
        f"{rate([took for _, took in pairs]):>12.1f}{times(pairs):>8.2f}{beside}{share['linear algebra']:>17.0%}"
        f"  {verdict}",
        flush=True,
    )
    return share


def measure(folder: Path, wanted: Sequence[Row]) -> None:
    cohort = read_study(folder, REFERENCE_DATE)
    rows = chosen(cohort, PATIENTS)
    if cohort.patients["n_cells"].to_numpy()[rows].min() < CELLS:
        raise SystemExit(f"the simulated patients have fewer than {CELLS} cells")
    precision = default_precision(CPU)
    layout = "last" if precision.channels_last else "first"
    print(
        f"training, {PATIENTS} patients of {CELLS} cells a step, {torch.get_num_threads()} threads; pictures a second"
    )
    print(f"lymphtune: as it comes, here {precision.precision}, channels {layout}; plain: the same network, float32,")
    print("channels first; reference: the study's loop, cell by cell (its own head, flattened features); times: how")
    print("many times as long plain, reference took, medians of each round's ratio; linear algebra: convolutions' and")
    print(f"matrix products' share of a step's time (profiled), at least {NEEDED:.0%} needed")
    print(
        f"{'encoder':<14}{'K':>4}{'px':>5}{'lymphtune':>11}{'plain':>12}{'times':>8}{'reference':>12}{'times':>8}"
        f"{'linear algebra':>17}"
    )
    shares = {row: compare(row, cohort, folder, rows) for row in wanted}
    if DEFAULT in shares:
        parts = ", ".join(f"{kind} {share:.1%}" for kind, share in shares[DEFAULT].items())
        print(f"a step of {DEFAULT.configuration.title}: {parts}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{DEFAULT.configuration.title} alone")
    given = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["LYMPHTUNE_CACHE"] = scratch
        folder = Path(scratch) / "cohort"
        write_simulated(folder, MIN_PATIENTS, 2 * CELLS)
        measure(folder, [DEFAULT] if given.quick else all_rows())


if __name__ == "__main__":
    main()
