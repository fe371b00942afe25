"""Checks of a submission.csv before it is submitted: format, patients, values, and class balance."""

import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
from scipy.stats import binom

from lymphtune import console
from lymphtune.cohort import Cohort, survey_cohort
from lymphtune.cohort.folders import composed
from lymphtune.cohort.pseudonyms import Pseudonyms, read_pseudonyms
from lymphtune.cohort.study import natural_key
from lymphtune.ensembling.build import pseudonyms_of, trained_cohort
from lymphtune.errors import InputError
from lymphtune.files import RUNS, write_csv
from lymphtune.runs.run import find_run

COLUMNS = ("ID", "Predicted")
EXPECTED = "expected ID,Predicted separated by a comma"
MARK = "\ufeff"
LARGEST_BYTES = 10_000_000
MOST_ROWS = 100_000
MOST_SHOWN = 100  # largest number of findings in the text
RANGE = 0.99  # central probability of the binomial distribution for the labelled patients' fraction of tumoral
LABELS = {"0": 0, "1": 1}
PADDING = re.compile(r"\s+|(?<![0-9])0+(?=[0-9])")  # spaces and leading zeros


@dataclass(frozen=True)
class Finding:
    """One error or warning; row: number as in a spreadsheet, None for the whole file."""

    severity: Literal["error", "warning"]
    row: int | None
    found: str
    remedy: str


@dataclass(frozen=True)
class Report:
    """All findings in a file, in order of rows."""

    file: Path
    n_patients: int
    findings: Sequence[Finding]

    @property
    def n_errors(self) -> int:
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def lines(self) -> list[str]:
        """Return one line per finding, for the first MOST_SHOWN."""
        lines = []
        for finding in self.findings[:MOST_SHOWN]:
            where = str(self.file) if finding.row is None else f"{self.file}, row {finding.row}"
            lines.append(f"{finding.severity}: {where}: {finding.found}; {finding.remedy}")
        more = len(self.findings) - len(lines)
        return [*lines, f"... and {more} more"] if more else lines

    @property
    def values(self) -> dict[str, Any]:
        """Return the whole report, for programs."""
        return vars(self) | {"n_errors": self.n_errors}

    @property
    def summary(self) -> str:
        n_warnings = len(self.findings) - self.n_errors
        counted = ", ".join([_counted(self.n_errors, "error"), _counted(n_warnings, "warning")])
        return f"{self.file}: {_counted(self.n_patients, 'patient')}, {counted}"


class Line(NamedTuple):
    number: int
    values: list[str]


class Row(NamedTuple):
    number: int
    patient: str
    predicted: str


class _Unreadable(Exception):
    """The file cannot be checked beyond one finding."""

    def __init__(self, row: int | None, found: str, remedy: str) -> None:
        self.finding = Finding("error", row, found, remedy)


def submission_report(
    file: Path, *, data: str | None = None, run: str | None = None, runs: Path = RUNS, key: Path | None = None
) -> Report:
    """Check a submission for the cohort of a run (default: the latest), or for `data`.

    key: key file of the pseudonyms that replace the ids of `data`.
    """
    if data is not None and run is None:
        pseudonyms = None if key is None else read_pseudonyms(key)
        return check_submission(file, survey_cohort(data, None, pseudonyms).load())
    return check_submission(file, trained_cohort(find_run(run, runs), data))


def write_real_ids(
    file: Path,
    out: Path,
    *,
    data: str | None = None,
    run: str | None = None,
    runs: Path = RUNS,
    key: Path | None = None,
) -> None:
    """Write a valid submission to `out`, with the ids in place of their pseudonyms.

    The other arguments are those of `submission_report`; they give the key and the cohort. Raises InputError if either
    is missing, or if `out` exists or lies in the run, which must not hold ids.
    """
    found = None if data is not None and run is None else find_run(run, runs)
    if key is not None:
        pseudonyms: Pseudonyms | None = read_pseudonyms(key)
    else:
        pseudonyms = None if found is None else pseudonyms_of(found)
    if pseudonyms is None:
        raise InputError(f"--real-ids: no key is known for the pseudonyms in {file}; name it with --pseudonymise")
    if out.exists() or (found is not None and out.resolve().is_relative_to(found.path.resolve())):
        raise InputError(f"{out}: exists or lies in the run, which must not hold ids; name a new file elsewhere")
    source = data if found is None else data or found.description.cohort.data
    real = {pseudonyms.of(patient): patient for patient in survey_cohort(source, None).patients["patient"]}
    lines = _lines(_text(_bytes(file)))
    patient, predicted = _places(lines[0])
    rows = [(real.get(line.values[patient], ""), line.values[predicted]) for line in lines[1:] if line.values]
    if not all(known for known, _ in rows):
        raise InputError(f"{file}: its ids are not pseudonyms of this key and cohort; name the right key and cohort")
    rows.sort(key=lambda row: natural_key(row[0]))
    write_csv(out, pd.DataFrame(rows, columns=list(COLUMNS)))


