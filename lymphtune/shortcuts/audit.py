"""The shortcut audit: what of a cohort ought not to matter, and whether it tells the label alone.

Shapes: P patients with a label, in the cohort's order.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from lymphtune.cohort import SIMULATED, Cohort, survey_cohort
from lymphtune.cohort.folds import CLASSES, make_folds, usable
from lymphtune.findings import Finding
from lymphtune.shortcuts.origins import Attributes, is_constant, origins
from lymphtune.shortcuts.properties import BAG_SIZE, CELLS_PER_PATIENT, shortcuts
from lymphtune.statistics.audit import audit, in_columns

SIGNIFICANT = 0.05
FOLDS = 5
MIN_PER_CLASS = 10  # patients of each class, of whom anything can be told
WARNING_P = 0.01  # one of a hundred audits of sound cohorts has such a finding
MAX_PICTURES = 4000  # decoded at once, 600 MB
CURE = "Find out how the classes came to differ in it, and let neither of them have it alone."


@dataclass(frozen=True)
class ShortcutAudit:
    """What was found; table: as `audit` returns it, empty where nothing differs between the patients."""

    table: pd.DataFrame

    @property
    def suspects(self) -> pd.DataFrame:
        """Return the rows that beat chance taken alone, best first."""
        return self.table[self.table["p"] < SIGNIFICANT]

    @property
    def significant(self) -> pd.DataFrame:
        """Return the rows that beat chance among all that were tried, best first."""
        return self.table[self.table["p_all"] < SIGNIFICANT]

    @property
    def findings(self) -> list[Finding]:
        """Return one for each attribute that beats chance among all tried, a warning where it is hardly chance."""
        texts = [
            f"{row.attribute} alone predicts the label: balanced accuracy {row.balanced_accuracy:.2f}, AUC "
            f"{row.auc:.2f} out of fold (by chance up to {row.auc_high:.2f}; p = {row.p_all:.3g} with all "
            f"{len(self.table)} tried); a network may learn it in place of the disease"
            + (", and cannot with `bag_size: fixed`" if row.attribute == BAG_SIZE else "")
            for row in self.significant.itertuples()
        ]
        severities = np.where(self.significant["p_all"] < WARNING_P, "warning", "note").tolist()
        return [Finding(each, "shortcut", text, CURE) for each, text in zip(severities, texts, strict=True)]


def shortcut_audit(
    cohort: Cohort,
    data: str | Path | None = None,
    fold_P: np.ndarray | None = None,
    n_cells_P: np.ndarray | None = None,
    seed: int = 0,
) -> ShortcutAudit:
    """Return what each attribute tells of the label of the cohort's labelled patients, each alone, out of fold.

    data: what the cohort was read from; where it is a folder, its files and table are looked at too. fold_P: where
    each patient of the cohort is held out, -1 never; None: FOLDS stratified folds, or as many as the smaller class has
    patients, groups kept together where that can be. n_cells_P: of each patient, where the cohort holds but some.
    """
    rows = cohort.labelled
    labels_P = cohort.labels[rows]
    if fold_P is None:
        fold_P = _folds(cohort, seed)
    if fold_P is None:
        return ShortcutAudit(_empty_table())
    given = _attributes(cohort, rows, data, n_cells_P)
    return ShortcutAudit(audit(given, labels_P, fold_P[rows], seed) if given else _empty_table())


def sampled_audit(data: str | Path, reference_date: date) -> ShortcutAudit | None:
    """Return the same of what `data` names, of whose pictures few are decoded and none is kept.

    None where patients are too few to tell. Raises InputError as reading the cohort does.
    """
    surveyed = survey_cohort(data, reference_date)
    if not enough_patients(surveyed.patients["label"].to_numpy()):
        return None
    cohort = surveyed.subsample(max(1, min(CELLS_PER_PATIENT, MAX_PICTURES // len(surveyed))))
    return shortcut_audit(cohort, data, n_cells_P=surveyed.patients["n_cells"].to_numpy())


def shortcut_findings(data: str | Path, reference_date: date) -> list[Finding]:
    """Return what the audit finds in what `data` names, nothing where patients are too few to tell."""
    audited = sampled_audit(data, reference_date)
    return [] if audited is None else audited.findings


def _folds(cohort: Cohort, seed: int) -> np.ndarray | None:
    """Return where each patient is held out [P]; None where a class has one patient or none."""
    rows = cohort.labelled
    fewest = min(int((cohort.labels == label).sum()) for label in CLASSES.values())
    if fewest < 2:
        return None
    n_folds, n_groups = min(FOLDS, fewest), len({*cohort.groups[rows]})
    if n_groups >= n_folds:
        fold_P = make_folds(cohort.labels, n_folds, 1, seed, groups_P=cohort.groups)[0]
        if usable(fold_P[rows], cohort.labels[rows], n_folds):
            return fold_P
    return make_folds(cohort.labels, n_folds, 1, seed)[0]


def enough_patients(labels_P: np.ndarray) -> bool:
    """Return whether there are so many labelled patients that a finding would be worth a line."""
    return all(int((labels_P == label).sum()) >= MIN_PER_CLASS for label in CLASSES.values())


def _empty_table() -> pd.DataFrame:
    return audit({"nothing": np.zeros(4)}, np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])).iloc[:0]


def _attributes(cohort: Cohort, rows: np.ndarray, data: str | Path | None, n_cells_P: np.ndarray | None) -> Attributes:
    """Return all attributes that differ between the patients, once each."""
    table = shortcuts(cohort, rows)
    found: Attributes = {name: table[name].to_numpy() for name in table}
    if n_cells_P is not None:
        found[BAG_SIZE] = n_cells_P[rows].astype(float)
    folder = None if data is None or str(data) == SIMULATED else Path(data).expanduser()
    if folder is not None and folder.is_dir():
        found |= origins(folder, cohort, rows)
    kept: Attributes = {}
    for name, values in found.items():
        columns = in_columns(values)
        if not is_constant(columns) and not any(np.array_equal(columns, in_columns(other)) for other in kept.values()):
            kept[name] = values
    return kept
