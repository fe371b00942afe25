"""A cohort whose table is read and whose pictures are decoded later: all at once, or in blocks of patients.

Shapes: P patients, C cells of a block, S picture side in pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import NamedTuple

import numpy as np
import pandas as pd

from lymphtune.cohort.attributes import STANDARD, Attribute
from lymphtune.cohort.cohort import AgesAt, Cohort, evenly_spaced
from lymphtune.cohort.pictures import (
    Decoder,
    Encoded,
    PictureFiles,
    PictureSource,
    cache_dir,
    check_depths,
    decode,
    decode_cached,
    decode_in_memory,
    digests_of,
    notes_of,
)

# maximum size of a block, 300 MB of pixels; a larger bag is a block of its own
BLOCK_PATIENTS, BLOCK_CELLS = 32, 2000


class Block(NamedTuple):
    """Consecutive patients as a cohort; rows: their rows in the whole cohort; names: of their pictures, C."""

    rows: range
    cohort: Cohort
    names: list[str]


@dataclass(frozen=True)
class _SourceSubset:
    """A subset of a source's pictures, by index."""

    source: PictureSource
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def read(self) -> Iterator[Encoded]:
        if isinstance(self.source, PictureFiles):
            paths = [self.source.paths[number] for number in self.numbers]
            yield from PictureFiles(paths, self.source.folder).read()
            return
        wanted = set(self.numbers.tolist())
        yield from (picture for number, picture in enumerate(self.source.read()) if number in wanted)


@dataclass(frozen=True)
class CohortSurvey:
    """A cohort whose patients are known (as in Cohort, in order of id) and whose pictures are not read yet.

    sources: returns the picture sources of the patients in a range of rows, in order. notes: remarks on skipped files
    and the like, without ids. ages: as in Cohort.
    """

    name: str
    patients: pd.DataFrame
    sources: Callable[[range], Sequence[PictureSource]]
    reference_date: date
    simulated: bool = False
    decode: Decoder = decode
    attributes: tuple[Attribute, ...] = STANDARD
    ages: AgesAt = "reference_date"
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.patients)

    def load(self) -> Cohort:
        """The whole cohort; its pictures are decoded into the cache or read from it."""
        pictures_CSS3, digests, notes = decode_cached(
            self.sources(range(len(self))), cache_dir(), self.decode, self.patients["n_cells"].tolist()
        )
        return self._cohort(self.patients, pictures_CSS3, digests, notes)

    def block_ranges(self) -> Iterator[range]:
        """Yield the rows of each block: at most BLOCK_PATIENTS patients and BLOCK_CELLS cells, or one larger bag."""
        first, held = 0, 0
        for row, n_cells in enumerate(self.patients["n_cells"].tolist()):
            if row > first and (row - first == BLOCK_PATIENTS or held + n_cells > BLOCK_CELLS):
                yield range(first, row)
                first, held = row, 0
            held += n_cells
        yield range(first, len(self))

    def digests(self, rows: range) -> list[list[str]]:
        """The digests of the patients' pictures, one list per patient; nothing is decoded."""
        left = iter(digests_of(self.sources(rows)))
        return [list(islice(left, n_cells)) for n_cells in self._patients(rows)["n_cells"]]

    def block(self, rows: range) -> Block:
        """Decode the pictures of some patients in memory; raises InputError as `load` does."""
        pictures_CSS3, read = decode_in_memory(self.sources(rows), self.decode)
        check_depths(read, self._patients(rows)["n_cells"].tolist())
        digests = [digest for source in read for digest in source.digests]
        names = [name for source in read for name in source.names]
        return Block(rows, self._cohort(self._patients(rows), pictures_CSS3, digests, notes_of(read)), names)

    def subsample(self, most: int) -> Cohort:
        """All patients with at most `most` pictures each, evenly spaced in the bag, decoded in memory.

        Its `n_cells` counts these pictures. Raises InputError as `load` does.
        """
        counts = self.patients["n_cells"].to_numpy()
        starts, numbers = np.cumsum([0, *counts]), [evenly_spaced(count, most) for count in counts]
        wanted = np.concatenate([start + some for start, some in zip(starts, numbers, strict=False)])
        low, sources = 0, []
        # a source holds the pictures of one patient or of several
        for source in self.sources(range(len(self))):
            high = low + len(source)
            sources.append(_SourceSubset(source, wanted[(wanted >= low) & (wanted < high)] - low))
            low = high
        pictures_CSS3, read = decode_in_memory(sources, self.decode)
        digests = [digest for source in read for digest in source.digests]
        return self._cohort(self.patients.assign(n_cells=list(map(len, numbers))), pictures_CSS3, digests, [])

    def _patients(self, rows: range) -> pd.DataFrame:
        return self.patients.iloc[rows.start : rows.stop].reset_index(drop=True)

    def _cohort(
        self, patients: pd.DataFrame, pictures_CSS3: np.ndarray, digests: list[str], notes: list[str]
    ) -> Cohort:
        return Cohort(
            self.name,
            patients,
            pictures_CSS3,
            digests,
            self.reference_date,
            self.simulated,
            (*self.notes, *notes),
            self.attributes,
            self.ages,
        )
