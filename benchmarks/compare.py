"""What one choice is worth: the same protocol with each of its words, over several seeds.

    python benchmarks/compare.py fusions --data simulated
    python benchmarks/compare.py norms --data DIR --seeds 5 --epochs 12

Prints out-of-fold balanced log loss and balanced accuracy a seed, and the paired differences to the first row.
`fusions` has the clinical models that a mixture must beat as well as its pictures' expert. The same patients judge
every row and nothing is chosen by them, but these rows are tries of ours all the same: the best of them is flattered.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import torch

from lymphtune.cohort import load_cohort
from lymphtune.cohort.folds import make_folds
from lymphtune.config import configuration
from lymphtune.statistics.metrics import balanced_accuracy
from lymphtune.training.lockstep import Protocol, pooled_log_loss, train

FOLDS = 5


def network(fusion: str = "concat", norm: str = "batch") -> dict[str, Any]:
    """Return a small network from scratch, 112 px."""
    return {
        "model": {
            "encoder": {"resnet": {"filters": 8, "norm": norm}},
            "fusion": fusion,
            "head": {"mlp": {"hidden": [32], "dropout": 0.3}},
        },
        "data": {"crop_px": 112, "bag_size": 8},
        "training": {"learning_rate": 2e-3, "patients_per_step": 4},
    }


COMPARED: dict[str, dict[str, dict[str, Any]]] = {
    "fusions": {
        "gated": network("gated"),
        "none (pictures' expert)": network("none"),
        "clinical mlp": {"clinical": {"mlp": {"hidden": [8]}}},
        "clinical logistic": {"clinical": "logistic"},
        "late": network("late"),
        "concat": network("concat"),
    },
    "norms": {"batch": network(), "group": network(norm="group")},
}


def scores(data: str, name: str, given: dict[str, Any], seed: int, epochs: int) -> tuple[str, int, float, float, float]:
    """Return the row's name, the seed, balanced log loss and balanced accuracy at the last epoch, and the mean gate."""
    torch.set_num_threads(1)
    cohort = load_cohort(data)
    folds_RP = make_folds(cohort.labels, FOLDS, 1, 0)
    *_, last = train(configuration(given, name), cohort, Protocol(folds_RP, epochs, seed))
    judged = cohort.labels >= 0
    accuracy = float(balanced_accuracy(last.probabilities_RP[0, judged], cohort.labels[judged]))
    gates = last.gates_RP[~np.isnan(last.gates_RP)]
    gate = float(gates.mean()) if len(gates) else float("nan")
    return name, seed, pooled_log_loss(last.probabilities_RP, cohort.labels), accuracy, gate


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=sorted(COMPARED))
    parser.add_argument("--data", default="simulated")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    given = parser.parse_args()
    load_cohort(given.data)  # decodes once, before the workers start
    rows = COMPARED[given.what].items()
    jobs = [(given.data, name, row, seed, given.epochs) for seed in range(given.seeds) for name, row in rows]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        said = list(pool.map(scores, *zip(*jobs, strict=True)))
    losses = {name: np.array([row[2] for row in said if row[0] == name]) for name in COMPARED[given.what]}
    first = next(iter(losses.values()))
    print(f"{given.data}, {FOLDS} folds, {given.epochs} epochs, seeds 0 to {given.seeds - 1}: one column a seed")
    print(f"{'':26} {'balanced log loss':{7 * given.seeds}} minus first  balanced accuracy")
    for name, loss in losses.items():
        accuracies = " ".join(f"{row[3]:.3f}" for row in said if row[0] == name)
        gate = np.mean([row[4] for row in said if row[0] == name])
        tail = "" if np.isnan(gate) else f"  mean gate {gate:.2f}"
        columns = " ".join(f"{value:.4f}" for value in loss)
        print(f"{name:26} {columns:{7 * given.seeds}} {np.mean(loss - first):+.4f}      {accuracies}{tail}")


if __name__ == "__main__":
    main()
