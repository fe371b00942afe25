"""How much memory and cache disk `lymphtune predict` takes as the cohort grows: a block's worth, whatever its size.

    python benchmarks/predict_memory.py [--patients 10 100 1000]

Simulated cohorts of bags of about 12 cells, predicted with --cells by an ensemble of two very small networks; every
prediction is a process of its own, and its peak resident memory (ru_maxrss) is compared with that of a process that
only imports. This process imports nothing of ours: a child's ru_maxrss is never below its parent's.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CELLS = 12
MB = 1e6
MOST_GROWTH = 1.1  # of the peak, from cohorts of more than one block on
BLOCK = 32  # patients, with such bags


def predict(ensemble: Path, data: Path, out: Path) -> None:
    """Predict, and print the bytes resident before and at the peak; for a process of its own."""
    import lymphtune.training.loading  # noqa: F401
    from lymphtune.ensembling.apply import predict_to

    before = _peak()
    predict_to(ensemble, str(data), out, cells=True)
    print(before, _peak())


def _peak() -> int:
    """Return the most bytes that were ever resident in this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def lymphtune(*words: object) -> str:
    """Run a command and return what it printed."""
    command = [sys.executable, "-m", "lymphtune", *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def small_ensemble(scratch: Path) -> Path:
    """Return the folder of an ensemble of two trials, three fold models each."""
    lymphtune("simulate", scratch / "known", "--patients", 40, "--cells", CELLS, "--seed", 1)
    runs = ("--runs", scratch / "runs")
    lymphtune("search", "--space", "tiny", "--data", scratch / "known", "--trials", 2, "--epochs", 2, *runs)
    return Path(lymphtune("ensemble", "--top", 2, *runs).splitlines()[-1]).parent


def new_patients(folder: Path, patients: int) -> None:
    """Write a cohort with other ids than those the ensemble was trained on."""
    lymphtune("simulate", folder, "--patients", patients, "--cells", CELLS, "--seed", 2, "--prefix", "NEW")


def measure(scratch: Path, ensemble: Path, patients: int) -> int:
    """Print a line for a cohort of so many patients and return the bytes at the peak."""
    data, cache = scratch / f"new{patients}", scratch / f"cache{patients}"
    new_patients(data, patients)
    started = time.perf_counter()
    given = [sys.executable, __file__, "--predict", ensemble, data, scratch / f"out{patients}"]
    environment = os.environ | {"LYMPHTUNE_CACHE": str(cache)}
    said = subprocess.run(
        list(map(str, given)), env=environment, check=True, stdout=subprocess.PIPE, text=True, cwd=scratch
    )
    took_s = time.perf_counter() - started
    before, peak = map(int, said.stdout.split())
    kept = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    print(f"{patients:>8}{before / MB:>10.0f}{peak / MB:>8.0f}{kept / MB:>8.0f}{took_s:>9.1f}", flush=True)
    return peak


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--patients", type=int, nargs="+", default=[10, 100, 1000], metavar="N")
    parser.add_argument("--predict", type=Path, nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.predict:
        predict(*given.predict)
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LYMPHTUNE_CACHE"] = str(Path(folder) / "cache")
        ensemble = small_ensemble(Path(folder))
        print(f"predicting bags of about {CELLS} cells, MB")
        print(f"{'patients':>8}{'imported':>10}{'peak':>8}{'cache':>8}{'seconds':>9}")
        peaks = {patients: measure(Path(folder), ensemble, patients) for patients in given.patients}
    several = [peak for patients, peak in peaks.items() if patients > BLOCK]
    if len(several) > 1:
        verdict = "met" if max(several) < MOST_GROWTH * min(several) else "NOT MET"
        print(f"from {BLOCK} patients on the peak grows {max(several) / min(several):.2f}-fold ({verdict})")


if __name__ == "__main__":
    main()
