"""Checks of roles: every patient has one row, one folder, in the set of its label, and one role."""

from collections.abc import Iterator

from lymphtune.cohort.clinical import NO_FOLDER
from lymphtune.cohort.cohort import GROUP, TO_PREDICT
from lymphtune.cohort.layout import FILE
from lymphtune.cohort.table import quoted
from lymphtune.console import counted
from lymphtune.doctor.evidence import Entry, Evidence
from lymphtune.doctor.ids import normalised_id
from lymphtune.findings import Finding


def _parents_by_patient(evidence: Evidence) -> dict[str, set[str]]:
    """The parent folders of each patient's folders."""
    parents: dict[str, set[str]] = {}
    for bag in evidence.bags:
        parents.setdefault(bag.patient, set()).add(bag.parent)
    return parents


def both_sets(evidence: Evidence) -> Iterator[Finding]:
    """Yield patients with a folder in both sets."""
    rows = evidence.rows
    if evidence.folder is None or len(evidence.layout.pictures.templates) == 1:
        return
    sets = set(evidence.layout.parents)
    places = tuple(
        patient
        for patient, found in _parents_by_patient(evidence).items()
        if len(found) > 1 and found >= set((rows[patient].parents if patient in rows else None) or sets)
    )
    if places:
        text = f"{counted(len(places), 'patient')} with a folder in {' and one in '.join(evidence.layout.parents)}"
        cure = "Keep the one of the patient's role: who trains must not be predicted."
        yield Finding("error", "two sets", text, cure, places)


def wrong_set(evidence: Evidence) -> Iterator[Finding]:
    """Yield patients whose pictures are in the set of the other role, or in a folder that their row does not name."""
    if evidence.folder is None:
        return
    found, column = _parents_by_patient(evidence), evidence.layout.columns.label
    placed = [(entry, found[entry.patient]) for entry in evidence.entries if entry.parent and entry.patient in found]
    other = [
        (entry, parents)
        for entry, parents in placed
        if entry.parent not in parents and parents & set(entry.parents or ())
    ]
    if other:
        places = tuple(f"{entry.place} in {'/'.join(parents)}, {column} {entry.label}" for entry, parents in other)
        text = f"{counted(len(other), 'patient')} whose pictures are in the set of the other role"
        yield Finding("error", "wrong set", text, "Move the folder, or correct the label.", places)
    strange = [
        (entry, parents - set(entry.parents or ())) for entry, parents in placed if parents - set(entry.parents or ())
    ]
    if strange:
        places = tuple(
            f"{entry.place} in {', '.join(f'{one}/{entry.patient}' for one in sorted(parents))}, not {entry.parent}"
            for entry, parents in strange
        )
        text = f"{counted(len(strange), 'patient')} with pictures in a folder that the row does not name"
        cure = "Move the folder, or correct the row's columns that `pictures` names."
        yield Finding("error", "wrong folder", text, cure, places)


def folder_names(evidence: Evidence) -> Iterator[Finding]:
    """Yield values that cannot name a folder, in columns that `pictures` uses."""
    columns = {name for template in evidence.layout.pictures.templates for name in template.columns}
    for column in sorted(columns):
        bad = [(entry, fault) for entry, fault in evidence.faults(column) if fault.kind == NO_FOLDER]
        if bad:
            text = f"{counted(len(bad), 'row')} whose {column} can name no folder of pictures"
            places = tuple(f"{entry.place} {quoted(fault.text)}" for entry, fault in bad)
            yield Finding("error", "folder name", text, f"Correct them, or `pictures` in {FILE}.", places)


def repeated_folders(evidence: Evidence) -> Iterator[Finding]:
    """Yield folders whose names differ only in Unicode form."""
    found: dict[tuple[str, str], list[str]] = {}
    for bag in evidence.bags:
        found.setdefault((bag.parent, bag.patient), []).append(bag.path)
    twice = {f"{parent}/{patient}": paths for (parent, patient), paths in found.items() if len(paths) > 1}
    if evidence.folder is not None and twice:
        text = f"{counted(len(twice), 'name')} of two folders each, the same characters coded in two ways"
        yield Finding("error", "repeated folder", text, "Keep one of the two.", tuple(twice))


