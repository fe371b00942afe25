"""What an examination looks at: the rows of the table, the bags of pictures, and what was seen of each picture.

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
    """One patient of the table: its texts as they stand there, its values as far as they can be read."""

    patient: str
    row: int | None = None  # of the spreadsheet; None: of a packed or simulated cohort
    line: Sequence[str] = ()  # of the table, as it stands
    texts: Mapping[str, str] = field(default_factory=dict)  # by column; of a line that fits the header
    values: Mapping[str, Any] = field(default_factory=dict)
    faults: Sequence[BadValue] = ()
    keys: Mapping[str, str] = field(default_factory=dict)  # shared with others of its group
    homes: tuple[str, str] | None = None  # folders in which its own lies where it is labelled, and to be predicted

    @property
    def home(self) -> str | None:
        """Return the folder in which the patient's own has to lie; None where that cannot be told."""
        return None if self.homes is None or self.label is None else self.homes[self.label == TO_PREDICT]

    @property
    def place(self) -> str:
        return self.patient if self.row is None else f"row {self.row} ({self.patient})"

    @property
    def label(self) -> int | None:
        return self.values.get("label")


@dataclass(frozen=True)
class InspectedPicture:
    """What was seen of one picture; `problem`: why it cannot be used, "" where it can."""

    name: str
    digest: str
    n_bytes: int
    problem: str = ""
    format: str = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    several_pages: bool = False
    thumbnail_TT: np.ndarray | None = None  # uint8, brightness
    contrast: float = 0.0  # standard deviation of the thumbnail
    brightness: float = 0.0  # 0 to 255
    levels: tuple[int, int] = (0, 255)  # the darkest and the brightest of all pixels
    depth: Depth | None = None  # where it has more than 8 bits


@dataclass
class Bag:
    """One folder of pictures, or the pictures of one patient of a packed or simulated cohort."""

    home: str  # the folder it lies in, below the cohort's; "": not a folder
    patient: str
    names: Sequence[str] = ()  # of its pictures
    hidden: Sequence[str] = ()
    others: Sequence[str] = ()  # files that are no pictures by their names
    folders: Sequence[str] = ()
    refused: Mapping[str, str] = field(default_factory=dict)  # entries that must not be read, and why; "": itself
    inspected: list[InspectedPicture] = field(default_factory=list)
    at: str = ""  # where it lies, as the file system spells it; "": as home and patient say
    n_below: int = 0  # pictures in folders below it that are not looked into

    @property
    def path(self) -> str:
        return self.at or (f"{self.home}/{self.patient}" if self.home else self.patient)

    def place(self, name: str) -> str:
        return f"{self.path}/{name}"


@dataclass
class Evidence:
    """All of a cohort that its checks look at."""

    name: str
    reference_date: date
    folder: Path | None = None  # None: packed or simulated
    simulated: bool = False
    layout: Layout = STUDY
    columns: Sequence[str] = ()  # of the table
    entries: list[Entry] = field(default_factory=list)
    bags: list[Bag] = field(default_factory=list)
    ages: AgesAt = "reference_date"
    attributes: Sequence[str] = tuple(attribute.name for attribute in STANDARD)  # numbers among the values
    reading_findings: list[Finding] = field(default_factory=list)  # found while reading
    complete: bool = True  # False: rows are missing, so nothing is said of who has none
    pictures_inspected: bool = False

    @property
    def aged_at(self) -> str:
        """Return to what ages are counted, in words."""
        return "at the examination" if self.ages == "examination" else f"at {self.reference_date}"

    def with_label(self, label: int) -> list[Entry]:
        return [entry for entry in self.entries if entry.label == label]

    @property
    def labelled(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.label is not None and entry.label != TO_PREDICT]

    @property
    def rows(self) -> dict[str, Entry]:
        """Return the first entry of each id."""
        found: dict[str, Entry] = {}
        for entry in self.entries:
            found.setdefault(entry.patient, entry)
        return found

    def faults(self, *columns: str | None) -> Iterator[tuple[Entry, BadValue]]:
        """Yield what cannot be read in these columns of the table."""
        for entry in self.entries:
            for fault in entry.faults:
                if fault.column in columns:
                    yield entry, fault

    def inspected(self) -> Iterator[tuple[Bag, InspectedPicture]]:
        """Yield each picture that was looked at."""
        for bag in self.bags:
            for picture in bag.inspected:
                yield bag, picture

    def sound(self) -> Iterator[tuple[Bag, InspectedPicture]]:
        """Yield each picture that can be used."""
        return ((bag, picture) for bag, picture in self.inspected() if not picture.problem)