def check_submission(file: Path, cohort: Cohort) -> Report:
    """Check a submission for the patients to predict of the cohort.

    Raises InputError if the file is missing or larger than LARGEST_BYTES, or if the cohort has no patient to predict.
    """
    if not len(cohort.to_predict):
        raise InputError(f"{cohort.name}: no patient to predict, so nothing to submit; name another with --data")
    data = _bytes(file)
    findings: list[Finding] = []
    rows: list[Row] = []
    try:
        text = _text(data)
        if text.startswith(MARK):
            findings.append(Finding("warning", 1, "a byte order mark before the header", "save it as UTF-8 without"))
        lines = _lines(text.removeprefix(MARK))
        rows, malformed = _rows([line for line in lines if line.values])
        findings += [*_blank(lines), *malformed]
    except _Unreadable as stop:
        findings.append(stop.finding)
    else:
        findings += [*_patients(rows, cohort), *_order(rows, cohort), *_values(rows), *_balance(rows, cohort)]
    return Report(file, len(rows), sorted(findings, key=lambda finding: finding.row or 0))


def _bytes(file: Path) -> bytes:
    try:
        if not file.is_file():
            raise InputError(f"{file}: no such file; name a submission.csv with --check")
        with file.open("rb") as opened:
            data = opened.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    if len(data) > LARGEST_BYTES:
        raise InputError(f"{file}: over {console.size(LARGEST_BYTES)}; expected one short line a patient")
    return data


