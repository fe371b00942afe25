"""A cohort in the study's layout: `clinical_annotation.csv`, `trainset/<ID>/`, `testset/<ID>/`."""

import re
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import pandas as pd

from lymphtune.cohort.blocks import Surveyed
from lymphtune.cohort.clinical import read_clinical
from lymphtune.cohort.cohort import COLUMNS, TO_PREDICT, Cohort
from lymphtune.cohort.pictures import (
    SUFFIXES,
    PictureFiles,
    check_link,
    entries,
    find_pictures,
)
from lymphtune.errors import InputError

CLINICAL = "clinical_annotation.csv"
TRAINSET, TESTSET = "trainset", "testset"
MARKER = "SIMULATED"  # a file of this name tells a simulated folder from a real one
LAYOUT = f"{CLINICAL}, {TRAINSET}/<ID>/*.jpg and {TESTSET}/<ID>/*.jpg"


def read_study(folder: Path, reference_date: date) -> Cohort:
    """Return the folder's cohort, its pictures decoded or taken from the cache.

    Raises InputError where the table or the folders are not as they should be, or do not fit together.
    """
    return survey_study(folder, reference_date).whole()


def survey_study(folder: Path, reference_date: date) -> Surveyed:
    """Return the folder's cohort before any picture is read; raises InputError as `read_study` does."""
    patients, sources = _listed(folder, reference_date)
    return Surveyed(folder.resolve().name, patients, sources, reference_date, is_simulated(folder))


def survey(folder: Path, reference_date: date) -> tuple[pd.DataFrame, list[PictureFiles]]:
    """Return the patients in order of id (columns COLUMNS) and the picture files of each; decode nothing."""
    patients, sources = _listed(folder, reference_date)
    return patients, sources(range(len(patients)))


def _listed(folder: Path, reference_date: date) -> tuple[pd.DataFrame, Callable[[range], list[PictureFiles]]]:
    """Return the patients, and what lists the picture files of those in some rows."""
    _check_layout(folder)
    clinical = read_clinical(folder / CLINICAL, reference_date)
    sets = {name: _patient_folders(folder, name) for name in (TRAINSET, TESTSET)}
    _check_sets(clinical, sets, folder)
    for name, ids in sets.items():
        _check_known(ids - set(clinical["patient"]), folder / name)
    clinical = clinical.sort_values("patient", key=lambda ids: ids.map(natural_key)).reset_index(drop=True)
    bags = [
        folder / home(label) / patient for patient, label in zip(clinical["patient"], clinical["label"], strict=True)
    ]
    patients = clinical.assign(n_cells=[len(_bag(bag, folder)) for bag in bags])[list(COLUMNS)]

    def sources(rows: range) -> list[PictureFiles]:
        # listed once more: the names of all patients' pictures would be held as long as the cohort
        found = [PictureFiles(_bag(bags[row], folder)) for row in rows]
        for row, source in zip(rows, found, strict=True):
            if len(source) != patients["n_cells"][row]:
                raise InputError(f"{bags[row]}: changed while it was read; start again")
        return found

    return patients, sources


def is_simulated(folder: Path) -> bool:
    return (folder / MARKER).exists()


def home(label: int) -> str:
    """Return the set that holds the pictures of a patient with this label."""
    return TESTSET if label == TO_PREDICT else TRAINSET


def natural_key(patient: str) -> tuple[tuple[str | int, ...], str]:
    """Return a sort key by which P2 comes before P10."""
    parts = re.split("([0-9]+)", patient)
    return tuple(int(part) if position % 2 else part for position, part in enumerate(parts)), patient


def _check_layout(folder: Path) -> None:
    if not folder.exists():
        raise InputError(f"{folder}: no such folder; expected one with {LAYOUT}")
    if not folder.is_dir():
        raise InputError(f"{folder}: a file; expected a folder with {LAYOUT}, or a packed .parquet file")
    if not (folder / CLINICAL).is_file():
        raise InputError(f"{folder}: no {CLINICAL} in it; expected {LAYOUT}")
    if (folder / CLINICAL).is_symlink():
        check_link(folder / CLINICAL, folder)


def _patient_folders(folder: Path, name: str) -> set[str]:
    """Return the names of the folders in one set, none where the set is missing."""
    if not (folder / name).is_dir():
        return set()
    if (folder / name).is_symlink():
        check_link(folder / name, folder)
    found = [entry for entry in entries(folder / name) if entry.is_dir() and not entry.name.startswith(".")]
    for entry in found:
        if entry.is_symlink():
            check_link(folder / name / entry.name, folder)
    return {entry.name for entry in found}


def _check_sets(clinical: pd.DataFrame, sets: dict[str, set[str]], folder: Path) -> None:
    """Raise InputError unless every patient has a folder in the set of its label, and in no other."""
    for row, patient, label in zip(clinical.index, clinical["patient"], clinical["label"], strict=True):
        where = f"{folder / CLINICAL}, row {row} ({patient})"
        right = home(label)
        wrong = TRAINSET if right == TESTSET else TESTSET
        if patient in sets[TRAINSET] and patient in sets[TESTSET]:
            raise InputError(f"{where}: a folder in {TRAINSET}/ and one in {TESTSET}/; keep {right}/{patient}")
        if patient in sets[wrong]:
            raise InputError(
                f"{where}: LABEL is {label} and its pictures are in {wrong}/; "
                f"move them to {right}/ or correct the label"
            )
        if patient not in sets[right]:
            raise InputError(f"{where}: no folder {right}/{patient}; add its pictures or remove the row")


def _check_known(strangers: set[str], where: Path) -> None:
    if strangers:
        raise InputError(
            f"{where}: {_named(sorted(strangers, key=natural_key))} without a row in {CLINICAL}; "
            "add the row or remove the folder"
        )


def _named(names: Sequence[str]) -> str:
    some = ", ".join(map(repr, names[:3]))
    return f"{some} and {len(names) - 3} more folders ({len(names)} in all)" if len(names) > 3 else some


def _bag(folder: Path, root: Path) -> list[Path]:
    paths = find_pictures(folder, root)
    if not paths:
        raise InputError(f"{folder}: no picture in it ({', '.join(SUFFIXES)}); add some or remove the patient")
    return paths
