"""How long large runs take to read, to rank and to score honestly, and how much memory.

    python benchmarks/many_trials.py

Two made-up runs: 2,000 trials of 60 epochs each, all kept and looked at (`checkpoint: best`), are read and ranked;
500 trials are scored in 1,000 resamples, for every shipped recipe.
"""

import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from lymphtune.cohort import Cohort
from lymphtune.cohort.folds import folds_table, make_folds
from lymphtune.ensembling.candidates import Candidates, read_candidates
from lymphtune.ensembling.procedure import Procedure
from lymphtune.ensembling.recipe import Choice, all_recipes
from lymphtune.ensembling.score import Comparison, score
from lymphtune.files import write_table
from lymphtune.runs.run import Run

PATIENTS = 200


def made_up_cohort() -> Cohort:
    """Return patients with one blank picture each."""
    labels = (np.arange(PATIENTS) < 0.69 * PATIENTS).astype(int)
    patients = pd.DataFrame(
        {
            "patient": [f"P{n}" for n in range(PATIENTS)],
            "label": labels,
            "sex": "",
            "age_years": 60.0,
            "lymphocytes_g_per_l": 8.0,
            "n_cells": 1,
        }
    )
    return Cohort("made-up", patients, np.zeros((PATIENTS, 1, 1, 3), np.uint8), ["0" * 64] * PATIENTS)


def made_up_oof(cohort: Cohort, trials: int, rng: np.random.Generator) -> np.ndarray:
    """Return probabilities [trials, P] of correlated trials."""
    shared_P, apart_M = rng.standard_normal(PATIENTS), rng.normal(2, 0.4, trials)
    noise_MP = rng.standard_normal((trials, PATIENTS))
    return expit(1.5 * (apart_M[:, None] * (cohort.labels - 0.5) + 0.7 * shared_P + 0.7 * noise_MP))


def board(trials: int) -> pd.DataFrame:
    numbers = np.arange(trials)
    return pd.DataFrame(
        {
            "trial": [f"{n:016x}" for n in numbers],
            "status": "done",
            "epoch": 60,
            "best_epoch_picked": True,
            "kind": np.where(numbers % 50 == 0, "clinical", "network"),
            "title": "made up",
            "sees": np.where(numbers % 50 == 0, "clinical", np.where(numbers % 2, "images", "mixed")),
            "architecture": [f"{n % 7}" for n in numbers],
        }
    )


def write_run(path: Path, cohort: Cohort, trials: int, epochs: int) -> Run:
    """Write what a search of so many trials leaves of them."""
    run, rng = Run(path), np.random.default_rng(0)
    folds_RP = make_folds(cohort.labels, 5, 1, 0)
    write_table(path / "folds.parquet", folds_table(cohort, folds_RP), cohort.about)
    table = board(trials)
    write_table(path / "leaderboard.parquet", table, cohort.about)
    oof = pd.DataFrame(
        {
            "trial": "",
            "repeat": 0,
            "fold": np.tile(folds_RP[0], epochs),
            "epoch": np.arange(1, epochs + 1).repeat(PATIENTS),
            "patient": cohort.ids * epochs,
            "label": np.tile(cohort.labels, epochs),
            "probability": 0.0,
            "gate": np.nan,
        }
    )
    for trial in table["trial"]:
        said = made_up_oof(cohort, epochs, rng).reshape(-1)
        write_table(run.trial(trial) / "oof.parquet", oof.assign(trial=trial, probability=said), cohort.about)
    return run


def peak() -> str:
    return f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB"


def score_recipes(cohort: Cohort) -> None:
    oof_MP = made_up_oof(cohort, 500, np.random.default_rng(1))
    candidates = Candidates(board(500), cohort.ids, cohort.labels, np.zeros(PATIENTS), oof_MP, np.arange(500))
    for recipe in all_recipes():
        started = time.perf_counter()
        score(Comparison.of(candidates), Procedure(recipe))
        took = time.perf_counter() - started
        print(f"1,000 resamples x 500 trials x 200 patients, {recipe.name}: {took:.1f} s, {peak()}", flush=True)


def read_and_rank(cohort: Cohort) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder) / "run", cohort, 2000, 60)
        started = time.perf_counter()
        candidates = read_candidates(run, cohort)
    read = time.perf_counter()
    candidates.chosen(Choice(counts=(("any", 20),)))
    took = f"read in {read - started:.1f} s, ranked in {time.perf_counter() - read:.1f} s"
    print(f"2,000 trials x 60 epochs x 200 patients: {took}, {peak()}")


if __name__ == "__main__":
    score_recipes(made_up_cohort())
    read_and_rank(made_up_cohort())