def unmatched(evidence: Evidence) -> Iterator[Finding]:
    """Yield rows without a folder and folders without a row, with the probable counterpart."""
    if evidence.folder is None:
        return
    rows, folders = evidence.rows, {bag.patient: bag for bag in evidence.bags}
    without = [entry for patient, entry in rows.items() if patient and patient not in folders]
    lone = [bag for patient, bag in folders.items() if patient not in rows]
    folders_alike, rows_alike = (
        _by_normalised_id([bag.patient for bag in lone]),
        _by_normalised_id([entry.patient for entry in without]),
    )
    if without:
        places = tuple(entry.place + _suggestion(folders_alike.get(normalised_id(entry.patient))) for entry in without)
        text = f"{counted(len(without), 'row')} of the table without a folder of pictures"
        cure = f"Add pictures in {evidence.layout.described.partition(', ')[2]}, or remove the row."
        yield Finding("error", "no folder", text, cure, places)
    if lone and evidence.complete:
        places = tuple(bag.path + _suggestion(rows_alike.get(normalised_id(bag.patient))) for bag in lone)
        text = f"{counted(len(lone), 'folder')} without a row in {evidence.layout.table}"
        yield Finding("error", "no row", text, "Add the row, or remove the folder.", places)


def _by_normalised_id(patients: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for patient in patients:
        found.setdefault(normalised_id(patient), []).append(patient)
    return found


def _suggestion(candidates: list[str] | None) -> str:
    return f", probably {candidates[0]!r}" if candidates and len(candidates) == 1 else ""


def matches(evidence: Evidence) -> dict[str, str]:
    """The folder's name for every id without a folder that matches exactly one unused folder after normalisation."""
    rows, folders = set(evidence.rows), {bag.patient for bag in evidence.bags}
    lone, without = _by_normalised_id(sorted(folders - rows)), _by_normalised_id(sorted(rows - folders))
    return {
        patients[0]: lone[key][0]
        for key, patients in without.items()
        if len(patients) == 1 and len(lone.get(key, [])) == 1 and key
    }


def persons(evidence: Evidence) -> Iterator[Finding]:
    """Yield persons who are labelled in one row and to be predicted in another."""
    found: dict[str, list[Entry]] = {}
    for entry in evidence.entries:
        if "person" in entry.keys:
            found.setdefault(entry.keys["person"], []).append(entry)
    split = [rows for rows in found.values() if len({row.label == TO_PREDICT for row in rows}) > 1]
    if split:
        places = tuple(" and ".join(row.place for row in rows) for rows in split)
        text = f"{counted(len(split), 'person')} labelled in one row and to be predicted in another"
        yield Finding("error", "two roles", text, "Remove one of the two.", places)


def twins(evidence: Evidence) -> Iterator[Finding]:
    """Yield rows that may belong to one person: same sex, date of birth and count."""
    found: dict[tuple[object, ...], list[Entry]] = {}
    for entry in evidence.entries:
        age, count = entry.values.get("age_years"), entry.values.get("lymphocytes_g_per_l")
        if age is not None and count is not None and age == age and count == count and "sex" in entry.values:
            found.setdefault((entry.values["sex"], age, count), []).append(entry)
    alone = [rows for rows in found.values() if len({row.patient for row in rows}) > 1 and not _known_as_one(rows)]
    if alone:
        places = tuple(" and ".join(row.place for row in rows) for rows in alone)
        text = f"{counted(len(alone), 'group')} of rows alike in sex, age and count: perhaps the same person"
        cure = "Name a column of persons in cohort.yaml under `person`, so that they stay together, or remove one."
        yield Finding("warning", "twin rows", text, cure, places)


def _known_as_one(rows: list[Entry]) -> bool:
    """Whether the rows are known to belong together; a packed cohort stores groups without their kind."""
    return any(name in rows[0].keys and len({row.keys.get(name) for row in rows}) == 1 for name in ("person", GROUP))


CHECKS = (both_sets, wrong_set, folder_names, repeated_folders, unmatched, persons, twins)
