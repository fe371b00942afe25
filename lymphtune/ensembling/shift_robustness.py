"""Robustness of a saved ensemble to shifts of light, stain and focus, on held-out patients.

Shapes: P scored patients, M member trials, K shifts, S resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from lymphtune import console
from lymphtune.cohort import Cohort
from lymphtune.ensembling.build import trained_cohort
from lymphtune.ensembling.bundle import Ensemble, fold_of
from lymphtune.ensembling.candidates import Candidates, read_candidates
from lymphtune.ensembling.held_out_cells import matches_run, some_cells
from lymphtune.errors import InputError
from lymphtune.files import sha256, write_table
from lymphtune.models.memory import keep_freed_memory
from lymphtune.result import Result
from lymphtune.runs.run import Run, read_table
from lymphtune.shortcuts.shifts import SHIFTS
from lymphtune.statistics.bootstrap import RESAMPLES, Interval, percentile_interval, resample
from lymphtune.statistics.metrics import auc, balanced_accuracy
from lymphtune.statistics.words import changed, percent

CELLS = 8  # cells per patient, evenly spaced in the bag
FOLDER = "robustness"  # folder in a run, with one table per ensemble
PLAIN = "as it is"  # name of the unshifted pictures


@dataclass(frozen=True)
class Robustness:
    """The change of an ensemble's predictions under each shift.

    table: one row per shift, PLAIN first, with columns shift, balanced_accuracy, auc; then `<what>_change`,
    `<what>_low` and `<what>_high` for the changes of these two metrics, for the mean absolute change of probabilities
    (`moved`) and for the fraction of patients with another call (`flipped`). cells: most cells per patient.
    """

    table: pd.DataFrame
    n_patients: int
    cells: int

    @property
    def shifted(self) -> pd.DataFrame:
        return self.table[self.table["shift"] != PLAIN]

    @property
    def conclusion(self) -> str:
        """Return two sentences on the worst shift and the most changed calls."""
        worst = self.shifted.sort_values("balanced_accuracy_change", kind="stable").iloc[0]
        most = self.shifted.sort_values("flipped_change", kind="stable").iloc[-1]
        doubt = "" if worst["balanced_accuracy_high"] < 0 else ", not significant"
        return (
            f"The worst of {len(self.shifted)} shifts for balanced accuracy is '{worst['shift']}': "
            f"{changed(_interval(worst, 'balanced_accuracy'))}{doubt}. Most calls change under "
            f"'{most['shift']}': {percent(most['flipped_change'])} of the patients."
        )


def measure_robustness(run: Run, ensemble: Ensemble, data: str | Path | None = None, cells: int = CELLS) -> Result:
    """Measure how predictions of a run's saved ensemble change under each shift; save the table in the run's folder.

    Raises InputError if the run's cohort is missing, or if the ensemble has other folds or does not use pictures.
    """
    if not 1 <= cells <= 1000:
        raise InputError(f"--cells {cells}: expected 1 to 1000 cells a patient")
    cohort = trained_cohort(run, data)
    found = robustness(ensemble, cohort, read_candidates(run, cohort), cells)
    path = run.path / FOLDER / f"{ensemble.path.name}.parquet"
    path.parent.mkdir(exist_ok=True)
    about = {"ensemble": _seal(ensemble), "cells": found.cells, "n_patients": found.n_patients}
    write_table(path, found.table, cohort.about | about)
    lines = [*_lines(found), *console.wrapped(found.conclusion)]
    if cohort.simulated:
        lines.append(console.painted(console.SIMULATED, "warning"))
    values = {"run": run.path, "ensemble": ensemble.path, "simulated": bool(cohort.simulated), **about}
    return Result("\n".join([*lines, str(path)]), values | {"table": path, "shifts": found.table})


def read_robustness(run: Run, ensemble: Ensemble) -> Robustness | None:
    """Read the saved measurement of exactly this ensemble, None if there is none."""
    path = run.path / FOLDER / f"{ensemble.path.name}.parquet"
    if not path.is_file():
        return None
    table = read_table(path)
    about = pq.read_schema(path).metadata or {}
    if about.get(b"ensemble", b"").decode() != _seal(ensemble):
        return None
    return Robustness(table, int(about[b"n_patients"]), int(about[b"cells"]))


def robustness(ensemble: Ensemble, cohort: Cohort, candidates: Candidates, cells: int = CELLS) -> Robustness:
    """Return how the ensemble's predictions change under each shift, with only held-out models for every patient."""
    if not matches_run(ensemble, cohort, candidates):
        raise InputError(f"{ensemble.path}: has other folds or patients than the run; build it again")
    if not any(chosen.kind == "network" for _, chosen in ensemble.fold_models()):
        raise InputError(f"{ensemble.path}: no member uses pictures, so shifts have no effect; name another ensemble")
    rows = {patient: row for row, patient in enumerate(cohort.ids)}
    some, _, _ = some_cells(cohort, np.array([rows[patient] for patient in candidates.patients]), cells)
    shifts = {PLAIN: lambda pictures_CSS3: pictures_CSS3, **SHIFTS}
    probability_KP = np.full((len(shifts), len(candidates.patients)), np.nan)
    models = list(ensemble.fold_models())
    with keep_freed_memory(), console.bar("predicting shifted pictures", len(shifts) * len(models)) as bar:
        for probability_P, shift in zip(probability_KP, shifts.values(), strict=True):
            shifted = replace(some, pictures_CSS3=shift(some.pictures_CSS3))
            members_MP = held_out_predictions(ensemble, shifted, candidates.fold_P, bar)
            probability_P[:] = ensemble.fitted.probability(members_MP)
    counts_SP = resample(candidates.labels_P, RESAMPLES, 0, candidates.group_P)
    table = _table(list(shifts), probability_KP, candidates.labels_P, ensemble.threshold, counts_SP)
    return Robustness(table, len(candidates.patients), cells)


