"""Checks of ids: valid as folder names, unique, and not merely different spellings of each other."""

import re
import unicodedata
from collections.abc import Iterator

from lymphtune.cohort.clinical import id_problem
from lymphtune.console import counted
from lymphtune.doctor.evidence import Evidence
from lymphtune.findings import Finding

# leading zeros, and spaces except between digits
PADDING = re.compile(r"(?<![0-9])\s+|\s+(?![0-9])|(?<![0-9])0+(?=[0-9])")


def normalised_id(patient: str) -> str:
    """The id without case, spaces, leading zeros and Unicode variants (NFKC)."""
    return PADDING.sub("", unicodedata.normalize("NFKC", patient).casefold())


def unusable(evidence: Evidence) -> Iterator[Finding]:
    """Yield ids that cannot name a folder."""
    bad = [(entry, problem) for entry in evidence.entries if (problem := id_problem(entry.patient))]
    if bad:
        places = tuple(f"{entry.place} {problem}" for entry, problem in bad)
        text = f"{counted(len(bad), 'id')} that cannot name a folder"
        yield Finding("error", "id", text, "Give these patients ids of letters and digits, and their folders.", places)


def repeated(evidence: Evidence) -> Iterator[Finding]:
    """Yield ids that occur in more than one row."""
    rows: dict[str, list[str]] = {}
    for entry in evidence.entries:
        rows.setdefault(entry.patient, []).append(str(entry.row))
    twice = {patient: found for patient, found in rows.items() if len(found) > 1 and patient}
    if twice:
        places = tuple(f"{patient} (rows {', '.join(found)})" for patient, found in twice.items())
        text = f"{counted(len(twice), 'id')} in more than one row"
        yield Finding("error", "repeated id", text, "Keep one row per patient.", places)


def similar_ids(evidence: Evidence) -> Iterator[Finding]:
    """Yield ids, of rows or folders, that differ only in case, spaces, leading zeros or Unicode form."""
    spellings: dict[str, dict[str, None]] = {}
    for patient in [*(entry.patient for entry in evidence.entries), *(bag.patient for bag in evidence.bags)]:
        spellings.setdefault(normalised_id(patient), {})[patient] = None
    rows, folders = set(evidence.rows), {bag.patient for bag in evidence.bags}
    # a row and a folder that differ from each other are reported by roles.unmatched
    several = [tuple(found) for found in spellings.values() if len(rows & {*found}) > 1 or len(folders & {*found}) > 1]
    if several:
        text = (
            f"{counted(len(several), 'group')} of ids that differ only by case, spaces, zeros or codes of a character"
        )
        cure = "Keep one row and one folder where they are one patient; give them ids that differ where they are not."
        yield Finding("warning", "similar ids", text, cure, tuple(" and ".join(map(repr, one)) for one in several))


CHECKS = (unusable, repeated, similar_ids)
