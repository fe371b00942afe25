"""Which trials of a run may enter an ensemble, their out-of-fold probabilities, and how the best are chosen.

Shapes: M candidate trials, N of them chosen, C their judged epochs altogether, P patients ever held out.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lymphtune.cohort.cohort import TO_PREDICT, Cohort
from lymphtune.ensembling.recipe import Recipe
from lymphtune.errors import InputError
from lymphtune.runs import Run, read_table
from lymphtune.statistics.metrics import balanced_log_loss


@dataclass(frozen=True)
class Candidates:
    """Trials with their out-of-fold probabilities; a trial that picks its epoch has a row for each of them."""

    table: pd.DataFrame  # the leaderboard's rows, M
    patients: list[str]  # P
    labels_P: np.ndarray
    oof_CP: np.ndarray
    trial_C: np.ndarray  # row of `table` that each row of oof_CP belongs to

    def choose(self, count: int, counts_P: np.ndarray | None = None) -> np.ndarray:
        """Return the rows of oof_CP of the `count` best trials, each at its best epoch where it picks one.

        Best is the class-balanced log loss over the patients, each counted `counts_P` times.
        """
        loss_C = balanced_log_loss(self.oof_CP, self.labels_P, counts_P)
        order = np.lexsort([self.trial_C, loss_C])
        _, first = np.unique(self.trial_C[order], return_index=True)
        return order[np.sort(first)][:count]


def find_candidates(run: Run, cohort: Cohort, recipe: Recipe) -> Candidates:
    """Return the trials of the run that the recipe may take; raises InputError where there are too few."""
    board = run.leaderboard
    table = eligible(board, recipe.source)
    if not len(table):
        kinds = ", ".join(f"{n} {kind}" for kind, n in board["kind"].value_counts().items())
        raise InputError(f"{run.path}: no trial for 'from: {recipe.source}'; it has {kinds}; try another --from")
    if recipe.trials > len(table):
        raise InputError(
            f"--top {recipe.trials}: the run {run.name} has {len(table)} trials to choose from "
            f"('from: {recipe.source}'); ask for at most {len(table)}, or search more"
        )
    return read_candidates(run, cohort, table)


def eligible(board: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return the leaderboard's rows that did not fail and are of the kind asked for, best first."""
    table = board[board["status"].isin(["done", "stopped"])]
    if source == "networks":
        table = table[table["kind"] == "network"]
    elif source == "clinical":
        table = table[table["kind"] == "clinical"]
    return table.reset_index(drop=True)


def read_candidates(run: Run, cohort: Cohort, table: pd.DataFrame) -> Candidates:
    """Return the out-of-fold probabilities of the table's trials, mean over repeats."""
    rows, owners = [], []
    for number, trial in enumerate(table.itertuples()):
        oof = read_table(run.trial(str(trial.trial)) / "oof.parquet")
        per_epoch = oof.pivot_table(index="epoch", columns="patient", values="probability", aggfunc="mean")
        per_epoch = per_epoch.reindex(columns=cohort.ids)
        picks = run.configuration(str(trial.trial)).picks_epoch
        chosen = per_epoch if picks else per_epoch.loc[[trial.epoch]]
        rows.append(chosen.to_numpy())
        owners.append(np.full(len(chosen), number))
    oof_CP = np.concatenate(rows)
    judged = ~np.isnan(oof_CP).any(axis=0) & (cohort.labels != TO_PREDICT)
    patients = [patient for patient, seen in zip(cohort.ids, judged, strict=True) if seen]
    return Candidates(table, patients, cohort.labels[judged], oof_CP[:, judged], np.concatenate(owners))
