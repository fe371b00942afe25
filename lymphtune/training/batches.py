"""From patients to batches of bags: cells sampled, cropped, flipped and turned, on the device where they fit.

Shapes: B patients, M cells of all of them, S side of the crop, A attributes, P patients, C cells of the cohort,
O orientations. An orientation is one of the eight dihedral transforms of a picture, as three bits: 1 swaps left and
right, 2 swaps top and bottom, 4 transposes.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lymphtune.cohort.cohort import Cohort
from lymphtune.config import Data

CELLS_PER_PASS = 384  # evaluation batches hold patients until their cells reach this number
RESIDENT_FRACTION = 0.4  # largest fraction of a GPU's free memory that the cohort's pictures may take
FLIPS = (0, 1, 2, 3)
SUBSAMPLES = 5  # of a patient's cells, whose probabilities are averaged where all bags have one size


@dataclass(frozen=True)
class Batch:
    """The input of a bag classifier, and the labels; `rows` are the patients' rows in the cohort."""

    rows: Sequence[int]
    cells: Tensor  # pictures [M, S, S, 3], uint8, or features [M, D]
    counts: Sequence[int]  # cells of each patient
    attributes_BA: Tensor
    labels_B: Tensor


def training_orientations(data: Data) -> Sequence[int]:
    """Return the orientations that training samples uniformly; the four turns are 0, 3, 5 and 6."""
    if data.flips:
        return range(8) if data.quarter_turns else FLIPS
    return (0, 3, 5, 6) if data.quarter_turns else (0,)


def evaluation_orientations(data: Data) -> Sequence[int]:
    """Return the orientations whose probabilities are averaged."""
    return FLIPS if data.tta else (0,)


def oriented(cell_SS3: Tensor, orientation: int) -> Tensor:
    """Return a copy of the picture, or of pictures [..., S, S, 3], in that orientation."""
    turned = cell_SS3.transpose(-3, -2) if orientation & 4 else cell_SS3
    return turned.flip([axis for bit, axis in ((1, -2), (2, -3)) if orientation & bit])


