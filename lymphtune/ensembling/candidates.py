"""Candidate trials of an ensemble: their out-of-fold probabilities, and the selection of the best.

Shapes: M candidate trials, N of them chosen, C candidate epochs of all trials, R repeats, E epochs, P patients ever
held out, S resamples. counts_SP: how often each resample holds each patient.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from pyarrow import ArrowException, ChunkedArray

from lymphtune import console
from lymphtune.cohort.cohort import Cohort
from lymphtune.cohort.folds import NEVER
from lymphtune.ensembling.recipe import Choice
from lymphtune.errors import InputError, reason
from lymphtune.runs.run import Run
from lymphtune.runs.tables import check_counts, check_file
from lymphtune.statistics.bootstrap import LEAST_GROUPS, grouping
from lymphtune.statistics.metrics import THRESHOLD, auc, class_weights, log_losses
from lymphtune.statistics.probabilities import as_probabilities

AT_ONCE = 2_000_000  # losses (resamples x candidate epochs) in memory at a time
READERS = 4  # threads that read tables
NEEDED = {"trial", "status", "kind", "epoch", "sees", "architecture", "best_epoch_picked"}  # leaderboard columns


@dataclass(frozen=True)
class Candidates:
    """Trials with their out-of-fold probabilities; a trial whose epoch is selected has one row per epoch."""

    table: pd.DataFrame  # M rows of the leaderboard
    patients: list[str]  # P
    labels_P: np.ndarray
    fold_P: np.ndarray
    oof_CP: np.ndarray
    trial_C: np.ndarray  # row of `table` for each row of oof_CP, ascending
    group_P: np.ndarray | None = None  # group number of patients that are resampled together

    def allowed(self, choice: Choice) -> np.ndarray:
        """Return the mask [M] of trials that the choice may take: of its kind, and completed unless it takes others."""
        kinds = self.table["kind"].to_numpy()
        of_kind = np.ones(len(kinds), bool) if choice.source == "all" else kinds == choice.source.removesuffix("s")
        return of_kind if choice.include_stopped else of_kind & (self.table["status"] == "done").to_numpy()

    def shortage(self, choice: Choice, taken: int) -> str:
        """Return a warning if fewer trials are available than the choice takes at most, else ""."""
        if taken >= choice.most:
            return ""
        trials = console.counted(taken, "trial")
        return f"{choice.most} trials were requested and {trials} can be taken{self._excluded(choice)}."

    def _excluded(self, choice: Choice) -> str:
        """Return a note on the trials of the requested kind that are excluded because they were stopped early."""
        every = replace(choice, include_stopped=True)
        stopped = int((self.allowed(every) & ~self.allowed(choice)).sum())
        return f"; {stopped} stopped early are excluded (--include-stopped takes them)" if stopped else ""

    def available(self, choice: Choice) -> list[tuple[np.ndarray, int]]:
        """Return for each count of the recipe the mask [M] of trials to take from, and the number to take.

        Kinds without trials are omitted. Raises InputError if no trial can be taken, or if a choice by kind has fewer
        than two kinds.
        """
        allowed = self.allowed(choice)
        if not allowed.any():
            kinds = ", ".join(f"{n} {kind}" for kind, n in self.table["kind"].value_counts().items()) or "none"
            raise InputError(
                f"no trial for 'from: {choice.source}'; the run has {kinds}{self._excluded(choice)}; "
                "try another --from, or search more"
            )
        sees = self.table["sees"].to_numpy()
        found = []
        for kind, count in choice.counts:
            of = allowed if kind == "any" else allowed & (sees == kind)
            if of.any():
                found.append((of, min(count, int(of.sum()))))
        if choice.each_kind and len(found) < 2:
            there = ", ".join(sorted({str(kind) for kind in sees[allowed]})) or "none"
            raise InputError(
                f"the recipe blends kinds of trials, and this run has only: {there}{self._excluded(choice)}; "
                "use another recipe"
            )
        return found

    def chosen(self, choice: Choice) -> np.ndarray:
        """Return the rows of oof_CP [N] that the choice takes on all patients."""
        return Resamples(self, np.ones((1, len(self.labels_P)), dtype=int)).choose(choice)[0]

    def trials(self, rows: np.ndarray) -> pd.DataFrame:
        """Return the leaderboard rows of the trials in these rows of oof_CP."""
        return self.table.iloc[self.trial_C[rows]]


@dataclass(frozen=True)
class Resamples:
    """Candidates in resamples of the patients, to select the best trials in each resample."""

    candidates: Candidates
    counts_SP: np.ndarray
    _losses: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, repr=False)

    def choose(self, choice: Choice) -> np.ndarray:
        """Return the rows of oof_CP [S, N] that the choice takes in each resample, best first within a kind.

        A trial with several candidate epochs enters with the best one in the resample. Ties go to the earlier trial.
        """
        loss_SM, row_SM = self.losses(choice.by)
        taken = []
        for of_M, count in self.candidates.available(choice):
            among_SM = np.where(of_M, loss_SM, np.inf)
            if choice.per_architecture:
                among_SM = self._capped(among_SM, choice.per_architecture)
                count = min(count, int(np.isfinite(among_SM[0]).sum()))
            best_SN = np.argsort(among_SM, axis=1, kind="stable")[:, :count]
            taken.append(np.take_along_axis(row_SM, best_SN, axis=1))
        return np.concatenate(taken, axis=1)

    def _capped(self, loss_SM: np.ndarray, most: int) -> np.ndarray:
        """Return the losses, infinite beyond the `most` best trials of each architecture."""
        capped_SM = loss_SM.copy()
        for members in self.candidates.table.groupby("architecture").indices.values():
            rank_SK = np.argsort(np.argsort(loss_SM[:, members], axis=1, kind="stable"), axis=1)
            capped_SM[:, members] = np.where(rank_SK < most, loss_SM[:, members], np.inf)
        return capped_SM

    def losses(self, by: str) -> tuple[np.ndarray, np.ndarray]:
        """Return each trial's loss [S, M] in each resample at its best epoch, and that epoch's row of oof_CP."""
        if by not in self._losses:
            self._losses[by] = self._computed(by)
        return self._losses[by]

    def _computed(self, by: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the losses at each trial's epoch of lowest log loss, the epoch whose weights a trial keeps."""
        oof_CP, labels_P, trial_C = self.candidates.oof_CP, self.candidates.labels_P, self.candidates.trial_C
        first_M = np.flatnonzero(np.diff(trial_C, prepend=-1))
        loss_SM, row_SM = (np.empty((len(self.counts_SP), len(first_M)), dtype) for dtype in (float, np.int64))
        weight_SP = class_weights(labels_P, self.counts_SP)
        log_loss_CP = log_losses(oof_CP, labels_P)
        step = max(1, AT_ONCE // len(oof_CP))
        for start in range(0, len(weight_SP), step):
            part = slice(start, start + step)
            loss_SC = weight_SP[part] @ log_loss_CP.T
            lowest_SM = np.minimum.reduceat(loss_SC, first_M, axis=1)
            row_SM[part] = _first_lowest(loss_SC, lowest_SM, first_M, trial_C)
            if by != "log_loss":
                loss_SC = _losses(by, oof_CP, labels_P, weight_SP[part])
            loss_SM[part] = np.take_along_axis(loss_SC, row_SM[part], axis=1)
        return loss_SM, row_SM


def _losses(by: str, oof_CP: np.ndarray, labels_P: np.ndarray, weight_SP: np.ndarray) -> np.ndarray:
    """Return the losses [S, C] by a metric other than log loss."""
    if by == "auc":
        return 1 - np.stack([auc(oof_CP, labels_P, weight_P) for weight_P in weight_SP])
    wrong_CP = (oof_CP - labels_P) ** 2 if by == "brier" else ((oof_CP >= THRESHOLD) != (labels_P == 1)).astype(float)
    return weight_SP @ wrong_CP.T


def _first_lowest(loss_SC: np.ndarray, lowest_SM: np.ndarray, first_M: np.ndarray, trial_C: np.ndarray) -> np.ndarray:
    """Return the first row of each trial with that trial's lowest loss [S, M]."""
    if len(first_M) == loss_SC.shape[1]:
        return np.broadcast_to(first_M, lowest_SM.shape)
    rows_C = np.arange(loss_SC.shape[1])
    return np.minimum.reduceat(np.where(loss_SC <= lowest_SM[:, trial_C], rows_C, len(rows_C)), first_M, axis=1)


def read_candidates(run: Run, cohort: Cohort) -> Candidates:
    """Read the out-of-fold probabilities, mean over repeats, of every trial of the run that did not fail.

    Raises InputError if a trial's folds or patients are not those of the run.
    """
    board = run.leaderboard
    if missing := NEEDED - set(board.columns):
        raise InputError(
            f"{run.path}: the leaderboard has no column {min(missing)}, as of another version; search again"
        )
    table, folds_RP, about = eligible(board), run_folds(run, cohort.ids), cohort.about
    if not len(table):
        raise InputError(f"{run.path}: no trial has ended; see the leaderboard for the reasons, and search again")
    scored_P = (folds_RP >= 0).all(axis=0)
    check_both_classes(cohort.labels[scored_P], str(run.path))

    def mean_over_repeats(row: Any) -> np.ndarray:
        oof_ERP = read_oof(run.trial(row.trial) / "oof.parquet", cohort.ids, folds_RP, about["cohort_hash"])
        oof_EP = oof_ERP[:, :, scored_P].mean(axis=1)
        if not 1 <= row.epoch <= len(oof_EP):
            raise InputError(
                f"{run.path}: the leaderboard names epoch {row.epoch} of {row.trial}, which has {len(oof_EP)} epochs; "
                "search again"
            )
        return oof_EP if row.best_epoch_picked else oof_EP[[row.epoch - 1]]

    with ThreadPoolExecutor(READERS) as pool:
        rows = list(console.each(pool.map(mean_over_repeats, table.itertuples()), "reading trials", len(table)))
    return Candidates(
        table,
        np.array(cohort.ids)[scored_P].tolist(),
        cohort.labels[scored_P],
        folds_RP[0, scored_P],
        np.concatenate(rows),
        np.repeat(np.arange(len(rows)), [len(row) for row in rows]),
        grouping(cohort.groups[scored_P]),
    )


def check_both_classes(labels_P: np.ndarray, where: str) -> None:
    """Raise InputError, which starts with `where`, unless patients of both classes were held out."""
    reactive, tumoral = (int((labels_P == label).sum()) for label in (0, 1))
    if not (reactive and tumoral):
        raise InputError(
            f"{where}: {reactive} reactive and {tumoral} tumoral patients were held out, and scores need both "
            "classes; search again with 2 folds or more"
        )


def group_note(cohort: Cohort) -> str:
    """Return a note if there are groups of patients, but too few for a cluster bootstrap; else ""."""
    groups = cohort.groups[cohort.labelled]
    count = len({*groups})
    if count == len(groups) or grouping(groups) is not None:
        return ""
    return (
        f"{count} groups of patients, under {LEAST_GROUPS}: folds keep groups apart, but intervals cover only the "
        "variation of patients within these groups; another site may differ by more."
    )


def eligible(board: pd.DataFrame, source: str = "all") -> pd.DataFrame:
    """Return the leaderboard rows of the requested kind that did not fail, best first."""
    table = board[board["status"].isin(["done", "stopped"])].drop_duplicates("trial")
    if source != "all":
        table = table[table["kind"] == source.removesuffix("s")]
    return table.reset_index(drop=True)


def run_folds(run: Run, patients: list[str]) -> np.ndarray:
    """Return the fold [R, P] that holds each patient out, -1 if none does; raises InputError."""
    try:
        wide = run.folds.pivot(index="repeat", columns="patient", values="fold").reindex(columns=patients)
        folds_RP = wide.fillna(NEVER).to_numpy().astype(int)
    except (KeyError, ValueError) as error:
        raise InputError(f"{run.path / 'folds.parquet'}: not the folds of a run; search again") from error
    if not (folds_RP >= 0).any():
        raise InputError(f"{run.path / 'folds.parquet'}: no patient of the cohort is held out; search again")
    return folds_RP


def read_oof(path: Path, patients: list[str], folds_RP: np.ndarray, cohort_hash: str) -> np.ndarray:
    """Read a trial's out-of-fold probabilities [E, R, P], NaN for patients never held out.

    Raises InputError if the table is damaged, or belongs to other folds or another cohort.
    """
    columns = ["repeat", "fold", "epoch", "trial", "patient", "probability"]
    try:
        check_file(path)
        check_counts(pq.read_metadata(path), path)  # text columns are read as dictionaries and stay compressed
        table = pq.read_table(path, columns=columns, read_dictionary=["trial", "patient"], use_threads=False)
    except (OSError, ArrowException) as error:
        raise InputError(f"{path}: missing or damaged, not a Parquet table ({reason(error)})") from error
    if (table.schema.metadata or {}).get(b"cohort_hash", b"").decode() != cohort_hash:
        raise InputError(f"{path}: of another cohort than its run; search again")
    if len(table) and (_positions(table["trial"], [path.parent.name]) < 0).any():
        raise InputError(f"{path}: of another trial than its folder; search again")
    held_R, held_P = np.nonzero(folds_RP >= 0)
    repeat, fold, epoch, probability = (table[name].to_numpy() for name in ("repeat", "fold", "epoch", "probability"))
    n_epochs, rest = divmod(len(table), len(held_R))
    expected = {
        "repeat": (repeat, held_R),
        "fold": (fold, folds_RP[held_R, held_P]),
        "patient": (_positions(table["patient"], patients), held_P),
    }
    for name, (found, right) in expected.items():
        if rest or (found.reshape(n_epochs, -1) != right).any():
            raise InputError(f"{path}: its {name}s are not those of the run's folds; search again")
    if (epoch != np.repeat(np.arange(1, n_epochs + 1), len(held_R))).any() or not n_epochs:
        raise InputError(f"{path}: its epochs are not 1, 2, ... in order; search again")
    if probability.dtype.kind != "f":
        raise InputError(f"{path}: its probabilities are {probability.dtype}, expected numbers; search again")
    probability = as_probabilities(probability, path, "search again", of="rows")
    oof_ERP = np.full((n_epochs, *folds_RP.shape), np.nan)
    oof_ERP[:, held_R, held_P] = probability.reshape(n_epochs, -1)
    return oof_ERP


def _positions(column: ChunkedArray, patients: list[str]) -> np.ndarray:
    """Return the index in `patients` of each value of a dictionary-encoded column, -1 if it is not in there."""
    positions = {patient: position for position, patient in enumerate(patients)}
    merged = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    known = np.array([positions.get(patient, -1) for patient in merged.dictionary.to_pylist()], dtype=int)
    return known[merged.indices.to_numpy()]
