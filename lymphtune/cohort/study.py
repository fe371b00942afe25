"""Read a cohort from a folder: a table of patients, and a folder of pictures for each patient.

The study's layout is `clinical_annotation.csv`, `trainset/<ID>/`, `testset/<ID>/`; `cohort.yaml` describes others.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path

import pandas as pd

from lymphtune.cohort.blocks import CohortSurvey
from lymphtune.cohort.clinical import attributes_of, parents_of, read_clinical
from lymphtune.cohort.cohort import COLUMNS, REFERENCE_DATE, TO_PREDICT, Cohort
from lymphtune.cohort.folders import (
    RECURSIVE,
    SUFFIXES,
    UNSUPPORTED_SUFFIXES,
    FolderScan,
    Listing,
    PatientFolder,
    actual_path,
    check_link,
    folder_entries,
    list_folder,
    readable,
    scan_folders,
)
from lymphtune.cohort.layout import FILE, STUDY, Layout, layout_file, read_layout
from lymphtune.cohort.pictures import PictureFiles
from lymphtune.cohort.table import has_columns, ignored_age_note, open_table
from lymphtune.errors import InputError, one_line

# a file of this name marks a simulated cohort
MARKER = "SIMULATED"
LAYOUT = STUDY.described


def read_study(folder: Path, reference_date: date) -> Cohort:
    """Load the folder's cohort; its pictures are decoded or read from the cache.

    Raises InputError if the table or the folders are invalid or do not match.
    """
    return survey_study(folder, reference_date).load()


def survey_study(folder: Path, reference_date: date | None) -> CohortSurvey:
    """Read the folder's cohort without its pictures; raises InputError as `read_study` does.

    reference_date: None if ages are not needed; ages at a reference date are then missing.
    """
    layout, notes = _checked_layout(folder)
    clinical = read_clinical(table_path(folder, layout), reference_date, layout)
    attributes = attributes_of(clinical, layout)
    patients, sources, left_out = _patients_and_sources(folder, clinical, layout)
    return CohortSurvey(
        folder.resolve().name,
        patients,
        sources,
        reference_date or REFERENCE_DATE,
        is_simulated(folder),
        attributes=attributes,
        ages=layout.ages,
        notes=(*notes, *left_out),
    )


# from a range of rows to the patients' picture files
Sources = Callable[[range], list[PictureFiles]]


def _patients_and_sources(
    folder: Path, clinical: pd.DataFrame, layout: Layout
) -> tuple[pd.DataFrame, Sources, tuple[str, ...]]:
    """The patients in order of id, a function that lists their picture files, and notes on files that are not read."""
    scans = [scan_folders(folder, template) for template in layout.pictures.templates]
    found = patient_folders(folder, scans)
    parents = parents_of(table_path(folder, layout), layout)
    _check_sets(clinical, parents, found, layout, folder)
    _check_rows_of_folders(clinical, parents, found, layout, folder)
    clinical = clinical.sort_values("patient", key=lambda ids: ids.map(natural_key)).reset_index(drop=True)
    bags = [
        found[parents[patient][label == TO_PREDICT], patient]
        for patient, label in zip(clinical["patient"], clinical["label"], strict=True)
    ]
    listings = [_list_pictures(bag, folder) for bag in bags]
    counted = clinical.assign(n_cells=[len(one.names) for one in listings])
    patients = counted[[*COLUMNS, *(name for name in counted.columns if name not in COLUMNS)]]

    def sources(rows: range) -> list[PictureFiles]:
        # The folders are listed again, so that file names of all patients need not be kept in memory.
        found = [
            PictureFiles([bags[row].path / name for name in _list_pictures(bags[row], folder).names], bags[row].path)
            for row in rows
        ]
        for row, source in zip(rows, found, strict=True):
            if len(source) != patients["n_cells"][row]:
                raise InputError(f"{bags[row].path}: changed while it was read; start again")
        return found

    return patients, sources, (*_beside(scans), *_left_out(listings))


def patient_folders(folder: Path, scans: Sequence[FolderScan]) -> dict[tuple[str, str], PatientFolder]:
    """The patients' folders by parent and name; raises InputError on links out of the folder and duplicate names."""
    found: dict[tuple[str, str], PatientFolder] = {}
    for scan in scans:
        for place, why in scan.refused.items():
            raise InputError(f"{folder / place}: {why}")
        for one in scan.folders:
            other = found.setdefault((one.parent, one.patient), one)
            if other.path != one.path:
                raise InputError(
                    f"{other.path}: there are two folders of this name, with the same characters coded in two ways; "
                    "keep one of them"
                )
    return found


def _beside(scans: Sequence[FolderScan]) -> Iterator[str]:
    """Yield notes, without names, on folders and pictures outside the patients' folders."""
    unmatched = {place for scan in scans for place in scan.unmatched}
    stray = {place for scan in scans for place in scan.stray if place.lower().endswith(SUFFIXES)}
    if unmatched:
        yield f"not read: {_counted(len(unmatched), 'folder')} that no path of `pictures` in {FILE} fits"
    if stray:
        yield f"not read: {_counted(len(stray), 'picture')} beside patients' folders"


def _left_out(listings: Sequence[Listing]) -> tuple[str, ...]:
    """Notes, without ids, on pictures in subfolders and in unsupported formats."""
    below = [one.n_below for one in listings if one.n_below]
    unread = sum(name.lower().endswith(UNSUPPORTED_SUFFIXES) for one in listings for name in one.others)
    notes = []
    if below:
        notes.append(
            f"not read: {_counted(sum(below), 'picture')} in folders below those of {_counted(len(below), 'patient')}; "
            f"`/{RECURSIVE}` at the end of a path of `pictures` in {FILE} reads them, too"
        )
    if unread:
        notes.append(f"not read: {_counted(unread, 'picture')} in other formats than {', '.join(SUFFIXES)}")
    return tuple(notes)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def is_simulated(folder: Path) -> bool:
    return (folder / MARKER).exists()


