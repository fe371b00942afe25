"""Clinical attributes of patients as numbers: which there are, and how a model is shown them.

Shapes: P patients, A columns of all attributes, L levels of one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Attribute:
    """One column of a cohort's patients: numbers, or words of which `levels` are known."""

    name: str
    log: bool = False  # its natural logarithm is what a model sees
    levels: tuple[str, ...] | None = None  # None: numbers

    @property
    def names(self) -> list[str]:
        """Return a name for each of its numbers: there is one, or one a level where there are more than two."""
        if self.levels is None:
            return [f"log {self.name}" if self.log else self.name]
        return [f"{self.name} = {level}" for level in self._shown]

    @property
    def _shown(self) -> tuple[str, ...]:
        assert self.levels is not None
        return self.levels if len(self.levels) > 2 else self.levels[-1:]

    def as_yaml(self) -> dict[str, Any]:
        return asdict(self) | {"levels": None if self.levels is None else list(self.levels)}

    def numbers(self, column: pd.Series) -> np.ndarray:
        """Return [P, numbers] float64; NaN where there is no value, or a word that is none of the levels."""
        if self.levels is None:
            values_P = column.to_numpy(dtype=np.float64)
            return (np.log(values_P) if self.log else values_P)[:, None]
        numbers_PL = np.array([[value == level for level in self._shown] for value in column], dtype=np.float64)
        numbers_PL = numbers_PL.reshape(len(column), len(self._shown))
        numbers_PL[~column.isin(self.levels).to_numpy()] = np.nan
        return numbers_PL


STANDARD = (Attribute("age_years"), Attribute("lymphocytes_g_per_l", log=True))  # the study's


def attribute_matrix(patients: pd.DataFrame, attributes: Sequence[Attribute]) -> np.ndarray:
    """Return [P, A] float64 of the patients, NaN where a value is missing: it is imputed within the fold."""
    columns = [attribute.numbers(patients[attribute.name]) for attribute in attributes]
    return np.concatenate([np.zeros((len(patients), 0)), *columns], axis=1)


def attribute_names_text(attributes: Sequence[Attribute]) -> str:
    """Return what models are told beside the pictures, for a sentence."""
    if tuple(attributes) == STANDARD:
        return "age and lymphocyte count"
    *names, last = [attribute.name for attribute in attributes]
    return f"{', '.join(names)} and {last}" if names else last


def names_of(attributes: Iterable[Attribute]) -> list[str]:
    """Return the A names of the matrix's columns."""
    return [name for attribute in attributes for name in attribute.names]


def attributes_of_yaml(given: Any) -> tuple[Attribute, ...]:
    """Return the attributes that `as_yaml` wrote; raises ValueError, KeyError or TypeError where it wrote no such."""
    found = tuple(
        Attribute(str(one["name"]), bool(one["log"]), None if one["levels"] is None else tuple(map(str, one["levels"])))
        for one in given
    )
    if len({attribute.name for attribute in found}) < len(found):
        raise ValueError("an attribute is there twice")
    return found
