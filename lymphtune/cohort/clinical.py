"""Read and check the table of patients: one row per patient, with ages instead of dates of birth."""

import math
from collections.abc import Callable, Mapping
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from lymphtune.cohort.attributes import STANDARD, Attribute
from lymphtune.cohort.cohort import TO_PREDICT
from lymphtune.cohort.dates import WRITTEN, read_date
from lymphtune.cohort.layout import FILE, OPTIONAL, STUDY, UNITS, Extra, Group, Layout
from lymphtune.cohort.table import open_table, quoted
from lymphtune.errors import InputError
from lymphtune.files import NUMBER, name_problem

ATTRIBUTES = ("patient", "label", "sex", "age_years", "lymphocytes_g_per_l")
MAX_AGE_YEARS = 120
MAX_ID_LENGTH = 100
MAX_LEVELS = 30
DAYS_PER_YEAR = 365.25
LATE_BIRTH = (
    "correct it, count ages to a later day with --reference-date, or give the day of examination in a column "
    f"{OPTIONAL['examined_on']} (`examined_on` in {FILE})"
)
ALLOW_MISSING = f'fill it in, or write in {FILE} what stands for no value (`missing: ""` where it is empty)'
# kind of a fault
NO_FOLDER = "no folder's name"
PERIODS = {"day": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}


def read_clinical(path: Path, reference_date: date | None, layout: Layout = STUDY) -> pd.DataFrame:
    """Read the table: one row per patient in the file's order, indexed by the spreadsheet's row number.

    Columns: ATTRIBUTES, the layout's further attributes, and `group` if the layout groups patients. Label -1 marks a
    patient to be predicted. Age is in years at the examination if the table has its date, else at `reference_date`,
    and missing without either. Missing values are NaN, or "" for words, if the layout allows them. Raises InputError
    with file, row and patient.
    """
    rows_of_ids: dict[str, int] = {}
    parsed, keys = [], []
    _, layout, rows = open_table(path, layout)
    for row, values in rows:
        patient = _new_id(values[layout.columns.patient], layout, f"{path}, row {row}", rows_of_ids)
        rows_of_ids[patient] = row
        reader = Row(values, layout, reference_date, f"{path}, row {row} ({patient})")
        parsed.append({"row": row, "patient": patient} | reader.attributes())
        keys.append(reader.keys())
    if not parsed:
        raise InputError(f"{path}: a header and no patient below it; expected one row per patient")
    kinds = {"patient": "str", "label": "int64", "sex": "str", "age_years": "float64", "lymphocytes_g_per_l": "float64"}
    table = pd.DataFrame(parsed).set_index("row").astype(kinds)
    if layout.person or layout.groups:
        table["group"] = linked_groups(table["patient"].tolist(), keys)
    if layout.person:
        _check_persons(table, [key.get("person") for key in keys], path)
    return table


def parents_of(path: Path, layout: Layout) -> dict[str, tuple[str, str]]:
    """The parent folders (`Row.parents`) of each patient of a valid table."""
    _, layout, rows = open_table(path, layout)
    column = layout.columns.patient
    return {
        values[column]: Row(values, layout, None, f"{path}, row {row} ({values[column]})").parents()
        for row, values in rows
    }


def attributes_of(table: pd.DataFrame, layout: Layout) -> tuple[Attribute, ...]:
    """The attributes that models use: age and lymphocyte count if present, and the layout's further ones."""
    columns = layout.columns
    given = (columns.birth_date or columns.age_years, columns.lymphocytes)
    found = [attribute for attribute, column in zip(STANDARD, given, strict=True) if column]
    for name, extra in layout.attributes.items():
        levels = tuple(sorted({*table[name]} - {""})) if extra.kind == "categorical" else None
        if levels is not None and len(levels) > MAX_LEVELS:
            raise InputError(
                f"{layout.table}: column {extra.column} has {len(levels)} different words; expected {MAX_LEVELS} at "
                "most of a categorical attribute"
            )
        found.append(Attribute(name, extra.log, levels))
    return tuple(found)


def id_problem(patient: str) -> str | None:
    """Why the id is invalid as a printable folder name, None if it is valid."""
    if not patient:
        return "is empty"
    if len(patient) > MAX_ID_LENGTH:
        return f"has {len(patient)} characters, over {MAX_ID_LENGTH}"
    if patient.startswith("."):
        return "starts with a dot"
    if "/" in patient or "\\" in patient:
        return "holds a path separator"
    if not patient.isprintable() or patient != patient.strip():
        return "holds a character that cannot be printed, or a space at an end"
    return name_problem(patient)


class BadValue(InputError):
    """An invalid value of the table; `kind`: what is wrong, in a word or two."""

    def __init__(self, where: str, column: str, kind: str, text: str, found: str, expected: str) -> None:
        super().__init__(f"{where}: {column} {found}; {expected}")
        self.column, self.kind, self.text, self.expected = column, kind, text, expected


