"""How much memory a second process costs that reads the same cohort: its pictures should be there only once.

    python benchmarks/shared_memory.py [--data DATA]

Two processes are started as a search starts its trials: each unpickles the cohort, whose pictures are mapped from
the cache. Proportional set sizes count a page shared by n processes as 1/n for each; both processes live all along,
so that what they share otherwise (Python, torch) does not change between the measurements.
"""

import argparse
import multiprocessing
import os
import pickle
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil

from lymphtune.cohort import load_cohort
from lymphtune.cohort.simulation.patients import write_simulated

PATIENTS, CELLS = 20, 60  # about 165 MB of pictures
MB = 1e6
MOST_SHARE = 0.1  # of the pictures' bytes, for the second process


def reader(orders: Connection) -> None:
    """Import what a trial imports, then read the cohort when told to, and hold it until told to end."""
    import lymphtune.training.lockstep  # noqa: F401

    orders.send("imported")
    cohort = pickle.loads(orders.recv())
    orders.send(int(cohort.pictures_CSS3.sum(dtype=np.int64)))
    orders.recv()


def measure(pickled: bytes) -> list[float]:
    """Return the two processes' proportional set size, bytes: before any reading, after one has read, after both."""
    context = multiprocessing.get_context("spawn")
    pairs = [context.Pipe() for _ in range(2)]
    processes = [context.Process(target=reader, args=(theirs,)) for _, theirs in pairs]
    for process in processes:
        process.start()
    for ours, _ in pairs:
        ours.recv()
    sizes, sums = [_size(processes)], set()
    for ours, _ in pairs:
        ours.send(pickled)
        sums.add(ours.recv())
        sizes.append(_size(processes))
    for ours, _ in pairs:
        ours.send("end")
    for process in processes:
        process.join()
    if len(sums) != 1:
        raise SystemExit(f"the two processes read different pictures: sums {sums}")
    return sizes


def _size(processes: Sequence[multiprocessing.process.BaseProcess]) -> float:
    return sum(psutil.Process(process.pid).memory_full_info().pss for process in processes)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help="a cohort as lymphtune takes it; simulated unless given")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if given.data is None:
            os.environ["LYMPHTUNE_CACHE"] = scratch
            write_simulated(Path(scratch) / "cohort", PATIENTS, CELLS)
        cohort = load_cohort(given.data or Path(scratch) / "cohort")
        n_bytes, pickled = cohort.pictures_CSS3.nbytes, pickle.dumps(cohort)
        before, one, both = measure(pickled)
    share = (both - one) / n_bytes
    print(f"cohort: {n_bytes / MB:.0f} MB of pictures, pickled as {len(pickled) / MB:.2f} MB")
    print(f"proportional set size: {before / MB:.0f} MB imported, {one / MB:.0f} one read, {both / MB:.0f} both read")
    print(f"the first reader adds {(one - before) / n_bytes:.1%} of the cohort, the second {share:.1%}", end=" ")
    print(f"(needs under {MOST_SHARE:.0%}: {'met' if share < MOST_SHARE else 'NOT MET'})")


if __name__ == "__main__":
    main()
