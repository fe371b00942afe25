"""From patients to batches of bags: cells drawn, cropped, flipped and turned, on the device where they fit.

Shapes: B patients, M cells of all of them, S side of the crop, A attributes, P patients, C cells of the cohort.
A view is one of the eight ways a picture can lie: bit 0 left and right swapped, bit 1 top and bottom, bit 2 the two
diagonal corners.
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

CELLS_PER_PASS = 384  # evaluation gathers patients until their cells reach this
RESIDENT_SHARE = 0.4  # of a GPU's free memory, at most, for the cohort's pictures
FLIPS = (0, 1, 2, 3)
DRAWS = 5  # of a patient's cells, whose probabilities are averaged, where all bags are judged at one size


@dataclass(frozen=True)
class Batch:
    """What a bag classifier takes, and the labels; `rows` are the patients' rows in the cohort."""

    rows: Sequence[int]
    cells: Tensor  # pictures [M, S, S, 3], uint8, or features [M, D]
    counts: Sequence[int]  # cells of each patient
    attributes_BA: Tensor
    labels_B: Tensor


def training_views(data: Data) -> Sequence[int]:
    """Return the views that training draws from, all equally often; four turns are views 0, 3, 5 and 6."""
    if data.flips:
        return range(8) if data.quarter_turns else FLIPS
    return (0, 3, 5, 6) if data.quarter_turns else (0,)


def evaluation_views(data: Data) -> Sequence[int]:
    """Return the views whose probabilities are averaged."""
    return FLIPS if data.tta else (0,)


def seen_as(cell_SS3: Tensor, view: int) -> Tensor:
    """Return a copy of the picture, or of pictures [..., S, S, 3], in that view."""
    turned = cell_SS3.transpose(-3, -2) if view & 4 else cell_SS3
    return turned.flip([axis for bit, axis in ((1, -2), (2, -3)) if view & bit])


