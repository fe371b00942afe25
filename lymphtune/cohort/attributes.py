"""Clinical attributes of patients, and their encoding as numbers for models.

Shapes: P patients, A columns of all attributes, L levels of one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Attribute:
    """One column of a cohort's patients.

    log: models see the natural logarithm. levels: the known words of a categorical attribute, None for numbers.
    """

    name: str
    log: bool = False
    levels: tuple[str, ...] | None = None

    @property
    def names(self) -> list[str]:
        """Names of its encoded columns: one for numbers and for two levels, else one per level."""
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
        """Encoded columns [P, columns] float64; NaN for missing values and unknown words."""
        if self.levels is None:
            values_P = column.to_numpy(dtype=np.float64)
            return (np.log(values_P) if self.log else values_P)[:, None]
        numbers_PL = np.array([[value == level for level in self._shown] for value in column], dtype=np.float64)
        numbers_PL = numbers_PL.reshape(len(column), len(self._shown))
        numbers_PL[~column.isin(self.levels).to_numpy()] = np.nan
        return numbers_PL


# the study's attributes
STANDARD = (Attribute("age_years"), Attribute("lymphocytes_g_per_l", log=True))


def attribute_matrix(patients: pd.DataFrame, attributes: Sequence[Attribute]) -> np.ndarray:
    """Encoded attributes [P, A] float64; NaN for missing values, which are imputed within each fold."""
    columns = [attribute.numbers(patients[attribute.name]) for attribute in attributes]
    return np.concatenate([np.zeros((len(patients), 0)), *columns], axis=1)


def attribute_names_text(attributes: Sequence[Attribute]) -> str:
    """The attributes that models use beside the pictures, as part of a sentence."""
    if tuple(attributes) == STANDARD:
        return "age and lymphocyte count"
    *names, last = [attribute.name for attribute in attributes]
    return f"{', '.join(names)} and {last}" if names else last


def names_of(attributes: Iterable[Attribute]) -> list[str]:
    """The A names of the matrix's columns."""
    return [name for attribute in attributes for name in attribute.names]


def attributes_of_yaml(given: Any) -> tuple[Attribute, ...]:
    """Read attributes written by `as_yaml`; raises ValueError, KeyError or TypeError if they are invalid."""
    found = tuple(
        Attribute(str(one["name"]), bool(one["log"]), None if one["levels"] is None else tuple(map(str, one["levels"])))
        for one in given
    )
    if len({attribute.name for attribute in found}) < len(found):
        raise ValueError("an attribute is given twice")
    return found