def _text(data: bytes) -> str:
    try:
        return composed(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        raise _Unreadable(row, f"byte 0x{data[error.start]:02x} is not UTF-8", "save it as CSV UTF-8") from error


def _lines(text: str) -> list[Line]:
    """Return the file's rows, numbered as in a spreadsheet; a blank row has no values."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines: list[Line] = []
    try:
        for number, values in enumerate(reader, start=1):
            if number > MOST_ROWS:
                raise _Unreadable(number, f"over {MOST_ROWS} rows", "expected one a patient")
            lines.append(Line(number, values if len(values) > 1 or "".join(values).strip() else []))
    except csv.Error as error:
        raise _Unreadable(len(lines) + 1, f"not CSV ({error})", "expected one ID,Predicted a line") from error
    if not any(line.values for line in lines):
        raise _Unreadable(None, "empty", f"expected the header {','.join(COLUMNS)} and one row a patient")
    return lines


def _blank(lines: Sequence[Line]) -> Iterator[Finding]:
    last = max(line.number for line in lines if line.values)
    for blank, where in ([line for line in lines[:last] if not line.values], ""), (lines[last:], " at the end"):
        if blank:
            yield Finding(
                "warning", blank[0].number, _counted(len(blank), "blank line") + where, "take out blank lines"
            )


def _rows(lines: Sequence[Line]) -> tuple[list[Row], list[Finding]]:
    """Return the rows with an id and a value, and findings on the format of all rows."""
    header = lines[0]
    places, rows, findings = _places(header), [], []
    if header.values != list(COLUMNS):
        findings.append(Finding("error", header.number, f"the columns are {_shown_all(header.values)}", EXPECTED))
    for number, values in lines[1:]:
        if len(values) != len(header.values):
            wanted = f"expected {len(header.values)}"
            findings.append(Finding("error", number, _counted(len(values), "value"), wanted))
        if len(values) > max(places):
            rows.append(Row(number, *(values[place] for place in places)))
    return rows, findings


def _places(header: Line) -> tuple[int, int]:
    """Return the columns of ids and values, also for a header with other case or spaces."""
    plain = [name.strip().casefold() for name in header.values]
    patient, predicted = (column.casefold() for column in COLUMNS)
    if plain.count(patient) != 1 or plain.count(predicted) != 1:
        raise _Unreadable(header.number, f"the columns are {_shown_all(header.values)}", EXPECTED)
    return plain.index(patient), plain.index(predicted)


def _patients(rows: Sequence[Row], cohort: Cohort) -> Iterator[Finding]:
    """Yield findings on ids that are unknown, labelled or repeated, and on patients without a row."""
    wanted = {cohort.ids[row]: None for row in cohort.to_predict}
    known, similar = set(cohort.ids), _by_normalised_id(cohort)
    first_rows: dict[str, int] = {}
    present: set[str] = set()
    for number, patient, _ in rows:
        if patient in first_rows:
            yield Finding("error", number, f"{_shown(patient)} is in row {first_rows[patient]} already", "keep one")
            continue
        first_rows[patient] = number
        matches = [patient] if patient in known else similar.get(PADDING.sub("", patient.casefold()), [])
        meant = [match for match in matches if match in wanted]
        present.update(meant)
        if not matches:
            yield Finding("error", number, f"no patient {_shown(patient)} in {cohort.name}", "correct the id")
        elif not meant:
            yield Finding("error", number, f"{_shown(patient)} is a labelled patient", "take the row out")
        elif meant != [patient]:
            expected = " or ".join(map(_shown, meant[:3]))
            yield Finding("error", number, f"no patient {_shown(patient)} in this spelling", f"write {expected}")
    if missing := [patient for patient in wanted if patient not in present]:
        found = f"{_counted(len(missing), 'patient')} missing: {_shown_all(missing)}"
        yield Finding("error", None, found, "add a row for each")


def _by_normalised_id(cohort: Cohort) -> dict[str, list[str]]:
    """Return the cohort's ids, grouped by the id without case, spaces and leading zeros."""
    similar: dict[str, list[str]] = {}
    for patient in cohort.ids:
        similar.setdefault(PADDING.sub("", patient.casefold()), []).append(patient)
    return similar


def _order(rows: Sequence[Row], cohort: Cohort) -> Iterator[Finding]:
    places = {patient: place for place, patient in enumerate(cohort.ids)}
    known = [row for row in rows if row.patient in places]
    for before, row in itertools.pairwise(known):
        if places[row.patient] < places[before.patient]:
            found = f"{_shown(row.patient)} comes after {_shown(before.patient)}"
            yield Finding("warning", row.number, found, "sort the rows as in the cohort; a grader may need its order")
            return


def _values(rows: Sequence[Row]) -> Iterator[Finding]:
    for number, _, predicted in rows:
        if predicted in LABELS:
            continue
        severity: Literal["error", "warning"] = "error"
        found, value = f"Predicted is {_shown(predicted)}", _number(predicted)
        if not predicted.strip():
            found = "Predicted is empty"
        elif value in (0, 1):
            severity = "warning"
        elif value is not None and 0 < value < 1:
            found += ", a probability"
        yield Finding(severity, number, found, "expected 0 or 1" if value not in (0, 1) else f"write {value:.0f}")


def _balance(rows: Sequence[Row], cohort: Cohort) -> Iterator[Finding]:
    """Yield a finding if the fraction of tumoral differs from that of the labelled patients beyond chance."""
    labels = [value for row in rows if (value := _number(row.predicted)) in (0, 1)]
    labelled = cohort.labels[cohort.labelled]
    if len(labels) > 1 and len(set(labels)) == 1:
        word = "tumoral" if labels[0] else "reactive"
        yield Finding("warning", None, f"all {len(labels)} predictions are {word}", "check the model")
    elif labels and len(labelled):
        share, n_tumoral = float(labelled.mean()), int(sum(labels))
        low, high = (int(bound) for bound in binom.interval(RANGE, len(labels), share))
        if not low <= n_tumoral <= high:
            found = f"{n_tumoral} of {len(labels)} predictions are tumoral"
            remedy = f"the labelled patients' {100 * share:.0f} % suggest {low} to {high}; check the threshold"
            yield Finding("warning", None, found, remedy)


def _number(text: str) -> float | None:
    """Return the number that a grader would read, None for other text."""
    try:
        return float(text) if text.isascii() and "_" not in text else None
    except ValueError:
        return None


def _counted(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")


def _shown_all(texts: Sequence[str]) -> str:
    return ", ".join(map(_shown, texts[:10])) + (", ..." if len(texts) > 10 else "")
