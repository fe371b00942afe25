"""A saved ensemble applied to new patients: predictions and a submission in a folder of their own."""

from datetime import date
from pathlib import Path

import numpy as np

from lymphtune import console
from lymphtune.cohort import load_cohort
from lymphtune.ensembling.build import write_predictions
from lymphtune.ensembling.bundle import Ensemble
from lymphtune.errors import InputError
from lymphtune.files import whole_folder


def predict_to(ensemble: Path, data: str, out: Path) -> str:
    """Write predictions.parquet and submission.csv for every patient of `data`; return a line that says so.

    Ages are counted to the day that the ensemble was trained with. Raises InputError where a picture of
    any of them was trained on.
    """
    if out.exists():
        raise InputError(f"{out}: is there already; name another folder with --out")
    loaded = Ensemble.load(ensemble)
    given = loaded.description["cohort"]
    cohort = load_cohort(data, date.fromisoformat(given["reference_date"]))
    by_picture, by_id = loaded.seen(cohort)
    if by_picture:
        raise InputError(
            f"{data}: the ensemble was trained on pictures of {len(by_picture)} of its {len(cohort.patients)} "
            f"patients ({_some(by_picture)}); leave them out"
        )
    if by_id:
        console.say(
            f"{data}: {len(by_id)} ids ({_some(by_id)}) also name patients the ensemble was trained on, with other "
            "pictures. If they are the same people, these are no predictions for new patients."
        )
    if given["simulated"] != cohort.simulated:
        console.say("One of the two cohorts is SIMULATED: these predictions say nothing about people.")
    with whole_folder(out) as scratch:
        said = write_predictions(scratch, cohort, np.arange(len(cohort.patients)), loaded)
    tumoral = int((said.probability_P >= loaded.threshold).sum())
    return f"{out}: {len(cohort.patients)} patients, {tumoral} called tumoral"


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
