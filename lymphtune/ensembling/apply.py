"""A saved ensemble applied to new patients, a few at a time: predictions and a submission in a folder of their own.

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
from lymphtune.ensembling.attributes import missing_note, tells_ages
from lymphtune.ensembling.build import write_predictions
from lymphtune.ensembling.bundle import Ensemble, EnsemblePrediction, Votes, few
from lymphtune.ensembling.cells import cells_file
from lymphtune.ensembling.external import check_scorable, external_scores, external_summary
from lymphtune.errors import InputError
from lymphtune.files import atomic_folder
from lymphtune.result import Result

CellsFile = Callable[[Block, np.ndarray], None]


class Options(TypedDict, total=False):
    """How to predict. cells: write cells.parquet; allow_seen: predict patients seen in training, too; key: file of the
    key of pseudonyms that stand in place of ids; reference_date: day to which ages are counted."""

    cells: bool
    allow_seen: bool
    key: Path | None
    reference_date: date | None


def predict_to(ensemble: Path, data: str, out: Path, **options: Unpack[Options]) -> Result:
    """Write predictions.parquet and submission.csv for every patient of `data`, cells.parquet too if asked.

    Returns lines that say so, with the scores of labelled patients that were not seen in training, if there are
    any. Ages are those at the examination where the cohort gives them, else counted to the reference date, of the
    ensemble unless one is named. Raises InputError where any patient was seen in training, by id or picture, unless
    `allow_seen`; their rows are marked then and count in no score.
    """
    cells, allow_seen = options.get("cells", False), options.get("allow_seen", False)
    key, day = options.get("key"), options.get("reference_date")
    if out.exists():
        raise InputError(f"{out}: is there already; name another folder with --out")
    loaded = Ensemble.load(ensemble)
    given = loaded.description["cohort"]
    if loaded.other_versions:
        console.say(f"{ensemble}: last digits may differ here: {', '.join(loaded.other_versions)}")
    pseudonyms = None if key is None else read_pseudonyms(key, make=True)
    surveyed = survey_cohort(data, day or loaded.reference_date, pseudonyms)
    if note := _other_names(given.get("pseudonyms"), pseudonyms, surveyed):
        console.say(f"{ensemble}: {note}")
    missing_P = _told_attributes(loaded, surveyed, day)
    seen_P, cohort_hash = _look_through(loaded, surveyed, data, allow_seen)
    if given["simulated"] != surveyed.simulated:
        console.say("One of the two cohorts is SIMULATED: these predictions say nothing about people.")
    about = file_metadata(surveyed.name, cohort_hash, surveyed.simulated)
    with atomic_folder(out) as scratch:
        with ExitStack() as open_files:
            file = open_files.enter_context(cells_file(scratch / "cells.parquet", about)) if cells else None
            votes, hash_then = _votes(loaded, surveyed, file)
        if hash_then != cohort_hash:
            raise InputError(f"{data}: changed while it was read; start again")
        said = loaded.combine(votes)
        table = loaded.table(surveyed.patients["patient"].tolist(), said, seen_P)
        table = table.assign(missing=missing_P)
        write_predictions(scratch, table, about)
    external = _external(loaded, surveyed, said, seen_P)
    values = {"out": out, "threshold": loaded.threshold, "simulated": surveyed.simulated, "predictions": table}
    return Result(f"{out}: {_said(loaded, said, seen_P)}{external.text}", values | {"external": external.values})


def _told_attributes(loaded: Ensemble, surveyed: CohortSurvey, day: date | None) -> np.ndarray:
    """Return which attributes of each patient are missing [P], and say how ages are counted and what else differs."""
    notes = [*surveyed.notes, *loaded.check_attributes(surveyed)]
    if tells_ages(loaded.shown_attributes):
        notes.append(loaded.ages.note(surveyed, day))
    elif day is not None:
        notes.append("--reference-date changes nothing: the ensemble looks at no age")
    missing_P = loaded.missing(surveyed.patients)
    for note in filter(None, [*notes, missing_note(missing_P)]):
        console.say(f"{surveyed.name}: {note}")
    return missing_P


def _other_names(theirs: str | None, ours: Pseudonyms | None, surveyed: CohortSurvey) -> str:
    """Return a note where patients seen in training cannot be known by their ids, "" where they can."""
    alike = ours is not None or are_pseudonyms(surveyed.patients["patient"].tolist())
    if theirs and not alike:
        return "trained on pseudonyms: patients are known by their pictures alone; --pseudonymise FILE knows ids, too"
    if ours is not None and ours.fingerprint != theirs:
        trained = "pseudonyms of another key" if theirs else "ids as they are"
        return f"trained on {trained}: patients seen in training are known by their pictures alone"
    return ""


def _look_through(loaded: Ensemble, surveyed: CohortSurvey, data: str, allow_seen: bool) -> tuple[np.ndarray, str]:
    """Return which patients [P] were seen in training, and the cohort's hash; every picture is read, none decoded."""
    ids = surveyed.patients["patient"].tolist()
    seen_P, told = loaded.seen_ids(ids), CohortHash(surveyed.reference_date, surveyed.attributes)
    if not allow_seen:
        _refuse_seen(seen_P, ids, data, "id")
    with console.bar("Reading patients", len(surveyed)) as bar:
        for rows in surveyed.block_ranges():
            digests, some = surveyed.digests(rows), slice(rows.start, rows.stop)
            told.add(surveyed.patients[some], digests)
            seen_P[some] |= loaded.seen_pictures(digests)
            bar.advance(len(rows))
    if not allow_seen:
        _refuse_seen(seen_P, ids, data, "picture")
    return seen_P, str(told)


