"""A cohort in a folder: a table of patients and a folder of pictures each, as the study's or as cohort.yaml says.

The study's layout is `clinical_annotation.csv`, `trainset/<ID>/`, `testset/<ID>/`.
"""

import re
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import pandas as pd

from lymphtune.cohort.blocks import Surveyed
from lymphtune.cohort.clinical import attributes_of, read_clinical
from lymphtune.cohort.cohort import COLUMNS, REFERENCE_DATE, Cohort
from lymphtune.cohort.layout import FILE, STUDY, Layout, read_layout
from lymphtune.cohort.pictures import (
    SUFFIXES,
    PictureFiles,
    check_link,
    entries,
    picture_names,
)
from lymphtune.cohort.table import open_table, unread_ages
from lymphtune.errors import InputError

MARKER = "SIMULATED"  # a file of this name tells a simulated folder from a real one
LAYOUT = STUDY.described


def read_study(folder: Path, reference_date: date) -> Cohort:
    """Return the folder's cohort, its pictures decoded or taken from the cache.

    Raises InputError where the table or the folders are not as they should be, or do not fit together.
    """
    return survey_study(folder, reference_date).whole()


def survey_study(folder: Path, reference_date: date | None) -> Surveyed:
    """Return the folder's cohort before any picture is read; raises InputError as `read_study` does.

    reference_date: None where nobody asks for ages, which then are missing where they would be counted to one day.
    """
    layout, notes = _checked_layout(folder)
    clinical = read_clinical(folder / layout.table, reference_date, layout)
    attributes = attributes_of(clinical, layout)
    patients, sources = _listed(folder, clinical, layout)
    return Surveyed(
        folder.resolve().name, patients, sources, reference_date or REFERENCE_DATE, is_simulated(folder),
        attributes=attributes, ages=layout.ages, notes=notes,
    )  # fmt: skip


Sources = Callable[[range], list[PictureFiles]]  # the picture files of the patients in some rows


def _listed(folder: Path, clinical: pd.DataFrame, layout: Layout) -> tuple[pd.DataFrame, Sources]:
    """Return the patients in order of id, and what lists their picture files."""
    sets = {home: _patient_folders(folder, home) for home in layout.homes}
    _check_sets(clinical, sets, folder, layout)
    for name, ids in sets.items():
        _check_known(ids - set(clinical["patient"]), folder / name, layout)
    clinical = clinical.sort_values("patient", key=lambda ids: ids.map(natural_key)).reset_index(drop=True)
    bags = [
        folder / layout.home(label) / patient
        for patient, label in zip(clinical["patient"], clinical["label"], strict=True)
    ]
    counted = clinical.assign(n_cells=[len(_names(bag, folder)) for bag in bags])
    patients = counted[[*COLUMNS, *(name for name in counted.columns if name not in COLUMNS)]]

    def sources(rows: range) -> list[PictureFiles]:
        # listed once more: the names of all patients' pictures would be held as long as the cohort
        found = [PictureFiles([bags[row] / name for name in _names(bags[row], folder)]) for row in rows]
        for row, source in zip(rows, found, strict=True):
            if len(source) != patients["n_cells"][row]:
                raise InputError(f"{bags[row]}: changed while it was read; start again")
        return found

    return patients, sources


def is_simulated(folder: Path) -> bool:
    return (folder / MARKER).exists()


def natural_key(patient: str) -> tuple[tuple[str | int, ...], str]:
    """Return a sort key by which P2 comes before P10."""
    parts = re.split("([0-9]+)", patient)
    return tuple(int(part) if position % 2 else part for position, part in enumerate(parts)), patient


def _checked_layout(folder: Path) -> tuple[Layout, tuple[str, ...]]:
    """Return the folder's layout, fitted to its table's header, and notes on what is not read of the table.

    Raises InputError where there is no such folder, or no table in it.
    """
    layout = folder_layout(folder)
    if not (folder / layout.table).is_file():
        raise InputError(f"{folder}: no {layout.table} in it; expected {layout.described}")
    check_links(folder, layout.table)
    header, layout, _ = open_table(folder / layout.table, layout)
    note = unread_ages(header, layout)
    return layout, (note,) if note else ()


def folder_layout(folder: Path) -> Layout:
    """Return what the folder's cohort.yaml says, or the study's layout; raises InputError where it is no folder."""
    if not folder.exists():
        raise InputError(f"{folder}: no such folder; expected one with {LAYOUT}")
    if not folder.is_dir():
        raise InputError(f"{folder}: a file; expected a folder with {LAYOUT}, or a packed .parquet file")
    if (folder / FILE).is_symlink():
        check_link(folder / FILE, folder)
    return read_layout(folder)


def check_links(folder: Path, below: str) -> None:
    """Raise InputError where a step of the way down from `folder` is a link that leads out of it."""
    path = folder
    for step in Path(below).parts:
        path = path / step
        if path.is_symlink():
            check_link(path, folder)


def _patient_folders(folder: Path, name: str) -> set[str]:
    """Return the names of the folders in one set, none where the set is missing."""
    if not (folder / name).is_dir():
        return set()
    check_links(folder, name)
    found = [entry for entry in entries(folder / name) if entry.is_dir() and not entry.name.startswith(".")]
    for entry in found:
        if entry.is_symlink():
            check_link(folder / name / entry.name, folder)
    return {entry.name for entry in found}


def _check_sets(clinical: pd.DataFrame, sets: dict[str, set[str]], folder: Path, layout: Layout) -> None:
    """Raise InputError unless every patient has a folder in the set of its label, and in no other."""
    for row, patient, label in zip(clinical.index, clinical["patient"], clinical["label"], strict=True):
        where = f"{folder / layout.table}, row {row} ({patient})"
        right = layout.home(label)
        for wrong in (name for name in sets if name != right):
            if patient in sets[right] and patient in sets[wrong]:
                here, there = layout.homes
                raise InputError(f"{where}: a folder in {here}/ and one in {there}/; keep {right}/{patient}")
            if patient in sets[wrong]:
                raise InputError(
                    f"{where}: {layout.columns.label} is {label} and its pictures are in {wrong}/; "
                    f"move them to {right}/ or correct the label"
                )
        if patient not in sets[right]:
            raise InputError(f"{where}: no folder {right}/{patient}; add its pictures or remove the row")


def _check_known(strangers: set[str], where: Path, layout: Layout) -> None:
    if strangers:
        raise InputError(
            f"{where}: {_named(sorted(strangers, key=natural_key))} without a row in {layout.table}; "
            "add the row or remove the folder"
        )


def _named(names: Sequence[str]) -> str:
    some = ", ".join(map(repr, names[:3]))
    return f"{some} and {len(names) - 3} more folders ({len(names)} in all)" if len(names) > 3 else some


def _names(folder: Path, root: Path) -> list[str]:
    names = picture_names(folder, root)
    if not names:
        raise InputError(f"{folder}: no picture in it ({', '.join(SUFFIXES)}); add some or remove the patient")
    return names
