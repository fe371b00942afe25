"""What an ensemble is told of new patients beside their pictures: ages as in training, and values that are missing.

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
    """How the ages were counted that an ensemble was trained on; at: None where an earlier version saved it."""

    at: AgesAt | None
    reference_date: date

    @classmethod
    def of(cls, cohort: dict[str, Any]) -> "TrainedAges":
        """Return what the cohort's part of ensemble.yaml says; raises ValueError where it says something else."""
        if (at := cohort.get("ages")) not in (None, "examination", "reference_date"):
            raise ValueError("ages")
        return cls(at, date.fromisoformat(cohort["reference_date"]))

    def note(self, cohort: Cohort | CohortSurvey, asked: date | None) -> str:
        """Return how the ages of new patients are counted, their range, and how that differs from training.

        asked: day named by `--reference-date`. Raises InputError where new patients have no day of examination and the
        ensemble was trained on ages at the examination, or where the option contradicts the table.
        """
        if cohort.ages == "examination":
            if asked is not None:
                raise InputError(
                    f"--reference-date: {cohort.name} gives each patient's age at the examination, which no other day "
                    "changes; leave the option out, or take that column out of the table"
                )
            return f"ages are those at the examination: {age_range(cohort)}{self._unlike('examination')}"
        if asked is not None:
            unlike = self._unlike("reference_date", asked)
            return f"ages are counted to {asked} (--reference-date): {age_range(cohort)}{unlike}"
        if self.at == "examination":
            raise InputError(
                f"{cohort.name}: no day of examination, and the ensemble was trained on ages at the examination; add a "
                f"column {COLUMN}, or count all ages to one day with --reference-date YYYY-MM-DD"
            )
        return (
            f"ages are counted to {cohort.reference_date}, as in training: {age_range(cohort)} (`--reference-date` "
            f"counts to another day, a column {COLUMN} to each patient's examination)"
        )

    def difference(self, cohort: Cohort) -> str:
        """Return how the ages of a cohort that has been read differ from those in training, "" where they do not."""
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
    """Return the names of each patient's attributes that are missing [P], separated by commas, "" where none is.

    A word that no patient had in training counts as missing, too.
    """
    missing_AP = [np.isnan(attribute.numbers(patients[attribute.name])).any(axis=1) for attribute in attributes]
    names = [attribute.name for attribute in attributes]
    return np.array(
        [", ".join(name for name, gone_P in zip(names, missing_AP, strict=True) if gone_P[row])
         for row in range(len(patients))],
        dtype=object,
    )  # fmt: skip


def missing_note(missing_P: np.ndarray) -> str:
    """Return how many patients lack which attribute, and what is made of it; "" where none lacks any."""
    counts: dict[str, int] = {}
    for names in filter(None, missing_P):
        for name in names.split(", "):
            counts[name] = counts.get(name, 0) + 1
    if not counts:
        return ""
    what = ", ".join(f"{name} of {count} of {len(missing_P)} patients" for name, count in counts.items())
    return (
        f"missing: {what}; predicted with the mean of the training patients in its place, and marked in column "
        "`missing` of predictions.parquet"
    )


def tells_ages(attributes: Sequence[Attribute]) -> bool:
    return any(attribute.name == AGE_YEARS for attribute in attributes)