def natural_key(patient: str) -> tuple[tuple[str | int, ...], str]:
    """A sort key that puts P2 before P10."""
    parts = re.split("([0-9]+)", patient)
    return tuple(int(part) if position % 2 else part for position, part in enumerate(parts)), patient


def _checked_layout(folder: Path) -> tuple[Layout, tuple[str, ...]]:
    """The folder's layout, fitted to its table's header, and notes on ignored columns.

    Raises InputError if the folder or its table does not exist.
    """
    layout = folder_layout(folder)
    header, layout, _ = open_table(table_path(folder, layout), layout)
    note = ignored_age_note(header, layout)
    return layout, (note,) if note else ()


def table_path(folder: Path, layout: Layout) -> Path:
    """The table's file; raises InputError if it does not exist or a link leads out of the folder."""
    path = actual_path(folder, layout.table)
    if not path.is_file():
        raise InputError(
            f"{folder}: no {layout.table} in it{_other_table(folder, layout)}; expected {layout.described}"
        )
    check_links(folder, path.relative_to(folder).as_posix())
    return path


def _other_table(folder: Path, layout: Layout) -> str:
    """A hint if exactly one other file of the folder may be the table, else ""."""
    found = [entry.name for entry in folder_entries(folder) if entry.name.lower().endswith((".csv", ".tsv"))]
    found = [name for name in found if not (folder / name).is_symlink() and (folder / name).is_file()]
    if len(found) > 1:
        found = [name for name in found if has_columns(folder / name, layout)]
    if len(found) != 1:
        return ""
    more = ', separator: "\\t"' if found[0].lower().endswith(".tsv") else ""
    return f", but {one_line(found[0])}: name it in {FILE} (`table: {one_line(found[0])}`{more}), or rename it"


def folder_layout(folder: Path) -> Layout:
    """The layout in the folder's cohort.yaml, or the study's; raises InputError if it is not a folder."""
    if not folder.exists():
        raise InputError(f"{folder}: no such folder; expected one with {LAYOUT}")
    if not folder.is_dir():
        raise InputError(f"{folder}: a file; expected a folder with {LAYOUT}, or a packed .parquet file")
    if (path := layout_file(folder)) is not None and path.is_symlink():
        check_link(path, folder)
    return read_layout(folder)


def check_links(folder: Path, below: str) -> None:
    """Raise InputError if a component of the path `below` is a link out of `folder`."""
    path = folder
    for step in Path(below).parts:
        path = path / step
        if path.is_symlink():
            check_link(path, folder)


# by parent folder and name
Folders = Mapping[tuple[str, str], PatientFolder]
# by patient: parent folder if it is labelled, and if it is to be predicted
Parents = Mapping[str, tuple[str, str]]


def _check_sets(clinical: pd.DataFrame, parents: Parents, found: Folders, layout: Layout, folder: Path) -> None:
    """Raise InputError unless every patient has a folder where its label and columns say, and none in the other set."""
    elsewhere: dict[str, list[str]] = {}
    for parent, patient in found:
        elsewhere.setdefault(patient, []).append(parent)
    for row, patient, label in zip(clinical.index, clinical["patient"], clinical["label"], strict=True):
        where = f"{folder / layout.table}, row {row} ({patient})"
        right, wrong = parents[patient] if label != TO_PREDICT else parents[patient][::-1]
        if wrong != right and (wrong, patient) in found:
            if (right, patient) in found:
                here, there = parents[patient]
                raise InputError(f"{where}: a folder in {here}/ and one in {there}/; keep {right}/{patient}")
            raise InputError(
                f"{where}: {layout.columns.label} is {label} and its pictures are in {wrong}/; "
                f"move them to {right}/ or correct the label"
            )
        if (right, patient) not in found:
            there = elsewhere.get(patient, [""])[0]
            but = f", but {there}/{patient}; move it, or correct the row" if there else ""
            cure = "; add its pictures or remove the row"
            raise InputError(f"{where}: no folder {'/'.join(filter(None, [right, patient]))}{but or cure}")


def _check_rows_of_folders(
    clinical: pd.DataFrame, parents: Parents, found: Folders, layout: Layout, folder: Path
) -> None:
    """Raise InputError if a folder has no row, or is not where its row says."""
    known = {(parent, patient) for patient, both in parents.items() for parent in both}
    strangers: dict[str, list[str]] = {}
    for parent, patient in found:
        if (parent, patient) not in known:
            strangers.setdefault(parent, []).append(patient)
    for parent, names in strangers.items():
        raise InputError(
            f"{folder / parent}: {_name_list(sorted(names, key=natural_key))} without a row in {layout.table}; "
            "add the row or remove the folder"
        )


def _name_list(names: Sequence[str]) -> str:
    some = ", ".join(map(repr, names[:3]))
    return f"{some} and {len(names) - 3} more folders ({len(names)} in all)" if len(names) > 3 else some


def _list_pictures(bag: PatientFolder, root: Path) -> Listing:
    found = readable(list_folder(bag.path, root, bag.recursive), bag.path)
    if not found.names:
        below = f"{found.n_below} in folders below it: `/{RECURSIVE}` at the end of `pictures` in {FILE} reads them"
        cure = below if found.n_below else "add some or remove the patient"
        raise InputError(f"{bag.path}: no picture in it ({', '.join(SUFFIXES)}); {cure}")
    return found
