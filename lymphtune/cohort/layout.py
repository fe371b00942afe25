"""Layout of a cohort's folder: table, columns, words, units and pictures, from `cohort.yaml` or as in the study.

The file is read as safe YAML. Every path in it must stay inside the folder.
"""

import re
import unicodedata
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from lymphtune.cohort.cohort import COLUMNS, TO_PREDICT, AgesAt
from lymphtune.cohort.folders import PATIENT, PLACEHOLDER, Template, composed, folder_entries
from lymphtune.config import Section, mishap
from lymphtune.errors import InputError, listed
from lymphtune.files import read_yaml

FILE = "cohort.yaml"
# accepted file names
FILES = (FILE, "cohort.yml")
CLINICAL = "clinical_annotation.csv"
TRAINSET, TESTSET = "trainset", "testset"
# names that attributes cannot have, because other columns use them
RESERVED = (*COLUMNS, "group", "picture", "encoded", "age", "lymphocytes", "cells")
# column of ages that the study's table may have in place of dates of birth
AGE = "AGE"
# one of each unit in 10^9/L
UNITS = {"10^9/L": 1.0, "10^3/uL": 1.0, "1/uL": 1e-3, "10^6/L": 1e-3, "1/L": 1e-9}


def _words(given: Any) -> Any:
    """A tuple of cell texts from one text or number, or a list of them."""
    some = given if isinstance(given, list) else [given]
    if not all(isinstance(one, str | int | float) and not isinstance(one, bool) for one in some):
        raise ValueError("expected texts or numbers as written in the table; quote yes, no, true, false and null")
    return tuple(str(one).strip() for one in some)


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]


def _inside(given: str) -> str:
    """A relative path, normalised; raises ValueError if it leaves the cohort's folder."""
    path = PurePosixPath(given)
    if not given or path.is_absolute() or ".." in path.parts or "\\" in given or not given.isprintable():
        raise ValueError(f"{given!r} is not a path inside the cohort's folder")
    return str(path)


class Columns(Section):
    """Names of the table's columns; null: there is no such column."""

    patient: str = "ID"
    # null: all patients are to be predicted
    label: str | None = "LABEL"
    sex: str | None = "GENDER"
    birth_date: str | None = "DOB"
    # date at which the age is computed; without it, the reference date
    examined_on: str | None = "EXAMINED_ON"
    # age at the examination, instead of birth_date and examined_on
    age_years: str | None = None
    lymphocytes: str | None = "LYMPH_COUNT"

    @model_validator(mode="before")
    @classmethod
    def _age(cls, given: Any) -> Any:
        """A column of ages replaces the dates of birth and of examination."""
        if not isinstance(given, dict):
            return given
        if given.get("age_years") is not None:
            for name in ("birth_date", "examined_on"):
                if given.get(name) is not None:
                    raise ValueError(f"{name} and age_years: name one of the two")
            return given | {"birth_date": None, "examined_on": None}
        if "birth_date" in given and given["birth_date"] is None:
            if given.get("examined_on") is not None:
                raise ValueError("examined_on: needs birth_date, from which the age is computed")
            return given | {"examined_on": None}
        return given

    @property
    def optional(self) -> dict[str, str]:
        """By key, the columns that the table may lack: those that cohort.yaml does not rename."""
        found = {key: getattr(self, key) for key in OPTIONAL}
        return {key: name for key, name in found.items() if name is not None and name == OPTIONAL[key]}

    @property
    def may_give_ages(self) -> bool:
        """Whether the table may have the column AGE instead of dates of birth."""
        return self.birth_date is not None and "birth_date" not in self.model_fields_set

    def fitted(self, header: Collection[str]) -> "Columns":
        """The columns without missing optional ones, and with AGE if the header has it instead of dates of birth."""
        changes: dict[str, str | None] = {key: None for key, name in self.optional.items() if name not in header}
        if self.may_give_ages and self.birth_date not in header and AGE in header:
            changes |= {"birth_date": None, "examined_on": None, "age_years": AGE}
        return self.model_copy(update=changes) if changes else self


OPTIONAL = {key: str(Columns.model_fields[key].default) for key in ("sex", "examined_on")}


