"""Attributes of new patients as an ensemble uses them: the date of ages, and missing values.

Shapes: P patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from lymphtune.cohort import Cohort, CohortSurvey
from lymphtune.cohort.ages import AGE_YEARS, COLUMN, age_range
from lymphtune.cohort.attributes import Attribute
from lymphtune.cohort.cohort import AgesAt
from lymphtune.errors import InputError


@dataclass(frozen=True)
class TrainedAges:
    """The date at which an ensemble's training ages were computed; at: None if an earlier version saved it."""

    at: AgesAt | None
    reference_date: date

    @classmethod
    def of(cls, cohort: dict[str, Any]) -> "TrainedAges":
        """Parse the `cohort` part of ensemble.yaml; raises ValueError if it is invalid."""
        if (at := cohort.get("ages")) not in (None, "examination", "reference_date"):
            raise ValueError("ages")
        return cls(at, date.fromisoformat(cohort["reference_date"]))

    def note(self, cohort: Cohort | CohortSurvey, asked: date | None) -> str:
        """Return a note on the date and range of new patients' ages, and on the difference from training.

        asked: date given by `--reference-date`. Raises InputError if the ensemble was trained on ages at the
        examination and new patients have no date of examination, or if the option contradicts the table.
        """
        if cohort.ages == "examination":
            if asked is not None:
                raise InputError(
                    f"--reference-date: {cohort.name} has each patient's age at the examination, which this option "
                    "does not change; leave the option out, or remove that column from the table"
                )
            return f"ages are those at the examination: {age_range(cohort)}{self._unlike('examination')}"
        if asked is not None:
            unlike = self._unlike("reference_date", asked)
            return f"ages are counted to {asked} (--reference-date): {age_range(cohort)}{unlike}"
        if self.at == "examination":
            raise InputError(
                f"{cohort.name}: no date of examination, and the ensemble was trained on ages at the examination; add "
                f"a column {COLUMN}, or count all ages to one day with --reference-date YYYY-MM-DD"
            )
        return (
            f"ages are counted to {cohort.reference_date}, as in training: {age_range(cohort)} (another date: "
            f"`--reference-date`; each patient's examination: a column {COLUMN})"
        )

    def difference(self, cohort: Cohort) -> str:
        """Return a note on how the date of a cohort's ages differs from training; "" if it does not."""
        unlike = self._unlike(cohort.ages, cohort.reference_date)
        counted = "at the examination" if cohort.ages == "examination" else f"counted to {cohort.reference_date}"
        return f"ages are {counted}: {age_range(cohort)}{unlike}" if unlike else ""

    def _unlike(self, at: AgesAt, day: date | None = None) -> str:
        if self.at == "examination":
            return "" if at == "examination" else "; in training they were those at the examination"
        if at == "reference_date" and day == self.reference_date:
            return ""
        return f"; in training they were counted to {self.reference_date}"


def missing_values(patients: pd.DataFrame, attributes: Sequence[Attribute]) -> np.ndarray:
    """Return the names of each patient's missing attributes [P], separated by commas; "" if none is missing.

    A category that did not occur in training counts as missing, too.
    """
    missing_AP = [np.isnan(attribute.numbers(patients[attribute.name])).any(axis=1) for attribute in attributes]
    names = [attribute.name for attribute in attributes]
    texts = [
        ", ".join(name for name, missing_P in zip(names, missing_AP, strict=True) if missing_P[row])
        for row in range(len(patients))
    ]
    return np.array(texts, dtype=object)


def missing_note(missing_P: np.ndarray) -> str:
    """Return a note on the number of patients without each attribute, and its imputation; "" if nothing is missing."""
    counts: dict[str, int] = {}
    for names in filter(None, missing_P):
        for name in names.split(", "):
            counts[name] = counts.get(name, 0) + 1
    if not counts:
        return ""
    what = ", ".join(f"{name} of {count} of {len(missing_P)} patients" for name, count in counts.items())
    return (
        f"missing: {what}; replaced by the mean of the training patients, and marked in column `missing` of "
        "predictions.parquet"
    )


def uses_age(attributes: Sequence[Attribute]) -> bool:
    return any(attribute.name == AGE_YEARS for attribute in attributes)
