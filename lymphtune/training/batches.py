"""From patients to batches of bags: cells drawn, cropped, flipped and turned.

Shapes: B patients, M cells of all of them, S side of the crop, A attributes, P patients of the cohort.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lymphtune.cohort.cohort import Cohort
from lymphtune.config import Data

CELLS_PER_PASS = 384  # evaluation gathers patients until their cells reach this


@dataclass(frozen=True)
class Batch:
    """What a bag classifier takes, and the labels; `rows` are the patients' rows in the cohort."""

    rows: Sequence[int]
    cells_MSS3: Tensor  # uint8
    counts_B: Tensor
    attributes_BA: Tensor
    labels_B: Tensor


def attributes(cohort: Cohort) -> np.ndarray:
    """Return [P, 2] float64: age in years and the natural logarithm of the lymphocyte count in 10^9/L."""
    table = cohort.patients
    return np.column_stack([table["age_years"], np.log(table["lymphocytes_g_per_l"])]).astype(np.float64)


class Bags:
    """The bags of a cohort as batches on a device; knows how much of each picture is looked at."""

    def __init__(self, cohort: Cohort, data: Data, device: torch.device) -> None:
        self.data, self.device = data, device
        self.starts = cohort.starts
        self.labels_P = cohort.labels.astype(np.float32)
        self.attributes_PA = torch.from_numpy(attributes(cohort)).float()
        low = (cohort.pictures_CSS3.shape[1] - data.crop_px) // 2
        self.crops_CSS3 = cohort.pictures_CSS3[:, low : low + data.crop_px, low : low + data.crop_px]

    def training(self, rows: np.ndarray, patients: int, rng: np.random.Generator) -> Iterator[Batch]:
        """Yield every patient once, in random order, with freshly drawn, flipped and turned cells."""
        order = rng.permutation(rows)
        for start in range(0, len(order), patients):
            chosen = order[start : start + patients]
            drawn = [self._drawn(row, rng) for row in chosen]
            pictures_MSS3 = self._pictures(drawn)
            self._turn(pictures_MSS3, rng)
            yield self._batch(chosen, drawn, pictures_MSS3)

    def evaluation(self, rows: np.ndarray) -> Iterator[Batch]:
        """Yield every patient once, in order, with all cells as they are."""
        counts = self.starts[rows + 1] - self.starts[rows]
        group = np.cumsum(counts) // CELLS_PER_PASS
        for number in np.unique(group):
            chosen = rows[group == number]
            cells = [np.arange(self.starts[row], self.starts[row + 1]) for row in chosen]
            yield self._batch(chosen, cells, self._pictures(cells))

    def _drawn(self, row: int, rng: np.random.Generator) -> np.ndarray:
        cells = np.arange(self.starts[row], self.starts[row + 1])
        if self.data.bag_size is None or len(cells) <= self.data.bag_size:
            return cells
        return np.sort(rng.choice(cells, self.data.bag_size, replace=False))

    def _pictures(self, cells: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(self.crops_CSS3[np.concatenate(cells)])

    def _batch(self, rows: np.ndarray, cells: list[np.ndarray], pictures_MSS3: Tensor) -> Batch:
        return Batch(
            rows=rows.tolist(),
            cells_MSS3=pictures_MSS3.to(self.device, non_blocking=True),
            counts_B=torch.tensor([len(drawn) for drawn in cells], device=self.device),
            attributes_BA=self.attributes_PA[rows].to(self.device),
            labels_B=torch.from_numpy(self.labels_P[rows]).to(self.device),
        )

    def _turn(self, cells_MSS3: Tensor, rng: np.random.Generator) -> None:
        """Flip and turn each cell by itself, in place."""
        draws = rng.integers(0, [2, 2, 4], size=(len(cells_MSS3), 3))
        draws *= [self.data.flips, self.data.flips, self.data.quarter_turns]
        for cell_SS3, (vertical, horizontal, turns) in zip(cells_MSS3, draws.tolist(), strict=True):
            flipped = [axis for axis, wanted in ((0, vertical), (1, horizontal)) if wanted]
            cell_SS3.copy_(torch.rot90(cell_SS3.flip(flipped), turns, dims=(0, 1)))
