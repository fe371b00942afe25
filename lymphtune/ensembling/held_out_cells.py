"""What an ensemble's fold models say of cells of patients that they never saw in training.

Shapes: P patients asked for, C cells looked at of all of them, V fold models that may speak of a patient, M cells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lymphtune.cohort import Cohort
from lymphtune.cohort.cohort import evenly_spaced
from lymphtune.config import Configuration
from lymphtune.ensembling.bundle import Ensemble, fold_of
from lymphtune.ensembling.candidates import Candidates

LOOKS = 1200  # cells looked at by fold models, in all: about 4 s of one core for a small network at 112 px
FEWEST = 12  # cells of a patient, whatever that takes
Speaker = tuple[Path, Configuration]


@dataclass(frozen=True)
class HeldOutCells:
    """What is said of some patients' cells by those fold models alone that were trained without the patient.

    cohort: these patients, in the order asked for, with the cells looked at; number_C: of each in its whole bag, from
    0; whole_P: cells of the whole bags. probability_C: of a bag of the cell alone, mean over the fold models that may
    speak; weight_C: share of the bag's cells looked at times their number (1: an equal share), mean likewise;
    evidence_C: mean of weight times (probability - 1/2): above 0 for tumoral. fold_P: each patient's; speaking: the
    models that may speak, by fold.
    """

    speaking: Mapping[int, Sequence[Speaker]]
    cohort: Cohort
    fold_P: np.ndarray
    number_C: np.ndarray
    whole_P: np.ndarray
    probability_C: np.ndarray
    weight_C: np.ndarray
    evidence_C: np.ndarray

    @property
    def weighs(self) -> bool:
        """Return whether some model weighs the cells of a bag differently."""
        return not np.allclose(self.weight_C, 1, atol=1e-3)

    def leading(self, patient: int, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows among C of a patient's cells that speak most for tumoral, and of those most for reactive."""
        mine = np.arange(*self.cohort.starts[patient : patient + 2])
        order = mine[np.argsort(-self.evidence_C[mine], kind="stable")]
        tumoral = order[self.evidence_C[order] > 0]
        reactive = order[::-1][self.evidence_C[order[::-1]] < 0]
        return tumoral[:most], reactive[:most]

    def saliency(self, cells_M: np.ndarray) -> np.ndarray:
        """Return saliency [M, S, S], 0 to 1, of cells in rows among C: of the first model that may speak of each.

        As in training.saliency: by plain gradients over noisy copies.
        """
        from lymphtune.training.saliency import saliency_with

        starts = self.cohort.starts
        patient_M = np.searchsorted(starts, cells_M, side="right") - 1
        heat_MSS = np.zeros((len(cells_M), *self.cohort.pictures_CSS3.shape[1:3]), dtype=np.float32)
        for fold in np.unique(self.fold_P[patient_M]):
            of = self.fold_P[patient_M] == fold
            patients, (path, chosen) = patient_M[of], self.speaking[fold][0]
            heat_MSS[of] = saliency_with(path, chosen, self.cohort, patients, cells_M[of] - starts[patients])
        return heat_MSS


def speakers(ensemble: Ensemble, fold: int) -> list[Speaker]:
    """Return the fold models that may speak of the cells of patients of a fold: networks trained without that fold."""
    return [
        (path, chosen)
        for path, chosen in ensemble.fold_models()
        if chosen.kind != "clinical" and fold_of(path.name) == fold
    ]


def of_this_run(ensemble: Ensemble, cohort: Cohort, candidates: Candidates) -> bool:
    """Return whether the ensemble was made of this cohort and these folds: else nobody knows whom its models saw."""
    return ensemble.description["cohort"]["hash"] == cohort.hash and np.array_equal(
        ensemble.known.fold_P, candidates.fold_P
    )


def held_out_cells(ensemble: Ensemble, cohort: Cohort, rows_P: np.ndarray, fold_P: np.ndarray) -> HeldOutCells | None:
    """Return what is said of the cells of patients in `rows_P` of the cohort, each held out in its fold of `fold_P`.

    All cells, or as many of each patient, evenly spaced in its bag, as LOOKS allows. None: no member sees pictures.
    """
    speaking = {int(fold): speakers(ensemble, fold) for fold in np.unique(fold_P)}
    if not all(speaking.values()) or not speaking:
        return None
    most = max(FEWEST, LOOKS // sum(len(speaking[fold]) for fold in fold_P))
    some, cells_C, number_C = some_cells(cohort, rows_P, most)
    probability_3C = np.full((3, len(cells_C)), np.nan)
    kept: dict[str, np.ndarray] = {}
    counts_P = some.patients["n_cells"].to_numpy()
    patient_C = np.repeat(np.arange(len(rows_P)), counts_P)
    for fold, models in speaking.items():
        patients = np.flatnonzero(fold_P == fold)
        of_fold_C = np.isin(patient_C, patients)
        said = [_said(path, chosen, (cohort, some, cells_C), patients, kept) for path, chosen in models]
        probability_3C[:, of_fold_C] = np.mean(said, axis=0)
    whole_P = cohort.patients["n_cells"].to_numpy()[rows_P]
    return HeldOutCells(speaking, some, fold_P, number_C, whole_P, *probability_3C)


def some_cells(cohort: Cohort, rows_P: np.ndarray, most: int) -> tuple[Cohort, np.ndarray, np.ndarray]:
    """Return these patients with so many cells at most, the cells' rows in the cohort, and their numbers in the bag."""
    starts = cohort.starts
    counts = cohort.patients["n_cells"].to_numpy()[rows_P]
    numbers = [evenly_spaced(count, most) for count in counts]
    cells_C = np.concatenate([starts[row] + number for row, number in zip(rows_P, numbers, strict=True)])
    patients = cohort.patients.iloc[rows_P].assign(n_cells=[len(number) for number in numbers]).reset_index(drop=True)
    digests = [cohort.picture_digests[cell] for cell in cells_C]
    pictures_CSS3 = np.ascontiguousarray(cohort.pictures_CSS3[cells_C])
    some = replace(cohort, patients=patients, pictures_CSS3=pictures_CSS3, picture_digests=digests)
    return some, cells_C, np.concatenate(numbers)


def _said(
    path: Path, chosen: Configuration, cells: tuple[Cohort, Cohort, np.ndarray], patients: np.ndarray, kept: Any
) -> np.ndarray:
    """Return probability, weight (1: an equal share) and evidence [3, C'] of these patients' cells by one model."""
    from lymphtune.training.frozen import WEIGHTS, copy_from_cache
    from lymphtune.training.lone_cells import predict_lone_cells_with

    cohort, some, cells_C = cells
    copy_from_cache(chosen, cohort, some, cells_C, path.parent / WEIGHTS, kept)
    said = predict_lone_cells_with(path, chosen, some, patients, kept)
    counts = some.patients["n_cells"].to_numpy()[patients]
    weight_C = said.weight_C * np.repeat(counts, counts)
    return np.stack([said.probability_C, weight_C, weight_C * (said.probability_C - 0.5)])