class Bags:
    """The bags of a cohort as batches on a device, with cells, crop and orientations as `data` configures them.

    features_OCD: a frozen encoder's features by orientation, which replace the pictures.
    """

    def __init__(
        self, cohort: Cohort, data: Data, device: torch.device, features_OCD: Mapping[int, np.ndarray] | None = None
    ) -> None:
        self.data, self.device, self.features_OCD = data, device, features_OCD
        self.starts, self.digests = cohort.starts, cohort.picture_digests
        self.fixed = data.fixed_cells(int(np.diff(self.starts).min())) if data.fixed else None
        self._subsamples: dict[tuple[int, int], np.ndarray] = {}
        self.labels_P = cohort.labels.astype(np.float32)
        self.attributes_PA = torch.from_numpy(cohort.attributes_PA).float()
        low = (cohort.pictures_CSS3.shape[1] - data.crop_px) // 2
        self.crops_CSS3 = cohort.pictures_CSS3[:, low : low + data.crop_px, low : low + data.crop_px]
        self.resident_CSS3: Tensor | None = None
        if device.type == "cuda" and features_OCD is None and self._fits(device):
            with suppress(torch.OutOfMemoryError):  # another trial on the same GPU may have taken the memory
                self.resident_CSS3 = torch.from_numpy(np.array(self.crops_CSS3)).to(device)

    def _fits(self, device: torch.device) -> bool:
        ours = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return self.crops_CSS3.nbytes < RESIDENT_FRACTION * (torch.cuda.mem_get_info(device)[0] + ours)

    def training(
        self, rows: np.ndarray, patients: int, rng: np.random.Generator, max_cells: int | None = None
    ) -> Iterator[Batch]:
        """Yield every patient once, in random order, with newly sampled and oriented cells, at most `max_cells`."""
        order = rng.permutation(rows)
        for start in range(0, len(order), patients):
            batch_rows = order[start : start + patients]
            cells = [self._sampled_cells(row, rng, max_cells) for row in batch_rows]
            orientation_M = rng.choice(training_orientations(self.data), size=sum(map(len, cells)))
            yield self._batch(batch_rows, cells, orientation_M)

    @property
    def subsamples(self) -> Sequence[int | None]:
        """Return the subsamples of cells whose probabilities are averaged; None means all cells, once."""
        return (None,) if self.fixed is None else range(SUBSAMPLES)

    def evaluation(self, rows: np.ndarray, orientation: int = 0, subsample: int | None = None) -> Iterator[Batch]:
        """Yield every patient once, in order, with all cells or those of a subsample, in one orientation."""
        if subsample is None:
            counts = self.starts[rows + 1] - self.starts[rows]
        else:
            counts = np.full(len(rows), self.fixed)
        group = np.cumsum(counts) // CELLS_PER_PASS
        for number in np.unique(group):
            batch_rows = rows[group == number]
            cells = [
                self._cells(row) if subsample is None else self._subsampled_cells(row, subsample) for row in batch_rows
            ]
            yield self._batch(batch_rows, cells, np.full(sum(map(len, cells)), orientation))

    def features_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the frozen features [C', D] of all cells of some patients, in orientation 0."""
        assert self.features_OCD is not None
        return self.features_OCD[0][np.concatenate([self._cells(row) for row in rows])]

    def _cells(self, row: int) -> np.ndarray:
        return np.arange(self.starts[row], self.starts[row + 1])

    def _sampled_cells(self, row: int, rng: np.random.Generator, max_cells: int | None) -> np.ndarray:
        cells = self._cells(row)
        if self.fixed is not None:
            wanted = min(self.fixed, max_cells or self.fixed)
            return np.sort(np.resize(rng.permutation(cells), wanted))  # a smaller bag repeats its cells
        assert not isinstance(self.data.bag_size, str)
        wanted = min(len(cells), self.data.bag_size or len(cells), max_cells or len(cells))
        return cells if wanted == len(cells) else np.sort(rng.choice(cells, wanted, replace=False))

    def _subsampled_cells(self, row: int, subsample: int) -> np.ndarray:
        """Return the cells of a patient in one subsample, the same number for every patient; a smaller bag repeats its.

        The hashes of the pictures choose them, so that they depend on the bag alone: not on the order of its cells,
        its id or the other patients.
        """
        if (row, subsample) not in self._subsamples:
            assert self.fixed is not None
            ranks = [hashlib.sha256(f"{subsample}:{self.digests[cell]}".encode()).digest() for cell in self._cells(row)]
            order = sorted(range(len(ranks)), key=ranks.__getitem__)
            self._subsamples[row, subsample] = np.sort(np.resize(self._cells(row)[order], self.fixed))
        return self._subsamples[row, subsample]

    def _batch(self, rows: np.ndarray, cells: list[np.ndarray], orientation_M: np.ndarray) -> Batch:
        numbers_M = np.concatenate(cells)
        if self.features_OCD is not None:
            inputs = self._features(numbers_M, orientation_M)
        else:
            inputs = self._pictures(numbers_M, orientation_M)
        return Batch(
            rows=rows.tolist(),
            cells=inputs.to(self.device, non_blocking=True),
            counts=[len(numbers) for numbers in cells],
            attributes_BA=self.attributes_PA[rows].to(self.device, non_blocking=True),
            labels_B=torch.from_numpy(self.labels_P[rows]).to(self.device, non_blocking=True),
        )

    def _pictures(self, numbers_M: np.ndarray, orientation_M: np.ndarray) -> Tensor:
        """Return the pictures in their orientations; a GPU that runs out of memory drops its copy of the cohort."""
        if self.resident_CSS3 is not None:
            try:
                return _oriented_on_device(self.resident_CSS3, numbers_M, orientation_M)
            except torch.OutOfMemoryError:
                self.resident_CSS3 = None
            torch.cuda.empty_cache()
        return _oriented_one_by_one(self.crops_CSS3[numbers_M], orientation_M)

    def _features(self, numbers_M: np.ndarray, orientation_M: np.ndarray) -> Tensor:
        assert self.features_OCD is not None
        features_MD = np.empty((len(numbers_M), self.features_OCD[0].shape[1]), dtype=np.float32)
        for orientation in np.unique(orientation_M):
            of = orientation_M == orientation
            features_MD[of] = self.features_OCD[orientation][numbers_M[of]]
        return torch.from_numpy(features_MD)


def _oriented_one_by_one(cells_MSS3: np.ndarray, orientation_M: np.ndarray) -> Tensor:
    """Return the pictures in their orientations; on a CPU, cell by cell is fastest."""
    oriented_MSS3 = torch.from_numpy(cells_MSS3)
    for cell_SS3, orientation in zip(oriented_MSS3, orientation_M.tolist(), strict=True):
        if orientation:
            cell_SS3.copy_(oriented(cell_SS3, orientation))
    return oriented_MSS3


def _oriented_on_device(all_CSS3: Tensor, numbers_M: np.ndarray, orientation_M: np.ndarray) -> Tensor:
    """Return the selected pictures in their orientations, computed on their device without a synchronisation."""
    numbers, orientations = (
        torch.from_numpy(given).to(all_CSS3.device, non_blocking=True) for given in (numbers_M, orientation_M)
    )
    oriented_MSS3 = all_CSS3.index_select(0, numbers)
    for bit in (4, 1, 2):  # the order in which `oriented` applies them
        wanted_M111 = (orientations & bit).bool()[:, None, None, None]
        oriented_MSS3 = torch.where(wanted_M111, oriented(oriented_MSS3, bit), oriented_MSS3)
    return oriented_MSS3
