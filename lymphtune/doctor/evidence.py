"""Input of the checks: rows of the table, bags of pictures, and what is known of each picture.

Shapes: T side of a thumbnail.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from lymphtune.cohort.attributes import STANDARD
from lymphtune.cohort.clinical import BadValue
from lymphtune.cohort.cohort import TO_PREDICT, AgesAt
from lymphtune.cohort.depth import Depth
from lymphtune.cohort.layout import STUDY, Layout
from lymphtune.findings import Finding


@dataclass(frozen=True)
class Entry:
    """One patient of the table, with its texts and the values that could be parsed."""

    patient: str
    # row number in the spreadsheet; None in a packed or simulated cohort
    row: int | None = None
    # all cells of the row
    line: Sequence[str] = ()
    # cells by column; empty if the row's length differs from the header's
    texts: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    faults: Sequence[BadValue] = ()
    # values that patients of one group share, by kind of group
    keys: Mapping[str, str] = field(default_factory=dict)
    # parent folder of the patient's folder if it is labelled, and if it is to be predicted
    parents: tuple[str, str] | None = None

    @property
    def parent(self) -> str | None:
        """Expected parent folder of the patient's folder; None if it is unknown."""
        return None if self.parents is None or self.label is None else self.parents[self.label == TO_PREDICT]

    @property
    def place(self) -> str:
        return self.patient if self.row is None else f"row {self.row} ({self.patient})"

    @property
    def label(self) -> int | None:
        return self.values.get("label")


@dataclass(frozen=True)
class InspectedPicture:
    """Properties of one picture; `problem`: why it cannot be used, "" if it can."""

    name: str
    digest: str
    n_bytes: int
    problem: str = ""
    format: str = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    several_pages: bool = False
    # uint8 brightness
    thumbnail_TT: np.ndarray | None = None
    # standard deviation and mean of the thumbnail, in levels from 0 to 255
    contrast: float = 0.0
    brightness: float = 0.0
    # darkest and brightest pixel
    levels: tuple[int, int] = (0, 255)
    # only for pictures of more than 8 bits
    depth: Depth | None = None


@dataclass
class Bag:
    """One folder of pictures, or the pictures of one patient of a packed or simulated cohort."""

    # parent folder, relative to the cohort's folder; "" if the bag is not a folder
    parent: str
    patient: str
    # names of the picture files
    names: Sequence[str] = ()
    hidden: Sequence[str] = ()
    # files without a picture's suffix
    others: Sequence[str] = ()
    folders: Sequence[str] = ()
    # reason by name for entries that must not be read; the name "" is the folder itself
    refused: Mapping[str, str] = field(default_factory=dict)
    inspected: list[InspectedPicture] = field(default_factory=list)
    # path as the file system spells it; "" if it equals home/patient
    at: str = ""
    # pictures in subfolders that are not read
    n_below: int = 0

    @property
    def path(self) -> str:
        return self.at or (f"{self.parent}/{self.patient}" if self.parent else self.patient)

    def place(self, name: str) -> str:
        return f"{self.path}/{name}"


@dataclass
class Evidence:
    """Everything about a cohort that the checks use."""

    name: str
    reference_date: date
    # None for a packed or simulated cohort
    folder: Path | None = None
    simulated: bool = False
    layout: Layout = STUDY
    # columns of the table
    columns: Sequence[str] = ()
    entries: list[Entry] = field(default_factory=list)
    bags: list[Bag] = field(default_factory=list)
    ages: AgesAt = "reference_date"
    # names of the numeric values
    attributes: Sequence[str] = tuple(attribute.name for attribute in STANDARD)
    # findings made while the cohort was read
    reading_findings: list[Finding] = field(default_factory=list)
    # False if rows could not be read; checks for missing rows are then skipped
    complete: bool = True
    pictures_inspected: bool = False

    @property
    def aged_at(self) -> str:
        """The day at which ages are computed, as text."""
        return "at the examination" if self.ages == "examination" else f"at {self.reference_date}"

    def with_label(self, label: int) -> list[Entry]:
        return [entry for entry in self.entries if entry.label == label]

    @property
    def labelled(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.label is not None and entry.label != TO_PREDICT]

    @property
    def rows(self) -> dict[str, Entry]:
        """The first entry of each id."""
        found: dict[str, Entry] = {}
        for entry in self.entries:
            found.setdefault(entry.patient, entry)
        return found

    def faults(self, *columns: str | None) -> Iterator[tuple[Entry, BadValue]]:
        """Yield the values of these columns that could not be parsed."""
        for entry in self.entries:
            for fault in entry.faults:
                if fault.column in columns:
                    yield entry, fault

    def inspected(self) -> Iterator[tuple[Bag, InspectedPicture]]:
        """Yield each inspected picture."""
        for bag in self.bags:
            for picture in bag.inspected:
                yield bag, picture

    def sound(self) -> Iterator[tuple[Bag, InspectedPicture]]:
        """Yield each usable picture."""
        return ((bag, picture) for bag, picture in self.inspected() if not picture.problem)
