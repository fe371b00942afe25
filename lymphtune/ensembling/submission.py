"""A submission.csv looked over before it is handed in: form, patients, values, and the balance of its classes."""

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
from lymphtune.files import write_csv
from lymphtune.runs.run import RUNS, find_run

COLUMNS = ("ID", "Predicted")
EXPECTED = "expected ID,Predicted separated by a comma"
MARK = "\ufeff"
LARGEST_BYTES = 10_000_000
MOST_ROWS = 100_000
MOST_SHOWN = 100  # findings
RANGE = 0.99  # of a binomial distribution round the labelled patients' share
LABELS = {"0": 0, "1": 1}
PADDING = re.compile(r"\s+|(?<![0-9])0+(?=[0-9])")  # spaces, and zeros before a number


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (error) or odd (warning); `row` as a spreadsheet counts, None: the whole file."""

    severity: Literal["error", "warning"]
    row: int | None
    found: str
    remedy: str


@dataclass(frozen=True)
class Report:
    """What was found in a file of so many patients, from its first row to its last."""

    file: Path
    n_patients: int
    findings: Sequence[Finding]

    @property
    def n_errors(self) -> int:
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def lines(self) -> list[str]:
        """Return one line a finding, the first MOST_SHOWN of them."""
        lines = []
        for finding in self.findings[:MOST_SHOWN]:
            where = str(self.file) if finding.row is None else f"{self.file}, row {finding.row}"
            lines.append(f"{finding.severity}: {where}: {finding.found}; {finding.remedy}")
        more = len(self.findings) - len(lines)
        return [*lines, f"... and {more} more"] if more else lines

    @property
    def values(self) -> dict[str, Any]:
        """Return all that was found, for programs."""
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
    """Nothing can be said beyond one finding."""

    def __init__(self, row: int | None, found: str, remedy: str) -> None:
        self.finding = Finding("error", row, found, remedy)


def submission_report(
    file: Path, *, data: str | None = None, run: str | None = None, runs: Path = RUNS, key: Path | None = None
) -> Report:
    """Return what is wrong with a submission for the cohort of a run (the latest unless named), or for `data`.

    key: file of the key of the pseudonyms that stand in place of the ids of `data`.
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
    """Write a submission that was found to be in order to `out`, with the ids that its pseudonyms stand for.

    It takes the key and the cohort, given as to `submission_report`. Raises InputError without either, and where `out`
    is there already or lies in the run, in which no id is.
    """
    found = None if data is not None and run is None else find_run(run, runs)
    if key is not None:
        pseudonyms: Pseudonyms | None = read_pseudonyms(key)
    else:
        pseudonyms = None if found is None else pseudonyms_of(found)
    if pseudonyms is None:
        raise InputError(f"--real-ids: {file} has no pseudonyms in it, as far as is known; name their --pseudonymise")
    if out.exists() or (found is not None and out.resolve().is_relative_to(found.path.resolve())):
        raise InputError(f"{out}: is there already, or in a run of pseudonyms; name a new file elsewhere")
    source = data if found is None else data or found.description["cohort"]["data"]
    real = {pseudonyms.of(patient): patient for patient in survey_cohort(source, None).patients["patient"]}
    lines = _lines(_text(_bytes(file)))
    patient, predicted = _places(lines[0])
    rows = [(real.get(line.values[patient], ""), line.values[predicted]) for line in lines[1:] if line.values]
    if not all(known for known, _ in rows):
        raise InputError(f"{file}: its ids are no pseudonyms of this key and cohort; name the right ones")
    rows.sort(key=lambda row: natural_key(row[0]))
    write_csv(out, pd.DataFrame(rows, columns=list(COLUMNS)))


def check_submission(file: Path, cohort: Cohort) -> Report:
    """Return what is wrong with a submission for the patients of the cohort that are to be predicted.

    Raises InputError where there is no file of a few megabytes, or the cohort has no such patient.
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
    """Return the file's rows as a spreadsheet counts them; a blank one has no values."""
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
    """Return the rows that have an id and a value, and what is wrong with the form of any."""
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
    """Return where ids and values stand, even where the header is not quite as it should be."""
    plain = [name.strip().casefold() for name in header.values]
    patient, predicted = (column.casefold() for column in COLUMNS)
    if plain.count(patient) != 1 or plain.count(predicted) != 1:
        raise _Unreadable(header.number, f"the columns are {_shown_all(header.values)}", EXPECTED)
    return plain.index(patient), plain.index(predicted)


def _patients(rows: Sequence[Row], cohort: Cohort) -> Iterator[Finding]:
    """Yield ids that are no patient's to predict, that come again, and patients without a row."""
    wanted = {cohort.ids[row]: None for row in cohort.to_predict}
    known, alike = set(cohort.ids), _alike(cohort)
    first_rows: dict[str, int] = {}
    met: set[str] = set()
    for number, patient, _ in rows:
        if patient in first_rows:
            yield Finding("error", number, f"{_shown(patient)} is in row {first_rows[patient]} already", "keep one")
            continue
        first_rows[patient] = number
        close = [patient] if patient in known else alike.get(PADDING.sub("", patient.casefold()), [])
        meant = [known_as for known_as in close if known_as in wanted]
        met.update(meant)
        if not close:
            yield Finding("error", number, f"no patient {_shown(patient)} in {cohort.name}", "correct the id")
        elif not meant:
            yield Finding("error", number, f"{_shown(patient)} is a labelled patient", "take the row out")
        elif meant != [patient]:
            expected = " or ".join(map(_shown, meant[:3]))
            yield Finding("error", number, f"no patient {_shown(patient)}, spelt so", f"write {expected}")
    if missing := [patient for patient in wanted if patient not in met]:
        said = _shown_all(missing)
        yield Finding("error", None, f"{_counted(len(missing), 'patient')} missing: {said}", "add a row for each")


def _alike(cohort: Cohort) -> dict[str, list[str]]:
    """Return the cohort's ids by what is left of them without case, spaces and leading zeros."""
    alike: dict[str, list[str]] = {}
    for patient in cohort.ids:
        alike.setdefault(PADDING.sub("", patient.casefold()), []).append(patient)
    return alike


def _order(rows: Sequence[Row], cohort: Cohort) -> Iterator[Finding]:
    places = {patient: place for place, patient in enumerate(cohort.ids)}
    known = [row for row in rows if row.patient in places]
    for before, row in itertools.pairwise(known):
        if places[row.patient] < places[before.patient]:
            found = f"{_shown(row.patient)} comes after {_shown(before.patient)}"
            yield Finding("warning", row.number, found, "the cohort has another order; a grader may go by it")
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
    """Yield a finding where the share of tumoral is not what the labelled patients let expect."""
    labels = [value for row in rows if (value := _number(row.predicted)) in (0, 1)]
    labelled = cohort.labels[cohort.labelled]
    if len(labels) > 1 and len(set(labels)) == 1:
        word = "tumoral" if labels[0] else "reactive"
        yield Finding("warning", None, f"all {len(labels)} predictions are {word}", "look at the model")
    elif labels and len(labelled):
        share, n_tumoral = float(labelled.mean()), int(sum(labels))
        low, high = (int(bound) for bound in binom.interval(RANGE, len(labels), share))
        if not low <= n_tumoral <= high:
            found = f"{n_tumoral} of {len(labels)} predictions are tumoral"
            remedy = f"{low} to {high} would fit the labelled patients' {100 * share:.0f} %: look at the threshold"
            yield Finding("warning", None, found, remedy)


def _number(text: str) -> float | None:
    """Return the number that a grader may read, None where there is none."""
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
