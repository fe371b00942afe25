"""The shortcut audit: what of a cohort ought not to matter, and whether it tells the label alone.

Shapes: P patients with a label, in the cohort's order.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lymphtune.cohort import SIMULATED, Cohort
from lymphtune.cohort.folds import CLASSES, make_folds
from lymphtune.cohort.origins import Attributes, alike, origins
from lymphtune.cohort.pseudonyms import are_pseudonyms
from lymphtune.cohort.shortcuts import BAG_SIZE, shortcuts
from lymphtune.statistics.audit import audit, in_columns

SIGNIFICANT = 0.05
FOLDS = 5
FEWEST = 10  # patients of each class, of whom anything can be told


@dataclass(frozen=True)
class Shortcuts:
    """What was found; table: as `audit` returns it, empty where nothing differs between the patients."""

    table: pd.DataFrame

    @property
    def suspects(self) -> pd.DataFrame:
        """Return the rows that beat chance taken alone, best first."""
        return self.table[self.table["p"] < SIGNIFICANT]

    @property
    def sure(self) -> pd.DataFrame:
        """Return the rows that beat chance among all that were tried, best first."""
        return self.table[self.table["p_all"] < SIGNIFICANT]

    @property
    def findings(self) -> list[str]:
        """Return a line for each attribute that beats chance among all that were tried."""
        return [
            f"{row.attribute} alone predicts the label: balanced accuracy {row.balanced_accuracy:.2f}, AUC "
            f"{row.auc:.2f} out of fold (by chance up to {row.auc_high:.2f}; p = {row.p_all:.3g} with all "
            f"{len(self.table)} tried); a network may learn it in place of the disease"
            + (", and cannot with `bag_size: fixed`" if row.attribute == BAG_SIZE else "")
            for row in self.sure.itertuples()
        ]


def shortcut_audit(
    cohort: Cohort, data: str | Path | None = None, fold_P: np.ndarray | None = None, seed: int = 0
) -> Shortcuts:
    """Return what each attribute tells of the label of the cohort's labelled patients, each alone, out of fold.

    data: what the cohort was read from; where it is a folder, its files and table are looked at too. fold_P: where
    each patient of the cohort is held out, -1 never; None: FOLDS stratified folds, or as many as the smaller class has
    patients, groups kept together.
    """
    rows = cohort.labelled
    labels_P = cohort.labels[rows]
    if fold_P is None:
        fewest = min(int((labels_P == label).sum()) for label in CLASSES.values())
        if fewest < 2:
            return Shortcuts(_nothing())
        fold_P = make_folds(cohort.labels, min(FOLDS, fewest), 1, seed, groups_P=cohort.groups)[0]
    given = _attributes(cohort, rows, data)
    return Shortcuts(audit(given, labels_P, fold_P[rows], seed) if given else _nothing())


def enough(cohort: Cohort) -> bool:
    """Return whether the cohort has so many labelled patients that a finding would be worth a line."""
    return all(int((cohort.labels == label).sum()) >= FEWEST for label in CLASSES.values())


def _nothing() -> pd.DataFrame:
    return audit({"nothing": np.zeros(4)}, np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])).iloc[:0]


def _attributes(cohort: Cohort, rows: np.ndarray, data: str | Path | None) -> Attributes:
    """Return all attributes that differ between the patients, once each."""
    table = shortcuts(cohort, rows)
    found: Attributes = {name: table[name].to_numpy() for name in table}
    folder = None if data is None or str(data) == SIMULATED else Path(data).expanduser()
    if folder is not None and folder.is_dir() and not are_pseudonyms(cohort.ids):  # by which no file goes
        found |= origins(folder, cohort, rows)
    kept: Attributes = {}
    for name, values in found.items():
        columns = in_columns(values)
        if not alike(columns) and not any(np.array_equal(columns, in_columns(other)) for other in kept.values()):
            kept[name] = values
    return kept
