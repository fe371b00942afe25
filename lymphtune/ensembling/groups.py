"""What an ensemble is worth in parts of the cohort: by sex and by age.

Shapes: S resamples, P patients judged, G patients of a group.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lymphtune.ensembling.candidates import Candidates
from lymphtune.statistics.bootstrap import Interval
from lymphtune.statistics.honest import HeldOutScorer, ResampledPredictions

LEAST_PATIENTS = 10  # of a group that is scored
AGES = (50.0, 70.0)  # years, between which groups of age are parted
GROUP_METRICS = ("balanced_accuracy", "recall", "specificity", "auc")
SEXES = {"F": "female", "M": "male", "": "sex not recorded"}


@dataclass(frozen=True)
class Group:
    """Some of the patients judged, with their honest scores by metric, or why they have none."""

    name: str
    n_reactive: int
    n_tumoral: int
    honest: dict[str, Interval]
    reason: str = ""


def groups(scorer: HeldOutScorer, predictions: ResampledPredictions, patients: pd.DataFrame) -> list[Group]:
    """Return the groups by sex and by age; patients: those judged, in the order of left_out.

    Each group's patients are scored where a resample leaves them out, after the whole procedure has learnt from all
    drawn patients, of whatever group: the score of the one ensemble that there is, not of one made for the group.
    """
    return [_group(name, of_P, scorer, predictions) for name, of_P in _parts(patients)]


def scored_patients(candidates: Candidates, patients: pd.DataFrame) -> pd.DataFrame:
    """Return the cohort's rows of the patients judged, in the order of the candidates."""
    return patients.set_index("patient").loc[candidates.patients].reset_index()


def _parts(patients: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and members [P] of each group; those of unknown sex only where there are any."""
    sex_P, age_P = patients["sex"].to_numpy(), patients["age_years"].to_numpy()
    for letter, name in SEXES.items():
        if letter or (sex_P == letter).any():
            yield name, sex_P == letter
    young, old = AGES
    yield f"under {young:g} years", age_P < young
    yield f"{young:g} to {old:g} years", (age_P >= young) & (age_P <= old)
    yield f"over {old:g} years", age_P > old


def _group(name: str, of_P: np.ndarray, scorer: HeldOutScorer, predictions: ResampledPredictions) -> Group:
    labels_G = scorer.labels_P[of_P]
    n_tumoral, n_reactive = int((labels_G == 1).sum()), int((labels_G == 0).sum())
    reason = ""
    if not len(labels_G):
        reason = "no patient"
    elif len(labels_G) < LEAST_PATIENTS:
        reason = f"fewer than {LEAST_PATIENTS} patients"
    elif not (n_tumoral and n_reactive):
        reason = "one class only"
    if reason:
        return Group(name, n_reactive, n_tumoral, {}, reason)
    group_P = scorer.group_P
    among = HeldOutScorer(labels_G, scorer.counts_SP[:, of_P], None if group_P is None else group_P[of_P])
    said = replace(predictions, probability_SP=predictions.probability_SP[:, of_P])
    return Group(name, n_reactive, n_tumoral, {metric: among.score(said, metric) for metric in GROUP_METRICS})
