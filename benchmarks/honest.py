"""Is the honest score honest? Simulated trials of known worth: bias and coverage, against the naive score.

Every repetition draws patients, and trials whose scores are correlated, chooses the best 5 and the best 1 by log loss
as `lymphtune ensemble` does, and compares what is printed with what is true of exactly these chosen trials.

    python benchmarks/honest.py --repetitions 500 --processes 2
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit

from lymphtune.ensembling.candidates import Candidates, Resamples
from lymphtune.ensembling.procedure import Procedure
from lymphtune.ensembling.recipe import load_recipe
from lymphtune.ensembling.score import Comparison, one_of
from lymphtune.statistics.bootstrap import resample
from lymphtune.statistics.honest import HeldOutScorer, ResampledPredictions
from lymphtune.statistics.metrics import auc, balanced_accuracy, balanced_log_loss

PATIENTS, TRIALS = (40, 100, 200, 400), (5, 50, 500)
TUMORAL = 0.69  # share of patients, as in the study's cohort
STEEPNESS = 1.5  # of probabilities in the score
TEST_PATIENTS = 20_000
METRICS = {"BA": balanced_accuracy, "AUC": auc, "loss": balanced_log_loss}
NAMES = {"BA": "balanced_accuracy", "AUC": "auc", "loss": "log_loss"}


HEADER = """naive, honest: mean error in points of balanced accuracy; cov.: of 95 % intervals, in %; wid.: in points
plain: percentile interval of the five; gain: five minus one; tied: the set that cannot be told from the best, its size
                   | the best five       | the best one        | plain     | cov.      | gain tied
trials   pat. num. | naive honst cov. wid. | naive honst cov. wid. | cov. wid. |  AUC loss | cov. cov. size"""


class World(NamedTuple):
    """Trials' scores are normal: their classes lie `apart` sds from each other (with sd `differ` between trials), and
    a share `alike` of their variance is the patient's, the same for all trials."""

    apart: float
    differ: float
    alike: float


WORLDS = {
    "useless": World(0.0, 0.0, 0.5),
    "middling": World(2.0, 0.4, 0.5),
    "good": World(3.5, 0.3, 0.5),
    "alike": World(2.0, 0.4, 0.9),
    "unlike": World(1.5, 0.4, 0.0),
}


class Trials(NamedTuple):
    world: World
    apart_M: np.ndarray
    shift_M: np.ndarray

    def say(self, labels_P: np.ndarray, rng: np.random.Generator, rows: np.ndarray | None = None) -> np.ndarray:
        """Return probabilities [M, P] of new patients."""
        apart_M, shift_M = (v if rows is None else v[rows] for v in (self.apart_M, self.shift_M))
        shared_P = rng.standard_normal(len(labels_P)) * self.world.alike**0.5
        own_MP = rng.standard_normal((len(apart_M), len(labels_P))) * (1 - self.world.alike) ** 0.5
        return expit(STEEPNESS * (apart_M[:, None] * (labels_P - 0.5) + shift_M[:, None] + shared_P + own_MP))

    @property
    def true_log_loss_M(self) -> np.ndarray:
        nodes, weights = np.polynomial.hermite_e.hermegauss(40)
        losses = [
            np.logaddexp(0, -side * STEEPNESS * (side * self.apart_M[:, None] / 2 + self.shift_M[:, None] + nodes))
            for side in (1, -1)
        ]
        return np.mean(losses, axis=0) @ weights / weights.sum()