def _refuse_seen(seen_P: np.ndarray, ids: list[str], data: str, by: str) -> None:
    if seen_P.any():
        some = few([ids[row] for row in np.flatnonzero(seen_P)])
        raise InputError(
            f"{data}: {int(seen_P.sum())} of its {len(ids)} patients were seen in training, by {by} ({some}); leave "
            "them out, or predict them all the same with --allow-seen, which marks their rows"
        )


def _votes(loaded: Ensemble, surveyed: CohortSurvey, file: CellsFile | None) -> tuple[list[Votes], str]:
    """Return the votes on block after block, their cells written to `file`, and the hash of what was read."""
    told = CohortHash(surveyed.reference_date, surveyed.attributes)
    votes = []
    with console.bar("Predicting patients", len(surveyed)) as bar:
        for rows in surveyed.block_ranges():
            votes.append(_votes_on(surveyed.block(rows), loaded, told, file))  # no two blocks are held at once
            bar.advance(len(rows))
    return votes, str(told)


def _votes_on(block: Block, loaded: Ensemble, told: CohortHash, file: CellsFile | None) -> Votes:
    told.add(block.cohort.patients, block.cohort.digests_of_bags)
    votes, of_cells_2C = loaded.vote(block.cohort, cells=file is not None)
    if file is not None and of_cells_2C is not None:
        file(block, of_cells_2C)
    return votes


def _said(loaded: Ensemble, said: EnsemblePrediction, seen_P: np.ndarray) -> str:
    tumoral = int((said.probability_P >= loaded.threshold).sum())
    seen = f"; {int(seen_P.sum())} were seen in training: marked, no predictions for new patients"
    return f"{len(seen_P)} patients, {tumoral} called tumoral" + (seen if seen_P.any() else "")


def _external(loaded: Ensemble, surveyed: CohortSurvey, said: EnsemblePrediction, seen_P: np.ndarray) -> Result:
    """Return the scores on labelled patients that were not seen in training, a line each, if there are any."""
    labels_P = surveyed.patients["label"].to_numpy()
    counted_P = (labels_P != TO_PREDICT) & ~seen_P
    if not counted_P.any():
        return Result("", None)
    try:
        check_scorable(labels_P[counted_P], "no external validation")
    except InputError as error:
        return Result(f"\n{error}", None)
    scores = external_scores(said.probability_P[counted_P], labels_P[counted_P], loaded.threshold)
    values = {"n_patients": int(counted_P.sum()), "scores": scores}
    return Result("\n" + external_summary(scores, labels_P[counted_P], surveyed.simulated), values)
