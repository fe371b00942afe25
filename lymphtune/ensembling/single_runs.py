"""The single runs of a search, one per trial and seed: the pool for sampled ensembles, and its predictions.

Shapes: E epochs, T trials, R repeats (seeds), P patients ever held out.
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

POOL = 20  # default number of best trials in the pool
FEWEST = 5  # smallest number of trials to retrain, if the run has that many


@dataclass(frozen=True)
class SingleRuns:
    """Out-of-fold probabilities of every trial and seed, and the best clinical model as a baseline."""

    run: str
    cohort: str  # with a mark if it is simulated
    simulated: bool
    table: pd.DataFrame  # T rows of the leaderboard
    patients: list[str]
    labels_P: np.ndarray
    oof_TRP: np.ndarray
    baseline: tuple[str, float] | None  # title and balanced accuracy

    @property
    def count(self) -> int:
        return self.oof_TRP.shape[0] * self.oof_TRP.shape[1]

    @property
    def parts(self) -> dict[str, str]:
        """Return the identified variance components: a label, and the field of `Variances` that holds it."""
        n_trials, n_repeats, _ = self.oof_TRP.shape
        if n_repeats == 1:
            return {"patients": "patients", "configuration + seed": "members"}
        if n_trials == 1:
            return {"patients": "patients", "seed": "members"}
        return {"patients": "patients", "configuration": "configuration", "seed": "seed"}


def choose_trials(run: Run, source: str, largest: int, pool: int | None = None) -> pd.DataFrame:
    """Return the leaderboard rows of the best `pool` completed trials.

    The default is the best POOL, or more if `largest` needs them. Raises InputError if they have fewer than `largest`
    single runs.
    """
    finished, repeats = _finished(run, source, pool), run.description.protocol.repeats
    chosen = finished[: pool or _pool(largest, repeats)]
    _check_largest(run, largest, len(chosen), repeats)
    return chosen


def trials_to_retrain(run: Run, source: str, largest: int, seeds: int, pool: int | None = None) -> list[str]:
    """Return the best completed trials, to be trained again with `seeds` seeds.

    Their number is that of the members of the largest ensemble, at least FEWEST and at most the size of the pool.
    Raises InputError if they give fewer than `largest` single runs.
    """
    if seeds < 2:
        raise InputError(f"--retrain {seeds}: expected 2 seeds or more; one seed does not show the variance of seeds")
    finished = _finished(run, source, pool)[:pool]
    chosen = finished[: min(max(FEWEST, largest), _pool(largest, seeds))]
    _check_largest(run, largest, len(chosen), seeds)
    return [str(trial) for trial in chosen["trial"]]


def _pool(largest: int, repeats: int) -> int:
    return max(POOL, math.ceil(largest / repeats))


def _check_largest(run: Run, largest: int, trials: int, repeats: int) -> None:
    if largest > trials * repeats:
        raise InputError(
            f"--sizes {largest}: the run {run.name} has {trials * repeats} single runs to sample from "
            f"({console.counted(trials, 'trial')} x {console.counted(repeats, 'seed')}); "
            f"the largest possible size is {trials * repeats}"
        )


def _finished(run: Run, source: str, pool: int | None) -> pd.DataFrame:
    """Return the completed trials, best first; a baseline that is also a trial counts once."""
    table = eligible(run.leaderboard, source)
    table = table[table["status"] == "done"]
    if not len(table):
        raise InputError(f"{run.path}: no completed trial for --from {source}; try another --from, or search more")
    clinical = table[table["kind"] == "clinical"]
    configurations = clinical["trial"].map(lambda trial: digest(run.configuration(str(trial)).as_yaml()))
    twice = clinical["baseline"] & configurations.isin(configurations[~clinical["baseline"]])
    table = table.drop(index=twice.index[twice]).reset_index(drop=True)
    if pool is not None and not 1 <= pool <= len(table):
        raise InputError(
            f"--pool {pool}: the run {run.name} has {len(table)} completed trials (--from {source}); "
            f"expected 1 to {len(table)}"
        )
    return table


def read_single_runs(run: Run, table: pd.DataFrame) -> SingleRuns:
    """Read the out-of-fold probabilities of the table's trials at their best epochs, by seed."""
    patients, cohort_hash = list(dict.fromkeys(run.folds["patient"])), run.description.cohort.hash
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
    given = run.description.cohort
    return SingleRuns(
        run.name,
        given.name + (" (SIMULATED)" if given.simulated else ""),
        given.simulated,
        table,
        patients,
        labels[patients].to_numpy(),
        np.array(oof_TRP),
        best,
    )
