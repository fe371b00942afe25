"""The shortcut audit: whether properties that should not matter predict the label alone.

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
# patients of each class below which no audit is made
MIN_PER_CLASS = 10
# p-value (over all attributes) below which a finding is a warning: 1 in 100 audits of valid cohorts has one
WARNING_P = 0.01
# pictures decoded at once, 600 MB
MAX_PICTURES = 4000
CURE = "Find out why the classes differ in it, and collect both classes alike."


@dataclass(frozen=True)
class ShortcutAudit:
    """Result of the audit; table: as `audit` returns it, empty if no attribute varies between patients."""

    table: pd.DataFrame

    @property
    def suspects(self) -> pd.DataFrame:
        """The rows that are significant without correction for multiple tests, best first."""
        return self.table[self.table["p"] < SIGNIFICANT]

    @property
    def significant(self) -> pd.DataFrame:
        """The rows that are significant after correction for all attributes tried, best first."""
        return self.table[self.table["p_all"] < SIGNIFICANT]

    @property
    def findings(self) -> list[Finding]:
        """One finding per significant attribute: a warning below WARNING_P, else a note."""
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
    """Predict the labels of the cohort's labelled patients from each attribute alone, out of fold.

    data: what the cohort was read from; attributes of a folder's files and table are included.
    fold_P: the fold that holds out each patient of the cohort, -1 for none; None makes FOLDS stratified folds (fewer
    if a class is smaller) and keeps groups together if possible.
    n_cells_P: cells of each patient if the cohort holds only some of them.
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
    """Audit the cohort that `data` names on a few pictures of each patient, decoded in memory.

    None if there are too few patients. Raises InputError as reading the cohort does.
    """
    surveyed = survey_cohort(data, reference_date)
    if not enough_patients(surveyed.patients["label"].to_numpy()):
        return None
    cohort = surveyed.subsample(max(1, min(CELLS_PER_PATIENT, MAX_PICTURES // len(surveyed))))
    return shortcut_audit(cohort, data, n_cells_P=surveyed.patients["n_cells"].to_numpy())


def shortcut_findings(data: str | Path, reference_date: date) -> list[Finding]:
    """Findings of the audit of the cohort that `data` names; [] if there are too few patients."""
    audited = sampled_audit(data, reference_date)
    return [] if audited is None else audited.findings


def _folds(cohort: Cohort, seed: int) -> np.ndarray | None:
    """The fold [P] that holds out each patient; None if a class has fewer than two patients."""
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
    """Whether each class has at least MIN_PER_CLASS labelled patients."""
    return all(int((labels_P == label).sum()) >= MIN_PER_CLASS for label in CLASSES.values())


def _empty_table() -> pd.DataFrame:
    return audit({"nothing": np.zeros(4)}, np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])).iloc[:0]


def _attributes(cohort: Cohort, rows: np.ndarray, data: str | Path | None, n_cells_P: np.ndarray | None) -> Attributes:
    """All attributes that vary between the patients, without duplicates."""
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