class Labels(Section):
    """The words of the label's column."""

    # "0.0": pandas writes integers this way if any value is missing
    reactive: Words = ("0", "0.0")
    tumoral: Words = ("1", "1.0")
    to_predict: Words = ("-1", "-1.0", "")

    @property
    def values(self) -> dict[str, int]:
        return {
            word: value
            for value, words in ((0, self.reactive), (1, self.tumoral), (TO_PREDICT, self.to_predict))
            for word in words
        }

    @model_validator(mode="after")
    def _distinct(self) -> "Labels":
        if len(self.values) < len(self.reactive) + len(self.tumoral) + len(self.to_predict):
            raise ValueError("a word stands for two labels")
        return self


class Sexes(Section):
    """The words of the sex's column."""

    F: Words = ("F", "f")
    M: Words = ("M", "m")
    unknown: Words = ("",)

    @property
    def values(self) -> dict[str, str]:
        return {word: sex for sex, words in (("F", self.F), ("M", self.M), ("", self.unknown)) for word in words}


class Extra(Section):
    """A clinical attribute beyond age and lymphocyte count."""

    column: str
    kind: Literal["numeric", "categorical"] = "numeric"
    log: bool = False

    @model_validator(mode="after")
    def _numeric_log(self) -> "Extra":
        if self.log and self.kind == "categorical":
            raise ValueError("log is for numbers")
        return self


class Group(Section):
    """A column by which patients are grouped: those that share its value stay in one fold; by: precision of a date."""

    column: str
    by: Literal["value", "day", "month", "year"] = "value"


def _group(given: Any) -> Any:
    return {"column": given} if isinstance(given, str) else given


class Pictures(Section):
    """Folders of a patient's pictures; {column} stands for the patient's value in the table, ** for subfolders."""

    labelled: str = f"{TRAINSET}/{PATIENT}"
    to_predict: str = f"{TESTSET}/{PATIENT}"

    @field_validator("labelled", "to_predict")
    @classmethod
    def _template(cls, given: str) -> str:
        text = _inside(given)
        Template.parse(text)
        return text

    def template(self, label: int) -> Template:
        """The template for a patient with this label."""
        return Template.parse(self.to_predict if label == TO_PREDICT else self.labelled)

    @property
    def templates(self) -> list[Template]:
        """The distinct templates, one or two."""
        return list(dict.fromkeys([self.template(0), self.template(TO_PREDICT)]))


class Layout(Section):
    """Layout of a folder's table and pictures; the defaults are the study's."""

    table: str = CLINICAL
    separator: Literal[",", ";", "\t", "|"] = ","
    decimal: Literal[".", ","] = "."
    encoding: Literal["utf-8", "latin-1", "cp1252"] = "utf-8"
    columns: Columns = Columns()
    labels: Labels = Labels()
    sexes: Sexes = Sexes()
    # texts that mean a missing value; without any, missing values are refused
    missing: Words = ()
    # study: M/D/YYYY and DD-MM-YYYY
    dates: Literal["study", "month_first", "day_first", "iso"] = "study"
    lymphocyte_unit: str = "10^9/L"
    # unit of the column age_years
    age_unit: Literal["years", "months"] = "years"
    attributes: dict[str, Extra] = Field(default_factory=dict)
    # column that identifies persons with several rows
    person: str | None = None
    groups: tuple[Annotated[Group, BeforeValidator(_group)], ...] = ()
    pictures: Pictures = Pictures()

    @field_validator("table")
    @classmethod
    def _table(cls, given: str) -> str:
        return _inside(given)

    @field_validator("lymphocyte_unit")
    @classmethod
    def _unit(cls, given: str) -> str:
        if given not in UNITS:
            raise ValueError(f"{given!r}; there are {listed(given, UNITS)}")
        return given

    @field_validator("groups", mode="before")
    @classmethod
    def _several(cls, given: Any) -> Any:
        return tuple(given) if isinstance(given, list) else given

    @field_validator("attributes")
    @classmethod
    def _names(cls, given: dict[str, Extra]) -> dict[str, Extra]:
        for name in given:
            if name in RESERVED or not name.isidentifier() or len(name) > 60:
                raise ValueError(
                    f"{name!r}: expected a name of letters, digits and _ that is not {', '.join(RESERVED)}"
                )
        return given

    @model_validator(mode="after")
    def _something_clinical(self) -> "Layout":
        columns = self.columns
        if not (columns.birth_date or columns.age_years or columns.lymphocytes or self.attributes):
            raise ValueError("no clinical attribute; name birth_date, age_years, lymphocytes or some under attributes")
        return self

    @model_validator(mode="after")
    def _no_answers(self) -> "Layout":
        """Refuse attributes that would leak the label, the patient's id, or the group."""
        columns = self.columns
        answers = {"label": columns.label, "patient": columns.patient}
        keys = answers | {"person": self.person} | {f"groups {one.column}": one.column for one in self.groups}
        own = {"sex": columns.sex, "birth_date": columns.birth_date, "age_years": columns.age_years}
        for name, column in (own | {"lymphocytes": columns.lymphocytes}).items():
            _refuse_same(f"columns: {name}", column, answers)
        for name, extra in self.attributes.items():
            _refuse_same(f"attributes: {name}", extra.column, keys)
        return self

    @property
    def required(self) -> list[str]:
        """The columns that the table must have."""
        columns, extra = self.columns, [one.column for one in self.attributes.values()]
        named = [columns.patient, columns.label, columns.birth_date, columns.age_years, columns.lymphocytes]
        named += [getattr(columns, key) for key in OPTIONAL if key not in columns.optional]
        named += [*extra, self.person, *(group.column for group in self.groups)]
        named += [name for template in self.pictures.templates for name in template.columns]
        return list(dict.fromkeys(name for name in named if name is not None))

    def fitted(self, header: Collection[str]) -> "Layout":
        """The layout without the optional columns that the header lacks."""
        return self.model_copy(update={"columns": self.columns.fitted(header)})

    @property
    def ages(self) -> AgesAt:
        """The day at which ages are computed; call it on a layout returned by `fitted`."""
        columns = self.columns
        return "examination" if columns.examined_on or columns.age_years else "reference_date"

    @property
    def described(self) -> str:
        """The required content of a folder, as text."""
        return f"{self.table}, {' and '.join(map(str, self.pictures.templates))}"

    @property
    def parents(self) -> list[str]:
        """The parent folders of patients' folders, one per template, as text."""
        return list(dict.fromkeys(str(template).partition("/<ID>")[0] for template in self.pictures.templates))

    @property
    def tops(self) -> set[str]:
        """The top-level folders that contain pictures; "" if a template starts with a placeholder."""
        firsts = [template.above[0] if template.above else "" for template in self.pictures.templates]
        return {"" if PLACEHOLDER.search(first) else first for first in firsts}


