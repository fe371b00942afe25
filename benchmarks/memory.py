"""How much memory a training step takes on a patient of thousands of cells: one bag, all cells at 224 px, on a CPU.

    python benchmarks/memory.py [--quick | --large]

Every case is a step in a process of its own: peak resident memory (ru_maxrss) before the step's pictures are read and
after it. The pictures are noise, mapped from a file as the cohort's cache is; the pages that a step has read count as
resident although they are the system's to take back, and are there once for all trials of a machine.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from lymphtune.cohort.cohort import COLUMNS, PICTURE_PX, Cohort
from lymphtune.config import Configuration, configuration
from lymphtune.models.bag_classifier import Chunk
from lymphtune.models.memory import keep_freed_memory
from lymphtune.training.batches import Bags
from lymphtune.training.network import NetworkMember
from lymphtune.training.precision import default_precision

FILTERS = 64
CELLS = 2000
BAG_SIZES = (100, 250, 500, 1000, CELLS)
LARGE = 4000
OTHER_CELLS = 10  # of the second patient, who is of the other class and takes no step
SEVERAL = 250  # cells that go through in several chunks
MOST = 3e9  # bytes, of a step on CELLS cells
PICTURE_BYTES = 3 * PICTURE_PX**2
MB = 1e6


@dataclass(frozen=True)
class Case:
    """One step: on how many cells, and with what."""

    cells: int = CELLS
    pooling: str = "average"
    precision: str = "auto"
    chunk_pixels: int | None = None

    @property
    def configuration(self) -> Configuration:
        encoder = {"resnet": {"filters": FILTERS, "pooling": self.pooling}}
        return configuration(
            {
                "model": {"encoder": encoder, "aggregator": "prediction_mean"},
                "data": {"crop_px": PICTURE_PX, "bag_size": None},
                "training": {"patients_per_step": 1, "precision": self.precision},
            },
            "benchmark",
        )


class Taken(NamedTuple):
    """Bytes resident before the step and at its peak; `mapped`: more of the pictures' file than before it."""

    before: int
    peak: int
    mapped: int
    seconds: float


def write_noise(path: Path, n_cells: int) -> None:
    """Write so many pictures of noise, a few at a time: a child's ru_maxrss is never below its parent's."""
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for _ in range(n_cells):
            file.write(rng.integers(0, 256, PICTURE_BYTES, dtype=np.uint8).tobytes())


def mapped_cohort(path: Path, n_cells: int) -> Cohort:
    """Return two patients, the first with so many cells, whose pictures are mapped from the file."""
    total = n_cells + OTHER_CELLS
    rows = [("large", 1, "F", 70.0, 40.0, n_cells), ("small", 0, "M", 50.0, 6.0, OTHER_CELLS)]
    pictures_CSS3 = np.memmap(path, np.uint8, "r", shape=(total, PICTURE_PX, PICTURE_PX, 3))
    return Cohort("noise", pd.DataFrame(rows, columns=list(COLUMNS)), pictures_CSS3, [""] * total)


def step(path: Path, case: Case) -> Taken:
    """Take one step on the large patient, as a trial does, and return its memory; for a process of its own."""
    cohort = mapped_cohort(path, case.cells)
    bags = Bags(cohort, case.configuration.data, torch.device("cpu"))
    chunk = Chunk(case.chunk_pixels)
    member = NetworkMember(case.configuration, bags, np.arange(2), epochs=1, seed=[0], chunk=chunk)
    member.live.train()
    before, file_before, started = _peak(), _file_pages(), time.perf_counter()
    with keep_freed_memory():
        for batch in bags.training(np.array([0]), 1, np.random.default_rng(0)):
            assert batch.counts == [case.cells]
            loss = member.step(batch)
    assert torch.isfinite(loss)
    return Taken(before, _peak(), _file_pages() - file_before, time.perf_counter() - started)


def _peak() -> int:
    """Return the most bytes that were ever resident in this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _file_pages() -> int:
    """Return the resident bytes that are pages of files, where the system tells them."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssFile")), 0)


def taken(path: Path, case: Case) -> Taken:
    """Return what the step takes in a fresh process."""
    command = [sys.executable, __file__, "--step", json.dumps(asdict(case)), "--pictures", str(path)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Taken(*json.loads(said.splitlines()[-1]))


def _line(case: Case, took: Taken) -> None:
    pictures = case.cells * PICTURE_BYTES
    print(
        f"{case.cells:>6}  {case.pooling:<9}{case.precision:<10}{took.before / MB:>8.0f}{took.peak / MB:>8.0f}"
        f"{(took.peak - took.before) / MB:>8.0f}{pictures / MB:>10.0f}{took.mapped / MB:>8.0f}"
        f"{(took.peak - took.mapped) / MB:>10.0f}{took.seconds:>9.1f}",
        flush=True,
    )


def measure(path: Path, cases: Sequence[Case]) -> dict[Case, Taken]:
    """Print a line a case and return what each took."""
    precision = default_precision(torch.device("cpu"))
    print(f"one training step on one bag at {PICTURE_PX} px, resnet K={FILTERS}, {torch.get_num_threads()} threads, MB")
    print(f"precision auto: {precision.precision} here")
    print("before: peak resident memory until the step; step: what it adds to that; pictures: their own bytes;")
    print("mapped: pages of the pictures' file resident at the end; unmapped: the peak without these")
    print(
        f"{'cells':>6}  {'pooling':<9}{'precision':<10}{'before':>8}{'peak':>8}{'step':>8}{'pictures':>10}{'mapped':>8}"
        f"{'unmapped':>10}{'seconds':>9}"
    )
    found = {}
    for case in cases:
        found[case] = taken(path, case)
        _line(case, found[case])
    return found


def growth(found: dict[Case, Taken]) -> None:
    """Print by how much the peak rises with the bag, from the smallest that is several chunks to the largest."""
    several = [case for case in found if case == Case(case.cells) and case.cells >= SEVERAL]
    if len(several) < 2:
        return
    low, high = several[0], several[-1]
    per_1000 = 1000 * (found[high].peak - found[low].peak) / (high.cells - low.cells)
    print(
        f"from {low.cells} to {high.cells} cells the peak grows by {per_1000 / MB:.0f} MB per 1,000 cells, whose "
        f"pictures are {1000 * PICTURE_BYTES / MB:.0f} MB (mapped, and once more in the batch)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"the case of {CELLS} cells alone")
    parser.add_argument("--large", action="store_true", help=f"{LARGE} cells too: about twice the time")
    parser.add_argument("--step", help=argparse.SUPPRESS)  # what a process of its own is asked for: a case as JSON
    parser.add_argument("--pictures", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    if given.step:
        print(json.dumps(step(given.pictures, Case(**json.loads(given.step)))))
        return
    needed = Case()
    cases = [needed]
    if not given.quick:
        sizes = [*BAG_SIZES, LARGE] if given.large else BAG_SIZES
        cases = [*map(Case, sizes), Case(CELLS if given.large else CELLS // 2, pooling="flatten")]
        if default_precision(torch.device("cpu")).precision != "float32":
            cases.append(replace(needed, precision="float32"))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "pictures"
        write_noise(path, max(case.cells for case in cases) + OTHER_CELLS)
        found = measure(path, cases)
    growth(found)
    peak = found[needed].peak
    verdict = "met" if peak < MOST else "NOT MET"
    print(f"peak with {CELLS} cells: {peak / MB:.0f} MB (needs under {MOST / MB:.0f} MB: {verdict})")


if __name__ == "__main__":
    main()
