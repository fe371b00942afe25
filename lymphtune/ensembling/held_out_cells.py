"""Predictions for single cells by the fold models that hold their patient out.

Shapes: P requested patients, C predicted cells of all of them, M selected cells, S picture side.
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

MAX_EVALUATIONS = 1200  # cells times fold models: about 4 s of one core for a small network at 112 px
FEWEST = 12  # cells of a patient, even beyond MAX_EVALUATIONS
HeldOutModel = tuple[Path, Configuration]


@dataclass(frozen=True)
class HeldOutCells:
    """Predictions for some patients' cells, only by fold models that were trained without the patient.

    models_by_fold: the fold models that hold out each fold. cohort: the requested patients, in that order, with the
    predicted cells. fold_P: each patient's fold. number_C: index of each cell in its whole bag, from 0. whole_P: number
    of cells in the whole bags. probability_C: probability of a bag with the cell alone, mean over the fold models.
    weight_C: weight in the bag times the number of its predicted cells (1: uniform weight), mean over the fold models.
    evidence_C: mean of weight times (probability - 1/2), above 0 for tumoral.
    """

    models_by_fold: Mapping[int, Sequence[HeldOutModel]]
    cohort: Cohort
    fold_P: np.ndarray
    number_C: np.ndarray
    whole_P: np.ndarray
    probability_C: np.ndarray
    weight_C: np.ndarray
    evidence_C: np.ndarray

    @property
    def weighs(self) -> bool:
        """Return whether any model gives the cells of a bag different weights."""
        return not np.allclose(self.weight_C, 1, atol=1e-3)

    def leading(self, patient: int, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows among C of a patient's cells with most evidence for tumoral, and with most for reactive."""
        mine = np.arange(*self.cohort.starts[patient : patient + 2])
        order = mine[np.argsort(-self.evidence_C[mine], kind="stable")]
        tumoral = order[self.evidence_C[order] > 0]
        reactive = order[::-1][self.evidence_C[order[::-1]] < 0]
        return tumoral[:most], reactive[:most]

    def saliency(self, cells_M: np.ndarray) -> np.ndarray:
        """Return the saliency [M, S, S], 0 to 1, of cells in these rows among C, by the first held-out model of each.

        The method is that of training.saliency: gradients averaged over noisy copies.
        """
        from lymphtune.training.saliency import saliency_with

        starts = self.cohort.starts
        patient_M = np.searchsorted(starts, cells_M, side="right") - 1
        heat_MSS = np.zeros((len(cells_M), *self.cohort.pictures_CSS3.shape[1:3]), dtype=np.float32)
        for fold in np.unique(self.fold_P[patient_M]):
            of = self.fold_P[patient_M] == fold
            patients, (path, chosen) = patient_M[of], self.models_by_fold[fold][0]
            heat_MSS[of] = saliency_with(path, chosen, self.cohort, patients, cells_M[of] - starts[patients])
        return heat_MSS


def held_out_models(ensemble: Ensemble, fold: int) -> list[HeldOutModel]:
    """Return the networks of the ensemble that were trained without the fold."""
    return [
        (path, chosen)
        for path, chosen in ensemble.fold_models()
        if chosen.kind != "clinical" and fold_of(path.name) == fold
    ]


def matches_run(ensemble: Ensemble, cohort: Cohort, candidates: Candidates) -> bool:
    """Return whether the ensemble has this cohort and these folds; otherwise its held-out patients are unknown."""
    return ensemble.description["cohort"]["hash"] == cohort.hash and np.array_equal(
        ensemble.known.fold_P, candidates.fold_P
    )


def held_out_cells(ensemble: Ensemble, cohort: Cohort, rows_P: np.ndarray, fold_P: np.ndarray) -> HeldOutCells | None:
    """Predict the cells of the patients in `rows_P` of the cohort, each with the models that hold out its fold.

    Each patient has all of its cells, or as many as MAX_EVALUATIONS allows, evenly spaced in the bag. Returns None if
    no member uses pictures.
    """
    models_by_fold = {int(fold): held_out_models(ensemble, fold) for fold in np.unique(fold_P)}
    if not all(models_by_fold.values()) or not models_by_fold:
        return None
    most = max(FEWEST, MAX_EVALUATIONS // sum(len(models_by_fold[fold]) for fold in fold_P))
    some, cells_C, number_C = some_cells(cohort, rows_P, most)
    values_3C = np.full((3, len(cells_C)), np.nan)
    kept: dict[str, np.ndarray] = {}
    counts_P = some.patients["n_cells"].to_numpy()
    patient_C = np.repeat(np.arange(len(rows_P)), counts_P)
    for fold, models in models_by_fold.items():
        patients = np.flatnonzero(fold_P == fold)
        of_fold_C = np.isin(patient_C, patients)
        predictions = [_predict_cells(path, chosen, (cohort, some, cells_C), patients, kept) for path, chosen in models]
        values_3C[:, of_fold_C] = np.mean(predictions, axis=0)
    whole_P = cohort.patients["n_cells"].to_numpy()[rows_P]
    return HeldOutCells(models_by_fold, some, fold_P, number_C, whole_P, *values_3C)


def some_cells(cohort: Cohort, rows_P: np.ndarray, most: int) -> tuple[Cohort, np.ndarray, np.ndarray]:
    """Return patients with at most `most` cells each, the cells' rows in the cohort and their indices in the bag."""
    starts = cohort.starts
    counts = cohort.patients["n_cells"].to_numpy()[rows_P]
    numbers = [evenly_spaced(count, most) for count in counts]
    cells_C = np.concatenate([starts[row] + number for row, number in zip(rows_P, numbers, strict=True)])
    patients = cohort.patients.iloc[rows_P].assign(n_cells=[len(number) for number in numbers]).reset_index(drop=True)
    digests = [cohort.picture_digests[cell] for cell in cells_C]
    pictures_CSS3 = np.ascontiguousarray(cohort.pictures_CSS3[cells_C])
    some = replace(cohort, patients=patients, pictures_CSS3=pictures_CSS3, picture_digests=digests)
    return some, cells_C, np.concatenate(numbers)


def _predict_cells(
    path: Path, chosen: Configuration, cells: tuple[Cohort, Cohort, np.ndarray], patients: np.ndarray, kept: Any
) -> np.ndarray:
    """Return probability, weight (1: an equal share) and evidence [3, C'] of these patients' cells by one model."""
    from lymphtune.training.frozen import WEIGHTS, copy_from_cache
    from lymphtune.training.lone_cells import predict_lone_cells_with

    cohort, some, cells_C = cells
    copy_from_cache(chosen, cohort, some, cells_C, path.parent / WEIGHTS, kept)
    prediction = predict_lone_cells_with(path, chosen, some, patients, kept)
    counts = some.patients["n_cells"].to_numpy()[patients]
    weight_C = prediction.weight_C * np.repeat(counts, counts)
    return np.stack([prediction.probability_C, weight_C, weight_C * (prediction.probability_C - 0.5)])