class Row:
    """One row of the table; messages start with its position `where`."""

    def __init__(self, values: Mapping[str, str], layout: Layout, reference_date: date | None, where: str) -> None:
        self.values, self.layout, self.reference_date, self.where = values, layout, reference_date, where

    def attributes(self) -> dict[str, Any]:
        """The parsed values except id and group; raises BadValue at the first fault."""
        return {name: read() for name, read in self._readers().items()}

    def attributes_and_faults(self) -> tuple[dict[str, Any], list[BadValue]]:
        """The values that can be parsed, and the faults of the others."""
        values, faults = {}, []
        for name, read in self._readers().items():
            try:
                values[name] = read()
            except BadValue as fault:
                faults.append(fault)
        return values, faults

    def _readers(self) -> dict[str, Callable[[], Any]]:
        """The function that parses each value."""
        named: dict[str, Callable[[], Any]] = {
            "label": self._label,
            "sex": self._sex,
            "age_years": self._age_years,
            "lymphocytes_g_per_l": self._lymphocytes,
        }
        return named | {name: partial(self._extra, extra) for name, extra in self.layout.attributes.items()}

    def keys(self) -> dict[str, str]:
        """The values that the patient shares with others of its group, by kind of group; missing ones are left out."""
        keys = {f"group {group.column}": self._period(group) for group in self.layout.groups}
        if self.layout.person:
            keys["person"] = self._text(self.layout.person)
        return {name: key for name, key in keys.items() if key}

    def parents(self) -> tuple[str, str]:
        """Parent folder of the patient's folder if it is labelled, and if it is to be predicted."""
        templates = [self.layout.pictures.template(0), self.layout.pictures.template(TO_PREDICT)]
        columns = {name for template in templates for name in template.columns}
        values = {column: self._folder_name(column) for column in columns}
        labelled, to_predict = (template.parent(values) for template in templates)
        return labelled, to_predict

    def _folder_name(self, column: str) -> str:
        text = self._text(column)
        if problem := id_problem(text):
            expected = f"expected the name of a folder, as `pictures` in {FILE} has {{{column}}} for one"
            raise self._bad(column, NO_FOLDER, text, f"{quoted(text)} {problem}", expected)
        return text

    def _text(self, column: str) -> str:
        """The text of a column, "" if it is missing."""
        text = self.values[column]
        return "" if text in self.layout.missing else text

    def _required_text(self, column: str, expected: str) -> str:
        """The text of a column, "" if it is missing and the layout allows that; else raises BadValue."""
        text = self._text(column)
        if not text and not self.layout.missing:
            raise self._bad(column, "missing", "", "is missing", f"{expected}; {ALLOW_MISSING}")
        return text

    def _label(self) -> int:
        column, words = self.layout.columns.label, self.layout.labels
        if column is None:
            return TO_PREDICT
        text = self.values[column]
        if text not in words.values:
            known = (words.reactive[0], words.tumoral[0], words.to_predict[0])
            expected = "{} (reactive), {} (tumoral) or {} (to predict)".format(*known)
            raise self._bad(column, "unknown", text, quoted(text), f"expected {expected}")
        return words.values[text]

    def _sex(self) -> str:
        column, words = self.layout.columns.sex, self.layout.sexes.values
        text = "" if column is None else self.values.get(column, "")
        if text in self.layout.missing:
            return ""
        if text not in words:
            expected = " or ".join([", ".join(self.layout.sexes.F[:1] + self.layout.sexes.M[:1]), "nothing"])
            raise self._bad(str(column), "unknown", text, quoted(text), f"expected {expected}")
        return words[text]

    def _age_years(self) -> float:
        columns = self.layout.columns
        if columns.age_years is not None:
            return self._age(columns.age_years)
        if columns.birth_date is None:
            return math.nan
        column = columns.birth_date
        text = self._required_text(column, f"expected {WRITTEN[self.layout.dates]}")
        day, counted_to = self._age_date()
        if not text or day is None:
            return math.nan
        born = self._day(column, text)
        if born > day:
            cure = "correct one of them" if columns.examined_on else LATE_BIRTH
            raise self._bad(column, "too late", text, f"{text!r} is after {counted_to}", cure)
        age_years = (day - born).days / DAYS_PER_YEAR
        if age_years > MAX_AGE_YEARS:
            found = f"{text!r} makes {age_years:.0f} years at {day}"
            raise self._bad(column, "too old", text, found, f"expected {MAX_AGE_YEARS} at most")
        return age_years

    def _age_date(self) -> tuple[date | None, str]:
        """The day at which the age is computed, None if it is missing, and that day as text."""
        column = self.layout.columns.examined_on
        if column is None:
            return self.reference_date, f"the reference date {self.reference_date}"
        text = self._required_text(column, f"expected {WRITTEN[self.layout.dates]}")
        day = self._day(column, text) if text else None
        return day, f"the examination on {text}"

    def _age(self, column: str) -> float:
        unit = self.layout.age_unit
        expected = f"expected an age in {unit}, from 0 to {MAX_AGE_YEARS} years"
        text = self._required_text(column, expected)
        if not text:
            return math.nan
        age_years = self._number(column, text, expected) / (12 if unit == "months" else 1)
        if not 0 <= age_years <= MAX_AGE_YEARS:
            raise self._bad(column, "out of range", text, f"{quoted(text)} is out of range", expected)
        return age_years

    def _lymphocytes(self) -> float:
        column, unit = self.layout.columns.lymphocytes, self.layout.lymphocyte_unit
        if column is None:
            return math.nan
        point = "point" if self.layout.decimal == "." else "comma"
        expected = f"expected a number above 0, in {unit}, with a decimal {point}"
        text = self._required_text(column, expected)
        return self._positive(column, text, expected) * UNITS[unit] if text else math.nan

    def _extra(self, extra: Extra) -> float | str:
        """The value of one of the layout's further attributes."""
        if extra.kind == "categorical":
            word = self._required_text(extra.column, "expected a word")
            if len(word) > MAX_ID_LENGTH or not word.isprintable():
                expected = f"expected a word of {MAX_ID_LENGTH} characters at most that can be printed"
                raise self._bad(extra.column, "unknown", word, f"{quoted(word)} is no category", expected)
            return word
        expected = f"expected a number{' above 0' if extra.log else ''}"
        text = self._required_text(extra.column, expected)
        if not text:
            return math.nan
        number = self._positive if extra.log else self._number
        return number(extra.column, text, expected)

    def _number(self, column: str, text: str, expected: str) -> float:
        written = text.translate(str.maketrans(",.", ".,")) if self.layout.decimal == "," else text
        if not NUMBER.fullmatch(written):
            raise self._bad(column, "not a number", text, f"{quoted(text)} is not a number", expected)
        if not math.isfinite(float(written)):
            raise self._bad(column, "out of range", text, f"{quoted(text)} is out of range", expected)
        return float(written)

    def _positive(self, column: str, text: str, expected: str) -> float:
        number = self._number(column, text, expected)
        if number <= 0:
            raise self._bad(column, "out of range", text, f"{quoted(text)} is out of range", expected)
        return number

    def _day(self, column: str, text: str) -> date:
        day = read_date(text, self.layout.dates)
        if day is None:
            expected = f"expected {WRITTEN[self.layout.dates]}"
            raise self._bad(column, "not a date", text, f"{quoted(text)} is not a date", expected)
        return day

    def _bad(self, column: str, kind: str, text: str, found: str, expected: str) -> BadValue:
        return BadValue(self.where, column, kind, text, found, expected)

    def _period(self, group: Group) -> str:
        text = self._text(group.column)
        if not text or group.by == "value":
            return text
        return self._day(group.column, text).strftime(PERIODS[group.by])


