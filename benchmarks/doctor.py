"""How long `lymphtune doctor` takes beside decoding the cohort once, on 163 patients with 13,000 JPEG pictures.

    python benchmarks/doctor.py [--patients 163] [--pictures 13000] [--repetitions 3]

Cells are drawn, then mixed by twos, turned and shifted, until there are enough: no two are the same picture. Either is
a process of its own, and they take turns; decoding starts without a cache each time, as a first search does.
"""

import argparse
import csv
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

DRAWN_PATIENTS, DRAWN_CELLS = 30, 10
DECODE = "from lymphtune.cohort import load_cohort; load_cohort({data!r})"
DOCTOR = "from lymphtune.cli import main; main(['doctor', '--data', {data!r}])"
IMPORT = "import lymphtune.doctor, lymphtune.shortcuts.audit, sklearn.model_selection"


def make(folder: Path, n_patients: int, n_pictures: int) -> None:
    """Write a cohort of so many patients, a fifth of them to predict, from a few drawn ones."""
    drawn = folder.with_name("drawn")
    given = ["simulate", str(drawn), "--patients", str(DRAWN_PATIENTS), "--cells", str(DRAWN_CELLS)]
    subprocess.run(
        [sys.executable, "-m", "lymphtune", *given], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    cells = [np.asarray(Image.open(path)) for path in sorted(drawn.glob("*set/*/*.jpg"))]
    rng = np.random.default_rng(0)
    sizes = np.bincount(rng.integers(0, n_patients, n_pictures - 3 * n_patients), minlength=n_patients) + 3
    rows = [["ID", "LABEL", "GENDER", "DOB", "LYMPH_COUNT"]]
    for number, size in enumerate(sizes, start=1):
        label = -1 if number % 5 == 0 else number % 2
        home = folder / ("testset" if label == -1 else "trainset") / f"P{number}"
        home.mkdir(parents=True)
        born = f"{rng.integers(1, 13)}/{rng.integers(1, 29)}/{rng.integers(1925, 1995)}"
        rows.append([f"P{number}", str(label), "FM"[number % 2], born, f"{rng.lognormal(2.2, 0.6):.2f}"])
        for at in range(size):
            varied(cells, rng).save(home / f"{at:06d}.jpg", quality=92)
    with (folder / "clinical_annotation.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def varied(cells: Sequence[np.ndarray], rng: np.random.Generator) -> Image.Image:
    """Return two of the pictures over each other, each turned and shifted by up to a fifth of its side, with noise."""
    one, other = (
        np.rot90(np.roll(cells[rng.integers(len(cells))], rng.integers(-45, 46, 2), axis=(0, 1)), rng.integers(4))
        for _ in range(2)
    )
    mixed = 0.6 * one + 0.4 * other + rng.normal(0, 3, one.shape)
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))


class Took(NamedTuple):
    """Seconds by the clock, and of processors: the second is steadier where others are at work."""

    wall: float
    cpu: float


def timed(code: str, data: Path, scratch: Path) -> Took:
    """Return what a process takes which runs the code with an empty cache."""
    with tempfile.TemporaryDirectory(dir=scratch) as cache:
        environment = os.environ | {"LYMPHTUNE_CACHE": cache}
        started, before = time.perf_counter(), _used()
        command = [sys.executable, "-c", code.format(data=str(data))]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return Took(time.perf_counter() - started, _used() - before)


def _used() -> float:
    """Return the processor seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--patients", type=int, default=163, metavar="N")
    parser.add_argument("--pictures", type=int, default=13_000, metavar="N")
    parser.add_argument("--repetitions", type=int, default=3, metavar="N")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        make(scratch / "cohort", given.patients, given.pictures)
        ratios = []
        held = f"{given.patients} patients, {given.pictures} pictures, {os.cpu_count()} processors"
        print(f"{held}; seconds, imports left out")
        for _ in range(given.repetitions):
            imported = timed(IMPORT, scratch, scratch)
            doctor, decoded = (timed(code, scratch / "cohort", scratch) for code in (DOCTOR, DECODE))
            wall, cpu = ((a - c) / (b - c) for a, b, c in zip(doctor, decoded, imported, strict=True))
            ratios.append(wall)
            for name, took in (("doctor", doctor), ("decoding once", decoded)):
                print(f"{name:14} {took.wall - imported.wall:6.1f} s, {took.cpu - imported.cpu:6.1f} s of processors")
            print(f"{'ratio':14} {wall:6.2f}    {cpu:6.2f}", flush=True)
    ratio = statistics.median(ratios)
    print(f"the doctor takes {ratio:.2f} of the time of decoding once ({'met' if ratio < 1 else 'NOT MET'})")


if __name__ == "__main__":
    main()
