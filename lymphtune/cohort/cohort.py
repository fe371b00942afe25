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

# side of a picture in a cohort's array
PICTURE_PX = 224
REACTIVE, TUMORAL, TO_PREDICT = 0, 1, -1
# column of the group, whose patients stay in one fold
GROUP = "group"
# the day at which ages are computed
AgesAt = Literal["examination", "reference_date"]
COLUMNS = ("patient", "label", "sex", "age_years", "lymphocytes_g_per_l", "n_cells")


@dataclass(frozen=True)
class Cohort:
    """Patients in order of id, and the cells of each, concatenated.

    patients: one row per patient with columns COLUMNS: id (str), label (0 reactive, 1 tumoral, -1 to be predicted),
    sex ("F", "M" or "" if unknown), age in years, lymphocytes in 10^9/L, number of cells. Further attributes and
    GROUP may follow; patients of one group stay in one fold.
    attributes: the columns that models use.
    pictures_CSS3: uint8 RGB, read-only; the cells of patient p are rows starts[p] to starts[p + 1].
    picture_digests: SHA-256 of each cell's encoded file, C hexadecimal strings.
    notes: what was converted or skipped while reading.
    ages: whether ages are those at each patient's examination, or at `reference_date`.
    """

    name: str
    patients: pd.DataFrame
    pictures_CSS3: np.ndarray
    picture_digests: Sequence[str]
    reference_date: date = REFERENCE_DATE
    simulated: bool = False
    notes: Sequence[str] = field(default_factory=tuple)
    attributes: tuple[Attribute, ...] = STANDARD
    ages: AgesAt = "reference_date"

    def __post_init__(self) -> None:
        counts = self.patients["n_cells"].to_numpy()
        if int(counts.sum()) != len(self.pictures_CSS3) or len(self.picture_digests) != len(self.pictures_CSS3):
            raise ValueError(f"{counts.sum()} cells counted, {len(self.pictures_CSS3)} pictures held")

    def __getstate__(self) -> dict[str, Any]:
        """Pickle memory-mapped pictures as their file's name, so that processes of a host share them."""
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
        """P + 1 row numbers: where each patient's cells start, and the end of the last."""
        return np.concatenate([[0], self.patients["n_cells"].to_numpy().cumsum()])

    def bag(self, patient: int) -> np.ndarray:
        """The pictures [n, S, S, 3] of the patient in row `patient`, without a copy."""
        starts = self.starts
        return self.pictures_CSS3[starts[patient] : starts[patient + 1]]

    @property
    def digests_of_bags(self) -> list[Sequence[str]]:
        """The digests of each patient's pictures, P lists."""
        return [self.picture_digests[low:high] for low, high in pairwise(self.starts)]

    @property
    def attributes_PA(self) -> np.ndarray:
        """The encoded attributes [P, A] float64, NaN for missing values."""
        return attribute_matrix(self.patients, self.attributes)

    @property
    def groups(self) -> np.ndarray:
        """The group [P] of every patient; the patient's id if the cohort has no groups."""
        return self.patients[GROUP if GROUP in self.patients else "patient"].to_numpy()

    @property
    def title(self) -> str:
        """The name, marked if the cohort is simulated."""
        return self.name + (" (SIMULATED)" if self.simulated else "")

    @property
    def ids(self) -> list[str]:
        """The id of every patient."""
        return self.patients["patient"].tolist()

    @property
    def about(self) -> dict[str, str]:
        """Metadata for every file written from this cohort, which mark simulated data."""
        return file_metadata(self.name, self.hash, self.simulated)

    @property
    def labels(self) -> np.ndarray:
        """The label [P] of every patient: 0 reactive, 1 tumoral, -1 to be predicted."""
        return self.patients["label"].to_numpy()

    @property
    def labelled(self) -> np.ndarray:
        """The rows of patients whose label is known."""
        return np.flatnonzero(self.labels != TO_PREDICT)

    @property
    def to_predict(self) -> np.ndarray:
        """The rows of patients whose label is to be predicted."""
        return np.flatnonzero(self.labels == TO_PREDICT)

    @property
    def hash(self) -> str:
        """A hash of attributes, labels and pictures, 16 hexadecimal digits."""
        cohort_hash = CohortHash(self.reference_date, self.attributes)
        cohort_hash.add(self.patients, self.digests_of_bags)
        return str(cohort_hash)


def file_metadata(name: str, cohort_hash: str, simulated: bool) -> dict[str, str]:
    return {"cohort": name, "cohort_hash": cohort_hash, "simulated": str(simulated).lower()}


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """At most `most` evenly spaced indices of `count` items, from the first to the last."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)


class CohortHash:
    """Incremental hash of a cohort's patients and picture digests."""

    def __init__(self, reference_date: date, attributes: Sequence[Attribute] = STANDARD) -> None:
        self._digest = hashlib.sha256(str(reference_date).encode())
        if tuple(attributes) != STANDARD:
            self._digest.update(str([attribute.as_yaml() for attribute in attributes]).encode())

    def add(self, patients: pd.DataFrame, digests: Iterable[Sequence[str]]) -> None:
        """Add the next patients (columns as in Cohort) and the digests of each one's pictures."""
        more = [patients.columns.get_loc(name) for name in patients.columns if name not in COLUMNS]
        for row, cells in zip(patients.itertuples(index=False), digests, strict=True):
            values = [row[place] for place in more]
            known = (row.patient, row.label, row.sex, f"{row.age_years:.3f}", f"{row.lymphocytes_g_per_l:.4f}")
            self._digest.update("\x1f".join([*map(str, [*known, *values]), *cells]).encode() + b"\x1e")

    def __str__(self) -> str:
        return self._digest.hexdigest()[:16]
