"""The single runs of a search, one a trial and seed: which of them ensembles are drawn from, and what they said.

Shapes: T trials, R repeats (seeds), P patients ever held out.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lymphtune import console
from lymphtune.config import digest
from lymphtune.ensembling.candidates import eligible, read_oof, run_folds
from lymphtune.errors import InputError
from lymphtune.runs.run import Run, read_table

POOL = 20  # best trials, unless told otherwise
FEWEST = 5  # trials that are trained again, where there are so many


@dataclass(frozen=True)
class SingleRuns:
    """Out-of-fold probabilities of every trial and seed, and the best clinical model beside them."""

    run: str
    cohort: str  # marked where it is simulated
    simulated: bool
    table: pd.DataFrame  # the leaderboard's rows, T
    patients: list[str]
    labels_P: np.ndarray
    oof_TRP: np.ndarray
    baseline: tuple[str, float] | None  # title and balanced accuracy

    @property
    def count(self) -> int:
        return self.oof_TRP.shape[0] * self.oof_TRP.shape[1]

    @property
    def parts(self) -> dict[str, str]:
        """Return what the variance can be split into: a word, and the field of `Variances` that holds it."""
        n_trials, n_repeats, _ = self.oof_TRP.shape
        if n_repeats == 1:
            return {"patients": "patients", "configuration + seed": "members"}
        if n_trials == 1:
            return {"patients": "patients", "seed": "members"}
        return {"patients": "patients", "configuration": "configuration", "seed": "seed"}


def choose_trials(run: Run, source: str, largest: int, pool: int | None = None) -> pd.DataFrame:
    """Return the leaderboard's rows of the best `pool` trials that ran to their end.

    By default the best POOL, more where `largest` needs them. Raises InputError where their single runs are fewer.
    """
    finished, repeats = _finished(run, source, pool), run.description["protocol"]["repeats"]
    chosen = finished[: pool or _pool(largest, repeats)]
    _check_largest(run, largest, len(chosen), repeats)
    return chosen


def trials_to_retrain(run: Run, source: str, largest: int, seeds: int, pool: int | None = None) -> list[str]:
    """Return the best of the trials that ran to their end: as many as the largest ensemble has members, at least
    FEWEST, and no more than ensembles are drawn from afterwards; all where there are fewer.

    Raises InputError where so many seeds of them are too few runs.
    """
    if seeds < 2:
        raise InputError(f"--retrain {seeds}: expected 2 seeds or more; one alone does not show how seeds scatter")
    finished = _finished(run, source, pool)[:pool]
    chosen = finished[: min(max(FEWEST, largest), _pool(largest, seeds))]
    _check_largest(run, largest, len(chosen), seeds)
    return [str(trial) for trial in chosen["trial"]]


def _pool(largest: int, repeats: int) -> int:
    return max(POOL, math.ceil(largest / repeats))


def _check_largest(run: Run, largest: int, trials: int, repeats: int) -> None:
    if largest > trials * repeats:
        raise InputError(
            f"--sizes {largest}: the run {run.name} has {trials * repeats} single runs to draw from "
            f"({console.counted(trials, 'trial')} x {console.counted(repeats, 'seed')}); "
            f"the largest possible size is {trials * repeats}"
        )


def _finished(run: Run, source: str, pool: int | None) -> pd.DataFrame:
    """Return the trials that ran to their end, best first; a baseline that is a trial too counts once."""
    table = eligible(run.leaderboard, source)
    table = table[table["status"] == "done"]
    if not len(table):
        raise InputError(f"{run.path}: no trial for --from {source} ran to its end; try another, or search more")
    clinical = table[table["kind"] == "clinical"]
    configurations = clinical["trial"].map(lambda trial: digest(run.configuration(str(trial)).as_yaml()))
    twice = clinical["baseline"] & configurations.isin(configurations[~clinical["baseline"]])
    table = table.drop(index=twice.index[twice]).reset_index(drop=True)
    if pool is not None and not 1 <= pool <= len(table):
        raise InputError(
            f"--pool {pool}: the run {run.name} has {len(table)} trials that ran to their end (--from {source}); "
            f"expected 1 to {len(table)}"
        )
    return table


def read_single_runs(run: Run, table: pd.DataFrame) -> SingleRuns:
    """Return what the table's trials said at their judged epochs, each seed for itself."""
    patients, cohort_hash = list(dict.fromkeys(run.folds["patient"])), run.description["cohort"]["hash"]
    folds_RP = run_folds(run, patients)
    scored_P = (folds_RP >= 0).all(axis=0)
    oof_TRP = []
    for row in console.each(table.itertuples(), "reading single runs", len(table)):
        oof_ERP = read_oof(run.trial(str(row.trial)) / "oof.parquet", patients, folds_RP, cohort_hash)
        oof_TRP.append(oof_ERP[int(row.epoch) - 1][:, scored_P])
    patients = np.array(patients)[scored_P].tolist()
    labels = read_table(run.trial(str(table["trial"].iloc[0])) / "oof.parquet").groupby("patient")["label"].first()
    clinical = eligible(run.leaderboard, "clinical")
    best = (str(clinical["title"][0]), float(clinical["balanced_accuracy"][0])) if len(clinical) else None
    given = run.description["cohort"]
    return SingleRuns(
        run.name,
        given["name"] + (" (SIMULATED)" if given["simulated"] else ""),
        given["simulated"],
        table,
        patients,
        labels[patients].to_numpy(),
        np.array(oof_TRP),
        best,
    )
