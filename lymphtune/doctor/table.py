"""Read a table even if its encoding, separator or column names differ from the layout, and report the differences."""

import codecs
from collections.abc import Iterator, Sequence
from pathlib import Path

from lymphtune.cohort.clinical import BadValue, Row
from lymphtune.cohort.layout import AGE, FILE, Layout
from lymphtune.cohort.study import table_path
from lymphtune.cohort.table import (
    checked_header,
    csv_rows,
    decode_text,
    ignored_age_note,
    normalised_name,
    read_bytes,
    separators,
    spelling_variants,
)
from lymphtune.console import counted
from lymphtune.doctor.evidence import Entry, Evidence
from lymphtune.errors import InputError
from lymphtune.findings import Finding, finding_from_error

SEPARATORS = (",", ";", "\t", "|")


def read_table(evidence: Evidence) -> None:
    """Fill in layout, columns and entries of the evidence, and add findings on the table's form."""
    folder, layout = evidence.folder, evidence.layout
    assert folder is not None
    try:
        path = table_path(folder, layout)
        text = decoded(read_bytes(path), evidence, path)
        layout, header, rows = _parsed(text, evidence, path)
    except InputError as error:
        evidence.reading_findings.append(finding_from_error("table", error, folder))
        evidence.complete = False
        return
    evidence.layout, evidence.columns = layout, header
    readable = _check_header(header, evidence, path)
    evidence.layout = layout = layout.fitted(header)
    if note := ignored_age_note(header, layout):
        evidence.reading_findings.append(Finding("note", "columns", note, ""))
    if layout.columns.patient in header:
        evidence.entries = list(_entries(header, rows, evidence, readable))
        if not evidence.entries:
            evidence.reading_findings.append(
                Finding("error", "table", f"{layout.table}: no patient below the header", "Write one row per patient.")
            )
    else:
        evidence.complete = False


def decoded(data: bytes, evidence: Evidence, path: Path) -> str:
    """Decode the table in the encoding that fits it; a finding is added if that is not the layout's."""
    encoding, name = evidence.layout.encoding, evidence.layout.table
    save = "Save it as CSV UTF-8"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        evidence.reading_findings.append(Finding("error", "encoding", f"{name}: its characters are UTF-16", f"{save}."))
        return data.decode("utf-16", errors="replace").replace("\0", "")
    if data.startswith(codecs.BOM_UTF8) and encoding == "utf-8":
        text = f"{name}: starts with a byte order mark, which is read all the same"
        evidence.reading_findings.append(Finding("note", "encoding", text, ""))
    try:
        text = decode_text(data, evidence.layout, path)
    except InputError as error:
        if b"\0" in data or encoding != "utf-8":
            raise
        cure = f"{save}, or write `encoding: cp1252` in {FILE}."
        evidence.reading_findings.append(
            Finding("error", "encoding", finding_from_error("", error, evidence.folder).text, cure)
        )
        return data.decode("cp1252", errors="replace")
    if encoding != "utf-8" and not data.isascii() and _is_utf8(data):
        text = data.decode("utf-8-sig")
        message = f"{name}: its characters are UTF-8, {FILE} says {encoding}: words come out garbled"
        evidence.reading_findings.append(Finding("warning", "encoding", message, f"Take `encoding` out of {FILE}."))
    return text


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


Lines = list[tuple[int, list[str]]]


def _parsed(text: str, evidence: Evidence, path: Path) -> tuple[Layout, list[str], Lines]:
    """The layout with the separator that fits, the header in the layout's spelling, and the rows."""
    layout = evidence.layout
    rows = list(csv_rows(text, layout.separator, path))
    if not rows:
        raise InputError(f"{path}: empty; expected the columns {', '.join(layout.required)}")
    if not _has(rows[0][1], layout):
        for separator in SEPARATORS:
            other = list(csv_rows(text, separator, path)) if separator in text else []
            if other and _has(other[0][1], layout):
                fitting = layout.model_copy(update={"separator": separator})
                message = (
                    f"{layout.table}: {separators(fitting)} between values, where {separators(layout)} are expected"
                )
                cure = f"Write `separator: {separator!r}` in {FILE}, or save it with {separators(layout)}."
                evidence.reading_findings.append(Finding("error", "separator", message, cure))
                layout, rows = fitting, other
                break
    return layout, _renamed(rows[0][1], evidence, layout), rows[1:]


def _has(header: Sequence[str], layout: Layout) -> bool:
    known = {normalised_name(name) for name in header}
    fitted = layout.fitted([*header, *([AGE] if normalised_name(AGE) in known else [])])
    return {normalised_name(name) for name in fitted.required} <= known


def _renamed(header: list[str], evidence: Evidence, layout: Layout) -> list[str]:
    """The header with the layout's spelling of names that differ only in case, spaces and punctuation."""
    expected = [*layout.required, *layout.columns.optional.values()]
    if layout.columns.may_give_ages and normalised_name(str(layout.columns.birth_date)) not in map(
        normalised_name, header
    ):
        expected.append(AGE)
    spelt = spelling_variants(expected, header)
    names = {other: name for name, other in spelt.items()}
    if spelt:
        found = [f"{other!r} for {name!r}" for name, other in spelt.items()]
        message = f"{layout.table}: columns are spelt in another way: {', '.join(found)}"
        cure = f"Correct the header, or name the columns in {FILE} under `columns`."
        evidence.reading_findings.append(Finding("error", "columns", message, cure, tuple(found)))
    return [names.get(name, name) for name in header]


def _check_header(header: list[str], evidence: Evidence, path: Path) -> bool:
    """Whether every required column occurs once; if not, a finding is added."""
    try:
        checked_header(header, path, evidence.layout)
    except InputError as error:
        found = finding_from_error("columns", error, evidence.folder)
        cure = f"Name the table's own columns in {FILE} under `columns`, null where there is none of a kind."
        evidence.reading_findings.append(
            Finding("error", "columns", found.text, cure if "no column" in found.text else found.cure)
        )
        return False
    return True


def _entries(header: list[str], rows: Lines, evidence: Evidence, readable: bool) -> Iterator[Entry]:
    """Yield one entry per row; only the id if the row's length is wrong or the table lacks columns."""
    layout, lengths = evidence.layout, []
    at = header.index(layout.columns.patient)
    for row, values in rows:
        fits = len(values) == len(header)
        patient = values[at] if at < len(values) else ""
        if not fits:
            lengths.append(f"row {row} ({patient}): {counted(len(values), 'value')}")
        if not (fits and readable):
            yield Entry(patient, row, values)
            continue
        yield _entry(values, header, patient, row, evidence)
    if lengths:
        message = f"{layout.table}: {counted(len(lengths), 'row')} without the {len(header)} values of the header"
        point = "a point" if layout.decimal == "." else "a comma"
        cure = f"Write {separators(layout)} between values only, {point} in numbers, and quotes round other texts."
        evidence.reading_findings.append(Finding("error", "row length", message, cure, tuple(lengths)))


def _entry(values: list[str], header: list[str], patient: str, row: int, evidence: Evidence) -> Entry:
    texts = dict(zip(header, values, strict=True))
    reader = Row(texts, evidence.layout, evidence.reference_date, f"row {row} ({patient})")
    found, faults = reader.attributes_and_faults()
    try:
        keys = reader.keys()
    except BadValue as fault:
        keys, faults = {}, [*faults, fault]
    parents = None
    try:
        parents = reader.parents()
    except BadValue as fault:
        faults = [*faults, fault]
    return Entry(patient, row, values, texts, found, faults, keys, parents)
