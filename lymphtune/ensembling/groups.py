"""Honest scores of an ensemble in subgroups of the cohort, by sex and by age.

Shapes: S resamples, P scored patients, G patients of a group.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lymphtune.ensembling.candidates import Candidates
from lymphtune.statistics.bootstrap import Interval
from lymphtune.statistics.honest import HeldOutScorer, ResampledPredictions

LEAST_PATIENTS = 10  # smallest group that is scored
AGES = (50.0, 70.0)  # boundaries of the age groups in years
GROUP_METRICS = ("balanced_accuracy", "recall", "specificity", "auc")
SEXES = {"F": "female", "M": "male", "": "sex not recorded"}


@dataclass(frozen=True)
class Group:
    """A group of the scored patients, with its honest scores by metric, or the reason why it has none."""

    name: str
    n_reactive: int
    n_tumoral: int
    honest: dict[str, Interval]
    reason: str = ""


def groups(scorer: HeldOutScorer, predictions: ResampledPredictions, patients: pd.DataFrame) -> list[Group]:
    """Return the groups by sex and by age; patients: the scored ones, in the order of `scorer`.

    A group's patients are scored in the resamples that hold them out, with the procedure fitted on patients of every
    group: the scores are those of the one ensemble, not of an ensemble fitted on the group.
    """
    return [_group(name, of_P, scorer, predictions) for name, of_P in _parts(patients)]


def scored_patients(candidates: Candidates, patients: pd.DataFrame) -> pd.DataFrame:
    """Return the cohort's rows of the scored patients, in the order of the candidates."""
    return patients.set_index("patient").loc[candidates.patients].reset_index()


def _parts(patients: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and mask [P] of each group; patients of unknown sex are a group only if there are any."""
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
    of_group = HeldOutScorer(labels_G, scorer.counts_SP[:, of_P], None if group_P is None else group_P[of_P])
    some = replace(predictions, probability_SP=predictions.probability_SP[:, of_P])
    return Group(name, n_reactive, n_tumoral, {metric: of_group.score(some, metric) for metric in GROUP_METRICS})