class Bags:
    """The bags of a cohort as batches on a device; knows how much of each picture is looked at.

    features_VCD: a frozen encoder's features by view; they then stand for the pictures.
    """

    def __init__(
        self,
        cohort: Cohort,
        data: Data,
        device: torch.device,
        features_VCD: Mapping[int, np.ndarray] | None = None,
    ) -> None:
        self.data, self.device, self.features_VCD = data, device, features_VCD
        self.starts, self.digests = cohort.starts, cohort.picture_digests
        self.fixed = data.fixed_cells(int(np.diff(self.starts).min())) if data.fixed else None
        self._judged: dict[tuple[int, int], np.ndarray] = {}
        self.labels_P = cohort.labels.astype(np.float32)
        self.attributes_PA = torch.from_numpy(cohort.attributes_PA).float()
        low = (cohort.pictures_CSS3.shape[1] - data.crop_px) // 2
        self.crops_CSS3 = cohort.pictures_CSS3[:, low : low + data.crop_px, low : low + data.crop_px]
        self.resident_CSS3: Tensor | None = None
        if device.type == "cuda" and features_VCD is None and self._fits(device):
            with suppress(torch.OutOfMemoryError):  # another trial on the same GPU was faster
                self.resident_CSS3 = torch.from_numpy(np.array(self.crops_CSS3)).to(device)

    def _fits(self, device: torch.device) -> bool:
        ours = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return self.crops_CSS3.nbytes < RESIDENT_SHARE * (torch.cuda.mem_get_info(device)[0] + ours)

    def training(
        self, rows: np.ndarray, patients: int, rng: np.random.Generator, most: int | None = None
    ) -> Iterator[Batch]:
        """Yield every patient once, in random order, with freshly drawn, flipped and turned cells, `most` at most."""
        order = rng.permutation(rows)
        for start in range(0, len(order), patients):
            chosen = order[start : start + patients]
            drawn = [self._drawn(row, rng, most) for row in chosen]
            views_M = rng.choice(training_views(self.data), size=sum(map(len, drawn)))
            yield self._batch(chosen, drawn, views_M)

    @property
    def draws(self) -> Sequence[int | None]:
        """Return the draws of cells whose probabilities are averaged; None: all cells, once."""
        return (None,) if self.fixed is None else range(DRAWS)

    def evaluation(self, rows: np.ndarray, view: int = 0, draw: int | None = None) -> Iterator[Batch]:
        """Yield every patient once, in order, with all cells or those of a draw, in one view."""
        counts = self.starts[rows + 1] - self.starts[rows] if draw is None else np.full(len(rows), self.fixed)
        group = np.cumsum(counts) // CELLS_PER_PASS
        for number in np.unique(group):
            chosen = rows[group == number]
            cells = [self._cells(row) if draw is None else self._judged_on(row, draw) for row in chosen]
            yield self._batch(chosen, cells, np.full(sum(map(len, cells)), view))

    def features_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the frozen features [C', D] of all cells of some patients, as they lie."""
        assert self.features_VCD is not None
        return self.features_VCD[0][np.concatenate([self._cells(row) for row in rows])]

    def _cells(self, row: int) -> np.ndarray:
        return np.arange(self.starts[row], self.starts[row + 1])

    def _drawn(self, row: int, rng: np.random.Generator, most: int | None) -> np.ndarray:
        cells = self._cells(row)
        if self.fixed is not None:
            wanted = min(self.fixed, most or self.fixed)
            return np.sort(np.resize(rng.permutation(cells), wanted))  # a smaller bag's cells come again
        assert not isinstance(self.data.bag_size, str)
        wanted = min(len(cells), self.data.bag_size or len(cells), most or len(cells))
        return cells if wanted == len(cells) else np.sort(rng.choice(cells, wanted, replace=False))

    def _judged_on(self, row: int, draw: int) -> np.ndarray:
        """Return the cells of a patient in one draw, as many as of any other; a smaller bag's come again.

        Drawn by the hashes of the pictures: a function of the bag alone, whatever its order, id and company.
        """
        if (row, draw) not in self._judged:
            assert self.fixed is not None
            ranks = [hashlib.sha256(f"{draw}:{self.digests[cell]}".encode()).digest() for cell in self._cells(row)]
            order = sorted(range(len(ranks)), key=ranks.__getitem__)
            self._judged[row, draw] = np.sort(np.resize(self._cells(row)[order], self.fixed))
        return self._judged[row, draw]

    def _batch(self, rows: np.ndarray, cells: list[np.ndarray], views_M: np.ndarray) -> Batch:
        numbers_M = np.concatenate(cells)
        if self.features_VCD is not None:
            seen = self._features(numbers_M, views_M)
        else:
            seen = self._pictures(numbers_M, views_M)
        return Batch(
            rows=rows.tolist(),
            cells=seen.to(self.device, non_blocking=True),
            counts=[len(drawn) for drawn in cells],
            attributes_BA=self.attributes_PA[rows].to(self.device, non_blocking=True),
            labels_B=torch.from_numpy(self.labels_P[rows]).to(self.device, non_blocking=True),
        )

    def _pictures(self, numbers_M: np.ndarray, views_M: np.ndarray) -> Tensor:
        """Return the pictures in their views; a GPU that has no room for them gives up its copy of the cohort."""
        if self.resident_CSS3 is not None:
            try:
                return _seen_together(self.resident_CSS3, numbers_M, views_M)
            except torch.OutOfMemoryError:
                self.resident_CSS3 = None
            torch.cuda.empty_cache()
        return _seen_one_by_one(self.crops_CSS3[numbers_M], views_M)

    def _features(self, numbers_M: np.ndarray, views_M: np.ndarray) -> Tensor:
        assert self.features_VCD is not None
        features_MD = np.empty((len(numbers_M), self.features_VCD[0].shape[1]), dtype=np.float32)
        for view in np.unique(views_M):
            of = views_M == view
            features_MD[of] = self.features_VCD[view][numbers_M[of]]
        return torch.from_numpy(features_MD)


def _seen_one_by_one(cells_MSS3: np.ndarray, views_M: np.ndarray) -> Tensor:
    """Return the pictures in their views; on a host, cell by cell is fastest."""
    seen_MSS3 = torch.from_numpy(cells_MSS3)
    for cell_SS3, view in zip(seen_MSS3, views_M.tolist(), strict=True):
        if view:
            cell_SS3.copy_(seen_as(cell_SS3, view))
    return seen_MSS3


def _seen_together(all_CSS3: Tensor, numbers_M: np.ndarray, views_M: np.ndarray) -> Tensor:
    """Return the chosen pictures in their views, drawn and turned where they lie; nothing waits for the device."""
    numbers, views = (torch.from_numpy(given).to(all_CSS3.device, non_blocking=True) for given in (numbers_M, views_M))
    seen_MSS3 = all_CSS3.index_select(0, numbers)
    for bit in (4, 1, 2):  # the order of `seen_as`
        wanted_M111 = (views & bit).bool()[:, None, None, None]
        seen_MSS3 = torch.where(wanted_M111, seen_as(seen_MSS3, bit), seen_MSS3)
    return seen_MSS3
