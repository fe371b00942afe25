"""Prediction of new patients with a saved ensemble, block by block: predictions and a submission in a new folder.

Shapes: P patients to predict.
"""

from collections.abc import Callable
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np

from lymphtune import console
from lymphtune.cohort import CohortSurvey, survey_cohort
from lymphtune.cohort.blocks import Block
from lymphtune.cohort.cohort import TO_PREDICT, CohortHash, file_metadata
from lymphtune.cohort.pseudonyms import Pseudonyms, are_pseudonyms, read_pseudonyms
from lymphtune.ensembling.attributes import missing_note, uses_age
from lymphtune.ensembling.build import write_predictions
from lymphtune.ensembling.bundle import Ensemble, EnsemblePrediction, FoldPredictions, first_ids
from lymphtune.ensembling.cells import cells_file
from lymphtune.ensembling.external import check_scorable, external_scores, external_summary
from lymphtune.errors import InputError
from lymphtune.files import atomic_folder
from lymphtune.result import Result

CellsFile = Callable[[Block, np.ndarray], None]


class Options(TypedDict, total=False):
    """Options of a prediction.

    cells: also write cells.parquet. allow_seen: also predict patients seen in training. key: key file of the pseudonyms
    that replace ids. reference_date: date at which ages are computed.
    """

    cells: bool
    allow_seen: bool
    key: Path | None
    reference_date: date | None


def predict_to(ensemble: Path, data: str, out: Path, **options: Unpack[Options]) -> Result:
    """Write predictions.parquet and submission.csv for every patient of `data`, and cells.parquet with `cells`.

    Return a summary, with the scores of the labelled patients that were not seen in training, if there are any. Ages
    are those at the examination if the cohort has its date, else at the reference date (default: the ensemble's).
    Raises InputError if any patient was seen in training, by id or picture, unless `allow_seen`. With `allow_seen`
    these patients are marked and excluded from the scores.
    """
    cells, allow_seen = options.get("cells", False), options.get("allow_seen", False)
    key, day = options.get("key"), options.get("reference_date")
    if out.exists():
        raise InputError(f"{out}: already exists; name another folder with --out")
    loaded = Ensemble.load(ensemble)
    given = loaded.description["cohort"]
    if loaded.other_versions:
        console.say(f"{ensemble}: results may differ in the last digits: {', '.join(loaded.other_versions)}")
    pseudonyms = None if key is None else read_pseudonyms(key, make=True)
    surveyed = survey_cohort(data, day or loaded.reference_date, pseudonyms)
    if note := _other_names(given.get("pseudonyms"), pseudonyms, surveyed):
        console.say(f"{ensemble}: {note}")
    missing_P = _check_attributes(loaded, surveyed, day)
    seen_P, cohort_hash = _check_seen(loaded, surveyed, data, allow_seen)
    if given["simulated"] != surveyed.simulated:
        console.say("One of the two cohorts is SIMULATED: these predictions mean nothing for real patients.")
    about = file_metadata(surveyed.name, cohort_hash, surveyed.simulated)
    with atomic_folder(out) as scratch:
        with ExitStack() as open_files:
            file = open_files.enter_context(cells_file(scratch / "cells.parquet", about)) if cells else None
            blocks, final_hash = _predict_blocks(loaded, surveyed, file)
        if final_hash != cohort_hash:
            raise InputError(f"{data}: changed while it was read; start again")
        prediction = loaded.combine(blocks)
        table = loaded.table(surveyed.patients["patient"].tolist(), prediction, seen_P)
        table = table.assign(missing=missing_P)
        write_predictions(scratch, table, about)
    external = _external(loaded, surveyed, prediction, seen_P)
    values = {"out": out, "threshold": loaded.threshold, "simulated": surveyed.simulated, "predictions": table}
    text = f"{out}: {_counts(loaded, prediction, seen_P)}{external.text}"
    return Result(text, values | {"external": external.values})


def _check_attributes(loaded: Ensemble, surveyed: CohortSurvey, day: date | None) -> np.ndarray:
    """Return the names of each patient's missing attributes [P]; print notes on ages and differences from training."""
    notes = [*surveyed.notes, *loaded.check_attributes(surveyed)]
    if uses_age(loaded.used_attributes):
        notes.append(loaded.ages.note(surveyed, day))
    elif day is not None:
        notes.append("--reference-date has no effect: the ensemble does not use ages")
    missing_P = loaded.missing(surveyed.patients)
    for note in filter(None, [*notes, missing_note(missing_P)]):
        console.say(f"{surveyed.name}: {note}")
    return missing_P


