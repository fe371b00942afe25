"""`clinical_annotation.csv` read into a table: one checked row a patient, ages instead of dates of birth."""

import csv
import io
import math
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pandas as pd

from lymphtune.cohort.cohort import TO_PREDICT
from lymphtune.errors import InputError

ATTRIBUTES = ("patient", "label", "sex", "age_years", "lymphocytes_g_per_l")
REQUIRED = ("ID", "LABEL", "DOB", "LYMPH_COUNT")
MAX_BYTES = 64 * 2**20
MAX_AGE_YEARS = 120
MAX_ID_LENGTH = 100
DAYS_PER_YEAR = 365.25

# "1.0": pandas writes a column of whole numbers so as soon as one is missing
LABELS = {"0": 0, "0.0": 0, "1": 1, "1.0": 1, "-1": TO_PREDICT, "-1.0": TO_PREDICT, "": TO_PREDICT}
SEXES = {"": "", "F": "F", "M": "M", "f": "F", "m": "M"}
SLASHED = re.compile(r"(?P<month>[0-9]{1,2})/(?P<day>[0-9]{1,2})/(?P<year>[0-9]{4})")
DASHED = re.compile(r"(?P<day>[0-9]{1,2})-(?P<month>[0-9]{1,2})-(?P<year>[0-9]{4})")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")  # float() takes 1_000 and nan too


def read_clinical(path: Path, reference_date: date) -> pd.DataFrame:
    """Return one row a patient, in the file's order, columns ATTRIBUTES; the index is the spreadsheet's row.

    Label -1 (or none) marks a patient to be predicted; age is counted in years to `reference_date`.
    Raises InputError naming the file, the row and the patient.
    """
    rows_of_ids: dict[str, int] = {}
    parsed = []
    for row, values in _records(path):
        patient = _new_id(values["ID"], f"{path}, row {row}", rows_of_ids)
        rows_of_ids[patient] = row
        where = f"{path}, row {row} ({patient})"
        label, sex = _label(values["LABEL"], where), _sex(values.get("GENDER", ""), where)
        age_years = _age_years(values["DOB"], reference_date, where)
        parsed.append((row, patient, label, sex, age_years, _count(values["LYMPH_COUNT"], where)))
    if not parsed:
        raise InputError(f"{path}: a header and no patient below it; expected one row a patient")
    table = pd.DataFrame(parsed, columns=["row", *ATTRIBUTES]).set_index("row")
    return table.astype({"patient": "str", "label": "int64", "sex": "str", "age_years": "float64"})


def birth_date(text: str) -> date | None:
    """Return the day that M/D/YYYY or DD-MM-YYYY names, or None where it names none."""
    match = SLASHED.fullmatch(text) or DASHED.fullmatch(text)
    if not match:
        return None
    try:
        return date(int(match["year"]), int(match["month"]), int(match["day"]))
    except ValueError:
        return None


def id_problem(patient: str) -> str | None:
    """Return why the id cannot name a folder and be printed, or None where it can."""
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
    return None


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: over {MAX_BYTES // 2**20} MB; expected a table with one row a patient")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row, byte = data.count(b"\n", 0, error.start) + 1, data[error.start]
        raise InputError(f"{path}, row {row}: byte 0x{byte:02x} is not UTF-8; save it as CSV UTF-8") from error
    if "\0" in text:
        row = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{path}, row {row}: a NUL character; save it as CSV UTF-8")
    return text


def _records(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row that is not blank: its number in a spreadsheet, and its values by column."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), skipinitialspace=True)
    header: list[str] = []
    try:
        for row, values in enumerate(reader, start=1):
            values = [value.strip() for value in values]
            if not any(values):
                continue
            if not header:
                header = _header(values, path)
                continue
            if len(values) != len(header):
                raise InputError(
                    f"{path}, row {row}: {len(values)} values, the header has {len(header)} columns; "
                    "expected commas between values only, and a point in numbers"
                )
            yield row, dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise InputError(f"{path}, row {reader.line_num}: not CSV ({error})") from error
    if not header:
        raise InputError(f"{path}: empty; expected the columns {', '.join(REQUIRED)}")


def _header(names: list[str], path: Path) -> list[str]:
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise InputError(
            f"{path}: no column {', '.join(missing)}; found {', '.join(map(_shown, names[:20]))}; "
            f"expected {', '.join(REQUIRED)} separated by commas"
        )
    twice = sorted({name for name in names if name in (*REQUIRED, "GENDER") and names.count(name) > 1})
    if twice:
        raise InputError(f"{path}: column {', '.join(twice)} is there twice; keep one")
    return names


def _new_id(text: str, where: str, rows_of_ids: dict[str, int]) -> str:
    problem = id_problem(text)
    if problem:
        raise InputError(f"{where}: ID {_shown(text)} {problem}; expected the name of the patient's folder")
    if text in rows_of_ids:
        raise InputError(f"{where}: ID {text!r} is in row {rows_of_ids[text]} already; expected one row a patient")
    return text


def _label(text: str, where: str) -> int:
    if text not in LABELS:
        raise InputError(f"{where}: LABEL {_shown(text)}; expected 0 (reactive), 1 (tumoral) or -1 (to predict)")
    return LABELS[text]


def _sex(text: str, where: str) -> str:
    if text not in SEXES:
        raise InputError(f"{where}: GENDER {_shown(text)}; expected F, M or nothing")
    return SEXES[text]


def _age_years(text: str, reference_date: date, where: str) -> float:
    born = birth_date(text)
    if born is None:
        raise InputError(f"{where}: DOB {_shown(text)} is not a date; expected M/D/YYYY or DD-MM-YYYY")
    if born > reference_date:
        raise InputError(f"{where}: DOB {text!r} is after the reference date {reference_date}; correct one of them")
    age_years = (reference_date - born).days / DAYS_PER_YEAR
    if age_years > MAX_AGE_YEARS:
        raise InputError(
            f"{where}: DOB {text!r} makes {age_years:.0f} years at {reference_date}; expected {MAX_AGE_YEARS} at most"
        )
    return age_years


def _count(text: str, where: str) -> float:
    expected = "expected a number above 0, in 10^9/L, with a decimal point"
    if not text:
        raise InputError(f"{where}: LYMPH_COUNT is missing; {expected}")
    if not NUMBER.fullmatch(text):
        raise InputError(f"{where}: LYMPH_COUNT {_shown(text)} is not a number; {expected}")
    count = float(text)
    if not (math.isfinite(count) and count > 0):
        raise InputError(f"{where}: LYMPH_COUNT {_shown(text)} is out of range; {expected}")
    return count


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")