def _new_id(text: str, layout: Layout, where: str, rows_of_ids: Mapping[str, int]) -> str:
    column, problem = layout.columns.patient, id_problem(text)
    if problem:
        raise InputError(f"{where}: {column} {quoted(text)} {problem}; expected the name of the patient's folder")
    if text in rows_of_ids:
        raise InputError(
            f"{where}: {column} {text!r} is in row {rows_of_ids[text]} already; expected one row per patient"
        )
    return text


def linked_groups(patients: list[str], keys: list[dict[str, str]]) -> list[str]:
    """The group of each patient, named after its first: connected components of patients that share a key."""
    group_of = list(range(len(patients)))

    def root(number: int) -> int:
        while group_of[number] != number:
            group_of[number] = group_of[group_of[number]]
            number = group_of[number]
        return number

    first_with: dict[tuple[str, str], int] = {}
    for number, named in enumerate(keys):
        for key in named.items():
            low, high = sorted((root(first_with.setdefault(key, number)), root(number)))
            group_of[high] = low
    return [patients[root(number)] for number in range(len(patients))]


def _check_persons(table: pd.DataFrame, persons: list[str | None], path: Path) -> None:
    """Raise InputError if one person is labelled in one row and to be predicted in another."""
    known = {person: row for person, row, label in zip(persons, table.index, table["label"], strict=True) if label >= 0}
    for person, row, label, patient in zip(persons, table.index, table["label"], table["patient"], strict=True):
        if person and label == TO_PREDICT and person in known:
            raise InputError(
                f"{path}, row {row} ({patient}): to predict, and the same person as in row {known[person]}, which is "
                "labelled; no person may have two roles: remove one of the two"
            )