def held_out_predictions(ensemble: Ensemble, cohort: Cohort, fold_P: np.ndarray, bar: console.Bar) -> np.ndarray:
    """Return each member's predictions [M, P]: the mean over its models that were trained without the patient."""
    from lymphtune.training.loading import predict_with

    probability_MP, times_MP = (np.zeros((len(ensemble.members), len(fold_P))) for _ in range(2))
    member_of = {ensemble.path / name: m for m, one in enumerate(ensemble.members) for name in one["weights"]}
    kept: dict[str, np.ndarray] = {}
    for path, chosen in ensemble.fold_models():
        held_out = np.flatnonzero(fold_P == fold_of(path.name))
        probability_MP[member_of[path], held_out] += predict_with(path, chosen, cohort, held_out, kept).probability_P
        times_MP[member_of[path], held_out] += 1
        bar.advance()
    return probability_MP / times_MP


def _table(
    names: Sequence[str], probability_KP: np.ndarray, labels_P: np.ndarray, threshold: float, counts_SP: np.ndarray
) -> pd.DataFrame:
    plain_P, rows = probability_KP[0], []
    for name, probability_P in zip(names, probability_KP, strict=True):
        called_P = _called(probability_P, threshold)
        row: dict[str, str | float] = {
            "shift": name,
            "balanced_accuracy": float(balanced_accuracy(called_P, labels_P)),
            "auc": float(auc(probability_P, labels_P)),
        }
        values = _changes(probability_P, plain_P, labels_P, threshold, np.ones(len(labels_P)))
        resampled = _changes(probability_P, plain_P, labels_P, threshold, counts_SP)
        for what, value in values.items():
            change = percentile_interval(float(value), resampled[what])
            row |= {f"{what}_change": change.value, f"{what}_low": change.low, f"{what}_high": change.high}
        rows.append(row)
    return pd.DataFrame(rows)


def _changes(
    probability_P: np.ndarray, plain_P: np.ndarray, labels_P: np.ndarray, threshold: float, weights_P: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the changes from the predictions for unshifted pictures, with each patient weighted."""
    called_P, before_P = (_called(one_P, threshold) for one_P in (probability_P, plain_P))
    return {
        "balanced_accuracy": balanced_accuracy(called_P, labels_P, weights_P)
        - balanced_accuracy(before_P, labels_P, weights_P),
        "auc": auc(probability_P, labels_P, weights_P) - auc(plain_P, labels_P, weights_P),
        "moved": (weights_P * np.abs(probability_P - plain_P)).sum(-1) / weights_P.sum(-1),
        "flipped": (weights_P * (called_P != before_P)).sum(-1) / weights_P.sum(-1),
    }


def _called(probability_P: np.ndarray, threshold: float) -> np.ndarray:
    return (probability_P >= threshold).astype(float)


def _interval(row: Mapping[str, float] | pd.Series, what: str) -> Interval:
    return Interval(float(row[f"{what}_change"]), float(row[f"{what}_low"]), float(row[f"{what}_high"]))


def display_rows(found: Robustness) -> list[dict[str, str]]:
    """Return the table formatted for display, one row per shift."""
    shown = []
    for row in found.table.to_dict("records"):
        plain = row["shift"] == PLAIN
        texts = {"shift": str(row["shift"]), "balanced accuracy": f"{row['balanced_accuracy']:.3f}"}
        for what, title in (("balanced_accuracy", "change"), ("auc", "AUC change")):
            texts[title] = "" if plain else changed(_interval(row, what))
        texts["p moves by"] = "" if plain else f"{row['moved_change']:.3f}"
        texts["called otherwise"] = "" if plain else percent(row["flipped_change"])
        shown.append(texts)
    return shown


def _lines(found: Robustness) -> list[str]:
    """Format the table as lines that fit the terminal."""
    titles, cells = [f"{'shift':18}", "BA    ", f"{'change (95 %)':24}", "   AUC ", "p moves ", "called else"], []
    for row, full in zip(display_rows(found), found.table.to_dict("records"), strict=True):
        area = "" if not row["change"] else f"{full['auc_change']:+.3f}"
        moved, called = f"{row['p moves by']:>7}", f"{row['called otherwise']:>11}"
        cells.append([row["shift"], row["balanced accuracy"], row["change"], f"{area:>6}", moved, called])
    return console.tabular(titles, cells)


def _seal(ensemble: Ensemble) -> str:
    """Return the hash of ensemble.yaml, which holds the hashes of all files of the ensemble."""
    return sha256(ensemble.path / "ensemble.yaml")