def _other_names(theirs: str | None, ours: Pseudonyms | None, surveyed: CohortSurvey) -> str:
    """Return a note if ids cannot reveal patients seen in training, because the pseudonyms differ; else ""."""
    pseudonymised = ours is not None or are_pseudonyms(surveyed.patients["patient"].tolist())
    if theirs and not pseudonymised:
        return (
            "trained on pseudonyms: patients seen in training are recognised by their pictures alone; "
            "with --pseudonymise FILE by their ids, too"
        )
    if ours is not None and ours.fingerprint != theirs:
        trained = "pseudonyms of another key" if theirs else "ids without pseudonyms"
        return f"trained on {trained}: patients seen in training are recognised by their pictures alone"
    return ""


def _check_seen(loaded: Ensemble, surveyed: CohortSurvey, data: str, allow_seen: bool) -> tuple[np.ndarray, str]:
    """Return the mask [P] of patients seen in training, and the cohort's hash; pictures are read but not decoded."""
    ids = surveyed.patients["patient"].tolist()
    seen_P, cohort_hash = loaded.seen_ids(ids), CohortHash(surveyed.reference_date, surveyed.attributes)
    if not allow_seen:
        _refuse_seen(seen_P, ids, data, "id")
    with console.bar("Reading patients", len(surveyed)) as bar:
        for rows in surveyed.block_ranges():
            digests, some = surveyed.digests(rows), slice(rows.start, rows.stop)
            cohort_hash.add(surveyed.patients[some], digests)
            seen_P[some] |= loaded.seen_pictures(digests)
            bar.advance(len(rows))
    if not allow_seen:
        _refuse_seen(seen_P, ids, data, "picture")
    return seen_P, str(cohort_hash)


def _refuse_seen(seen_P: np.ndarray, ids: list[str], data: str, by: str) -> None:
    if seen_P.any():
        some = first_ids([ids[row] for row in np.flatnonzero(seen_P)])
        raise InputError(
            f"{data}: {int(seen_P.sum())} of its {len(ids)} patients were seen in training, by {by} ({some}); leave "
            "them out, or predict them all the same with --allow-seen, which marks their rows"
        )


def _predict_blocks(
    loaded: Ensemble, surveyed: CohortSurvey, file: CellsFile | None
) -> tuple[list[FoldPredictions], str]:
    """Predict block by block and write the cells to `file`; return the predictions and the hash of the cohort read."""
    cohort_hash = CohortHash(surveyed.reference_date, surveyed.attributes)
    predictions = []
    with console.bar("Predicting patients", len(surveyed)) as bar:
        for rows in surveyed.block_ranges():
            # Nothing here keeps a reference to the block, so memory never holds two blocks.
            predictions.append(_predict_block(surveyed.block(rows), loaded, cohort_hash, file))
            bar.advance(len(rows))
    return predictions, str(cohort_hash)


def _predict_block(block: Block, loaded: Ensemble, cohort_hash: CohortHash, file: CellsFile | None) -> FoldPredictions:
    cohort_hash.add(block.cohort.patients, block.cohort.digests_of_bags)
    predictions, of_cells_2C = loaded.predict_folds(block.cohort, cells=file is not None)
    if file is not None and of_cells_2C is not None:
        file(block, of_cells_2C)
    return predictions


def _counts(loaded: Ensemble, prediction: EnsemblePrediction, seen_P: np.ndarray) -> str:
    tumoral = int((prediction.probability_P >= loaded.threshold).sum())
    seen = f"; {int(seen_P.sum())} were seen in training: marked, no predictions for new patients"
    return f"{len(seen_P)} patients, {tumoral} called tumoral" + (seen if seen_P.any() else "")


def _external(loaded: Ensemble, surveyed: CohortSurvey, prediction: EnsemblePrediction, seen_P: np.ndarray) -> Result:
    """Return the scores on the labelled patients that were not seen in training, one per line; empty without any."""
    labels_P = surveyed.patients["label"].to_numpy()
    counted_P = (labels_P != TO_PREDICT) & ~seen_P
    if not counted_P.any():
        return Result("", None)
    try:
        check_scorable(labels_P[counted_P], "no external validation")
    except InputError as error:
        return Result(f"\n{error}", None)
    scores = external_scores(prediction.probability_P[counted_P], labels_P[counted_P], loaded.threshold)
    values = {"n_patients": int(counted_P.sum()), "scores": scores}
    return Result("\n" + external_summary(scores, labels_P[counted_P], surveyed.simulated), values)