def _refuse_same(what: str, column: str | None, taken: dict[str, str | None]) -> None:
    """Raise ValueError if the column is one of those taken, regardless of spelling."""
    for role, other in taken.items():
        if column is not None and other is not None and _plain(column) == _plain(other):
            raise ValueError(
                f"{what} is the column {other!r}, which is that of the {role.partition(' ')[0].removesuffix('s')} and "
                "would leak the answer to the model; name another column, or leave it out"
            )


def _plain(column: str) -> str:
    """A column's name without case, spaces, _ and -."""
    return re.sub(r"[\s_-]", "", unicodedata.normalize("NFKC", column)).casefold()


STUDY = Layout()


def read_layout(folder: Path) -> Layout:
    """The layout in the folder's cohort.yaml, or the study's if there is no such file; raises InputError."""
    path = layout_file(folder)
    if path is None:
        return STUDY
    given = _normalised(read_yaml(path))
    try:
        return Layout.model_validate({} if given is None else given)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: {mishap(first, _known(first['loc'])).lstrip('.: ')}") from error


def layout_file(folder: Path) -> Path | None:
    """The folder's cohort.yaml or cohort.yml, None if there is neither; raises InputError if there are both."""
    found = sorted(entry.name for entry in folder_entries(folder) if entry.name.casefold() in FILES)
    if len(found) > 1:
        raise InputError(f"{folder}: {' and '.join(found)} both describe the cohort; keep one of them")
    if not found:
        return None
    if found[0] not in FILES:
        raise InputError(f"{folder / found[0]}: not read under this name; rename it to {FILE}")
    return folder / found[0]


def _normalised(given: Any) -> Any:
    """The content of a YAML file with every text in NFC."""
    if isinstance(given, str):
        return composed(given)
    if isinstance(given, list):
        return [_normalised(one) for one in given]
    if isinstance(given, dict):
        return {_normalised(name): _normalised(one) for name, one in given.items()}
    return given


SECTIONS: dict[str, type[Section]] = {
    "columns": Columns,
    "labels": Labels,
    "sexes": Sexes,
    "attributes": Extra,
    "groups": Group,
    "pictures": Pictures,
}


def _known(place: tuple[int | str, ...]) -> list[str]:
    """The known keys at this place of the file."""
    return sorted((Layout if len(place) < 2 else SECTIONS.get(str(place[0]), Layout)).model_fields)