def repetition(world: World, patients: int, trials: int, seed: int, resamples: int) -> dict[str, float]:
    """Return errors and hits of one drawn cohort with its search."""
    rng = np.random.default_rng(seed)
    labels_P = (np.arange(patients) < round(TUMORAL * patients)).astype(int)
    apart_M = np.maximum(rng.normal(world.apart, world.differ, trials), 0)
    drawn = Trials(world, apart_M, rng.normal(0, 0.3, trials))
    candidates = _candidates(drawn.say(labels_P, rng), labels_P)
    counts_SP = resample(labels_P, resamples, seed)
    comparison = Comparison(candidates, Resamples(candidates, counts_SP), HeldOutScorer(labels_P, counts_SP))
    procedures = {
        "five": Procedure(load_recipe("top", min(5, trials))),
        "one": Procedure(one_of("networks", "log_loss")),
    }
    rows = {name: candidates.chosen(procedure.recipe.choice) for name, procedure in procedures.items()}
    predictions = {
        name: procedure.repeat(candidates, comparison.resamples).predictions for name, procedure in procedures.items()
    }
    test_P = np.arange(TEST_PATIENTS) % 2
    probability_MP = drawn.say(test_P, rng, rows["five"])  # the best first
    truth = {"five": probability_MP.mean(axis=0), "one": probability_MP[0]}
    found: dict[str, float] = {}
    for name, (metric, function) in product(procedures, METRICS.items()):
        true, honest = float(function(truth[name], test_P)), comparison.scorer.score(predictions[name], NAMES[metric])
        found[f"{name} {metric} naive"] = float(function(candidates.oof_CP[rows[name]].mean(axis=0), labels_P)) - true
        found[f"{name} {metric} honest"] = honest.value - true
        found[f"{name} {metric} covered"] = honest.low <= true <= honest.high
        found[f"{name} {metric} width"] = honest.high - honest.low
    low, high = np.quantile(_plain(comparison.scorer, predictions["five"]), (0.025, 0.975))
    true = {name: float(balanced_accuracy(probability_P, test_P)) for name, probability_P in truth.items()}
    found |= {"plain covered": low <= true["five"] <= high, "plain width": high - low}
    gain = comparison.scorer.gain(predictions["five"], predictions["one"], "balanced_accuracy").difference
    found["gain covered"] = gain.low <= true["five"] - true["one"] <= gain.high
    tied_M = comparison.tied(procedures["five"].recipe.choice)
    found["tied holds best"] = tied_M[np.argmin(drawn.true_log_loss_M)]
    found["tied share"] = tied_M.mean()
    return found


def _plain(scorer: HeldOutScorer, predictions: ResampledPredictions) -> np.ndarray:
    """Return the balanced accuracy of each resample's left-out patients, whose percentiles are the plain interval."""
    with np.errstate(invalid="ignore"):
        plain_S = balanced_accuracy(predictions.probability_SP, scorer.labels_P, scorer.held_out_SP.astype(float))
    return plain_S[np.isfinite(plain_S)]


def _candidates(oof_MP: np.ndarray, labels_P: np.ndarray) -> Candidates:
    count, patients = oof_MP.shape
    table = pd.DataFrame({"trial": range(count), "kind": "network", "sees": "mixed", "architecture": "one"})
    return Candidates(table, list(map(str, range(patients))), labels_P, np.zeros(patients), oof_MP, np.arange(count))


def cell(job: tuple[str, int, int, int, int]) -> str:
    """Return one line of the table."""
    name, patients, trials, repetitions, resamples = job
    rows = [repetition(WORLDS[name], patients, trials, seed, resamples) for seed in range(repetitions)]
    mean = pd.DataFrame(rows).astype(float).mean() * 100
    columns = [f"{name:8} {patients:4} {trials:4}"]
    for kind in ("five", "one"):
        bias = f"{mean[f'{kind} BA naive']:+5.1f} {mean[f'{kind} BA honest']:+5.1f}"
        columns.append(f"{bias} {mean[f'{kind} BA covered']:4.0f} {mean[f'{kind} BA width']:4.0f}")
    columns.append(f"{mean['plain covered']:4.0f} {mean['plain width']:4.0f}")
    columns.append(" ".join(f"{mean[f'five {metric} covered']:4.0f}" for metric in ("AUC", "loss")))
    columns.append(f"{mean['gain covered']:4.0f} {mean['tied holds best']:4.0f} {mean['tied share']:4.0f}")
    return " | ".join(columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=300, help="ensemble takes 1000; the mean is hardly another")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--worlds", nargs="+", default=list(WORLDS), choices=WORLDS)
    given = parser.parse_args()
    print(HEADER)
    jobs = [(w, p, t, given.repetitions, given.resamples) for w, p, t in product(given.worlds, PATIENTS, TRIALS)]
    with ProcessPoolExecutor(given.processes) as pool:
        for line in pool.map(cell, jobs):
            print(line, flush=True)


if __name__ == "__main__":
    main()
