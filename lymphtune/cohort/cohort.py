"""A cohort: patients with their clinical attributes, and their bags of cells as one array.

Shapes: P patients, C cells of all patients, S picture side in pixels.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd

from lymphtune.cohort.attributes import STANDARD, Attribute, attribute_matrix
from lymphtune.times import REFERENCE_DATE

PICTURE_PX = 224  # side of a picture in a cohort's array
REACTIVE, TUMORAL, TO_PREDICT = 0, 1, -1
GROUP = "group"  # column of those who stay together
AgesAt = Literal["examination", "reference_date"]  # the day that each patient's age is counted to
COLUMNS = ("patient", "label", "sex", "age_years", "lymphocytes_g_per_l", "n_cells")


@dataclass(frozen=True)
class Cohort:
    """Patients (in order of id) and the cells of each, one after the other.

    patients: one row a patient, columns COLUMNS: id (str), label (0 reactive, 1 tumoral, -1 to be
    predicted), sex ("F", "M" or "" where unknown), age in years, lymphocytes in 10^9/L, number of cells.
    Then maybe more attributes, and maybe GROUP: patients of one group stay in one fold.
    attributes: those of a patient's columns that models are shown.
    pictures_CSS3: uint8 RGB, read-only; the cells of patient p are rows starts[p] to starts[p + 1].
    picture_digests: SHA-256 of each cell's encoded file, C hexadecimal strings.
    ages: whether ages are counted to each patient's examination, or to `reference_date`.
    """

    name: str
    patients: pd.DataFrame
    pictures_CSS3: np.ndarray
    picture_digests: Sequence[str]
    reference_date: date = REFERENCE_DATE
    simulated: bool = False
    notes: Sequence[str] = field(default_factory=tuple)  # what was converted or left out while reading
    attributes: tuple[Attribute, ...] = STANDARD
    ages: AgesAt = "reference_date"

    def __post_init__(self) -> None:
        counts = self.patients["n_cells"].to_numpy()
        if int(counts.sum()) != len(self.pictures_CSS3) or len(self.picture_digests) != len(self.pictures_CSS3):
            raise ValueError(f"{counts.sum()} cells counted, {len(self.pictures_CSS3)} pictures held")

    def __getstate__(self) -> dict[str, Any]:
        """Let mapped pictures travel between the processes of a host as their file's name, not as bytes."""
        state = dict(self.__dict__)
        mapped = self.pictures_CSS3
        if isinstance(mapped, np.memmap):
            state["pictures_CSS3"] = (mapped.filename, mapped.offset, mapped.shape)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        held = state["pictures_CSS3"]
        if isinstance(held, tuple):
            name, offset, shape = held
            state = state | {"pictures_CSS3": np.memmap(name, np.uint8, "r", offset, shape)}
        self.__dict__.update(state)

    @property
    def starts(self) -> np.ndarray:
        """Return P + 1 row numbers: where each patient's cells start, and the end of the last."""
        return np.concatenate([[0], self.patients["n_cells"].to_numpy().cumsum()])

    def bag(self, patient: int) -> np.ndarray:
        """Return the pictures [n, S, S, 3] of the patient in row `patient`, without a copy."""
        starts = self.starts
        return self.pictures_CSS3[starts[patient] : starts[patient + 1]]

    @property
    def digests_of_bags(self) -> list[Sequence[str]]:
        """Return the digests of each patient's pictures, P lists."""
        return [self.picture_digests[low:high] for low, high in pairwise(self.starts)]

    @property
    def attributes_PA(self) -> np.ndarray:
        """Return [P, A] float64: the attributes as models are shown them, NaN where a value is missing."""
        return attribute_matrix(self.patients, self.attributes)

    @property
    def groups(self) -> np.ndarray:
        """Return the group [P] of every patient: its own id where none is named."""
        return self.patients[GROUP if GROUP in self.patients else "patient"].to_numpy()

    @property
    def title(self) -> str:
        """Return its name, marked where it is simulated."""
        return self.name + (" (SIMULATED)" if self.simulated else "")

    @property
    def ids(self) -> list[str]:
        """Return the id of every patient."""
        return self.patients["patient"].tolist()

    @property
    def about(self) -> dict[str, str]:
        """Return what every file written from this cohort says of it: nothing simulated passes for real."""
        return file_metadata(self.name, self.hash, self.simulated)

    @property
    def labels(self) -> np.ndarray:
        """Return the label [P] of every patient: 0 reactive, 1 tumoral, -1 to be predicted."""
        return self.patients["label"].to_numpy()

    @property
    def labelled(self) -> np.ndarray:
        """Return the rows of patients whose label is known."""
        return np.flatnonzero(self.labels != TO_PREDICT)

    @property
    def to_predict(self) -> np.ndarray:
        """Return the rows of patients whose label is to be predicted."""
        return np.flatnonzero(self.labels == TO_PREDICT)

    @property
    def hash(self) -> str:
        """Return 16 hexadecimal digits that change with any patient's attributes, label or pictures."""
        cohort_hash = CohortHash(self.reference_date, self.attributes)
        cohort_hash.add(self.patients, self.digests_of_bags)
        return str(cohort_hash)


def file_metadata(name: str, cohort_hash: str, simulated: bool) -> dict[str, str]:
    return {"cohort": name, "cohort_hash": cohort_hash, "simulated": str(simulated).lower()}


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """Return the numbers of so many cells of a bag of `count`, from its first to its last; all where it has fewer."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)


class CohortHash:
    """The hash of a cohort from its patients and digests, given all at once or some after others."""

    def __init__(self, reference_date: date, attributes: Sequence[Attribute] = STANDARD) -> None:
        self._digest = hashlib.sha256(str(reference_date).encode())
        if tuple(attributes) != STANDARD:
            self._digest.update(str([attribute.as_yaml() for attribute in attributes]).encode())

    def add(self, patients: pd.DataFrame, digests: Iterable[Sequence[str]]) -> None:
        """Take the next patients (as Cohort has them) with the digests of each one's pictures."""
        more = [patients.columns.get_loc(name) for name in patients.columns if name not in COLUMNS]
        for row, cells in zip(patients.itertuples(index=False), digests, strict=True):
            values = [row[place] for place in more]
            known = (row.patient, row.label, row.sex, f"{row.age_years:.3f}", f"{row.lymphocytes_g_per_l:.4f}")
            self._digest.update("\x1f".join([*map(str, [*known, *values]), *cells]).encode() + b"\x1e")

    def __str__(self) -> str:
        return self._digest.hexdigest()[:16]
