"""Everything of a cohort gathered for its examination, faults and all: nothing stops at the first of them."""

import codecs
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from lymphtune.cohort.attributes import STANDARD
from lymphtune.cohort.blocks import Surveyed
from lymphtune.cohort.clinical import BadValue, Row
from lymphtune.cohort.cohort import GROUP, Cohort
from lymphtune.cohort.examination.evidence import Bag, Entry, Evidence
from lymphtune.cohort.examination.finding import Finding, counted
from lymphtune.cohort.examination.looking import look_through, look_through_pixels, look_through_sources
from lymphtune.cohort.layout import FILE, Layout
from lymphtune.cohort.packed import survey_packed
from lymphtune.cohort.pictures import SUFFIXES, check_link, entries
from lymphtune.cohort.study import check_links, folder_layout, is_simulated
from lymphtune.cohort.table import checked_header, data_of, lines, separators, text_of
from lymphtune.errors import InputError

SEPARATORS = (",", ";", "\t", "|")


def gather_folder(folder: Path, reference_date: date, pictures: bool = True) -> Evidence:
    """Return the evidence of a folder; without `pictures` they are listed and not looked at.

    Raises InputError where there is no such folder.
    """
    evidence = Evidence(folder.resolve().name, reference_date, folder, is_simulated(folder))
    try:
        evidence.layout = folder_layout(folder)
    except InputError as error:
        evidence.form.append(of_error("layout", error, folder))
        evidence.complete = False
        return evidence
    evidence.attributes = _numbers(evidence.layout)
    _read_table(evidence)
    evidence.bags = [bag for home in evidence.layout.homes for bag in _list_home(evidence, home)]
    if pictures:
        look_through(folder, evidence.bags)
        evidence.pictures_seen = True
    return evidence


def _numbers(layout: Layout) -> tuple[str, ...]:
    """Return the names of the values that are numbers."""
    given = (layout.columns.birth_date or layout.columns.age_years, layout.columns.lymphocytes)
    standard = [attribute.name for attribute, column in zip(STANDARD, given, strict=True) if column]
    return (*standard, *(name for name, extra in layout.attributes.items() if extra.kind == "numeric"))


def of_error(check: str, error: InputError, folder: Path | None = None) -> Finding:
    """Return the finding that a refusal is; paths are told from the folder."""
    text, _, cure = str(error).rpartition("; ")
    text = text or cure
    if folder is not None:
        text = text.replace(f"{folder}/", "").removeprefix(f"{folder}: ")
    return Finding("error", check, text, "" if text == cure else cure[:1].upper() + cure[1:])


# ---- the table


def _read_table(evidence: Evidence) -> None:
    """Fill in the rows, read in the form that fits them, and what is wrong with the form."""
    folder, layout = evidence.folder, evidence.layout
    assert folder is not None
    path = folder / layout.table
    try:
        check_links(folder, layout.table)
        if not path.is_file():
            raise InputError(f"{folder}: no {layout.table} in it; expected {layout.described}")
        text = decoded(data_of(path), evidence, path)
        layout, header, rows = _parsed(text, evidence, path)
    except InputError as error:
        evidence.form.append(of_error("table", error, folder))
        evidence.complete = False
        return
    evidence.layout, evidence.columns = layout, header
    readable = _check_header(header, evidence, path)
    if layout.columns.patient in header:
        evidence.entries = list(_entries(header, rows, evidence, readable))
        if not evidence.entries:
            evidence.form.append(
                Finding("error", "table", f"{layout.table}: no patient below the header", "Write one row a patient.")
            )
    else:
        evidence.complete = False


def decoded(data: bytes, evidence: Evidence, path: Path) -> str:
    """Return the table's text in the encoding that fits, and note where that is another than the layout's."""
    said, name = evidence.layout.encoding, evidence.layout.table
    save = "Save it as CSV UTF-8"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        evidence.form.append(Finding("error", "encoding", f"{name}: its characters are UTF-16", f"{save}."))
        return data.decode("utf-16", errors="replace").replace("\0", "")
    if data.startswith(codecs.BOM_UTF8) and said == "utf-8":
        text = f"{name}: starts with a byte order mark, which is read all the same"
        evidence.form.append(Finding("note", "encoding", text, ""))
    try:
        text = text_of(data, evidence.layout, path)
    except InputError as error:
        if b"\0" in data or said != "utf-8":
            raise
        cure = f"{save}, or write `encoding: cp1252` in {FILE}."
        evidence.form.append(Finding("error", "encoding", of_error("", error, evidence.folder).text, cure))
        return data.decode("cp1252", errors="replace")
    if said != "utf-8" and not data.isascii() and _is_utf8(data):
        text = data.decode("utf-8-sig")
        told = f"{name}: its characters are UTF-8, {FILE} says {said}: words come out garbled"
        evidence.form.append(Finding("warning", "encoding", told, f"Take `encoding` out of {FILE}."))
    return text


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


Lines = list[tuple[int, list[str]]]


def _parsed(text: str, evidence: Evidence, path: Path) -> tuple[Layout, list[str], Lines]:
    """Return the layout, its separator the one that fits; the header, its names as the layout has them; the rows."""
    layout = evidence.layout
    rows = list(lines(text, layout.separator, path))
    if not rows:
        raise InputError(f"{path}: empty; expected the columns {', '.join(layout.required)}")
    if not _has(rows[0][1], layout):
        for separator in SEPARATORS:
            other = list(lines(text, separator, path)) if separator in text else []
            if other and _has(other[0][1], layout):
                fitting = layout.model_copy(update={"separator": separator})
                told = f"{layout.table}: {separators(fitting)} between values, where {separators(layout)} are expected"
                cure = f"Write `separator: {separator!r}` in {FILE}, or save it with {separators(layout)}."
                evidence.form.append(Finding("error", "separator", told, cure))
                layout, rows = fitting, other
                break
    return layout, _renamed(rows[0][1], evidence, layout), rows[1:]


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _has(header: Sequence[str], layout: Layout) -> bool:
    return {_plain(name) for name in layout.required} <= {_plain(name) for name in header}


def _renamed(header: list[str], evidence: Evidence, layout: Layout) -> list[str]:
    """Return the header with the layout's spelling of the names that differ from it only by case, spaces and signs."""
    found = []
    for name in (name for name in layout.required if name not in header):
        alike = [other for other in header if _plain(other) == _plain(name)]
        if len(alike) == 1:
            header = [name if other == alike[0] else other for other in header]
            found.append(f"{alike[0]!r} for {name!r}")
    if found:
        told = f"{layout.table}: columns are spelt in another way: {', '.join(found)}"
        cure = f"Correct the header, or name the columns in {FILE} under `columns`."
        evidence.form.append(Finding("error", "columns", told, cure, tuple(found)))
    return header


def _check_header(header: list[str], evidence: Evidence, path: Path) -> bool:
    """Return whether all columns are there once; what is wrong is a finding."""
    try:
        checked_header(header, path, evidence.layout)
    except InputError as error:
        found = of_error("columns", error, evidence.folder)
        cure = f"Name the table's own columns in {FILE} under `columns`, null where there is none of a kind."
        evidence.form.append(Finding("error", "columns", found.text, cure if "no column" in found.text else found.cure))
        return False
    return True


def _entries(header: list[str], rows: Lines, evidence: Evidence, readable: bool) -> Iterator[Entry]:
    """Yield an entry a row; of a row that is too short or too long, or of a table without its columns, the id alone."""
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
        told = f"{layout.table}: {counted(len(lengths), 'row')} without the {len(header)} values of the header"
        point = "a point" if layout.decimal == "." else "a comma"
        cure = f"Write {separators(layout)} between values only, {point} in numbers, and quotes round other texts."
        evidence.form.append(Finding("error", "row length", told, cure, tuple(lengths)))


def _entry(values: list[str], header: list[str], patient: str, row: int, evidence: Evidence) -> Entry:
    texts = dict(zip(header, values, strict=True))
    reader = Row(texts, evidence.layout, evidence.reference_date, f"row {row} ({patient})")
    found, faults = reader.looked_over()
    try:
        keys = reader.keys()
    except BadValue as fault:
        keys, faults = {}, [*faults, fault]
    return Entry(patient, row, values, texts, found, faults, keys)


# ---- the folders


def _list_home(evidence: Evidence, home: str) -> Iterator[Bag]:
    """Yield the bags of one of the two sets; loose files and what must not be entered are findings."""
    folder = evidence.folder
    assert folder is not None
    place, loose, hidden = folder / home, [], []
    if not place.is_dir():
        return
    try:
        check_links(folder, home)
        found = sorted(entries(place), key=lambda entry: entry.name)
    except InputError as error:
        evidence.form.append(of_error("link" if "link" in str(error) else "folder", error, folder))
        return
    for entry in found:
        if entry.name.startswith("."):
            hidden.append(f"{home}/{entry.name}")
        elif entry.is_symlink() and (refusal := _refusal(place / entry.name, folder)):
            evidence.form.append(of_error("link", refusal, folder))
        elif entry.is_dir():
            yield _list_bag(folder, home, entry.name)
        else:
            loose.append(f"{home}/{entry.name}")
    if home and loose:
        told = f"{counted(len(loose), 'file')} beside the patients' folders, which nothing reads"
        evidence.form.append(Finding("note", "other files", told, "", tuple(loose)))
    if home and hidden:
        told = f"{counted(len(hidden), 'hidden file')} beside the patients' folders, which nothing reads"
        evidence.form.append(Finding("note", "hidden files", told, "", tuple(hidden)))


def _list_bag(folder: Path, home: str, patient: str) -> Bag:
    names: list[str] = []
    hidden: list[str] = []
    others: list[str] = []
    folders: list[str] = []
    refused: dict[str, str] = {}
    path = folder / home / patient
    try:
        found = sorted(entries(path), key=lambda entry: entry.name)
    except InputError as error:
        return Bag(home, patient, refused={"": str(error).removeprefix(f"{path}: ")})
    for entry in found:
        name, is_picture = entry.name, entry.name.lower().endswith(SUFFIXES)
        if name.startswith("."):
            hidden.append(name)
        elif is_picture and not name.isprintable():
            refused[name] = "a name that cannot be printed"
        elif entry.is_symlink() and (refusal := _refusal(path / name, folder)):
            refused[name] = str(refusal).removeprefix(f"{path / name}: ")
        elif entry.is_dir():
            folders.append(name)
        else:
            (names if is_picture and entry.is_file() else others).append(name)
    return Bag(home, patient, names, hidden, others, folders, refused)


def _refusal(path: Path, folder: Path) -> InputError | None:
    try:
        check_link(path, folder)
    except InputError as error:
        return error
    return None


# ---- packed and simulated cohorts


def gather_packed(path: Path, reference_date: date, pictures: bool = True) -> Evidence:
    """Return the evidence of a packed file."""
    try:
        surveyed = survey_packed(path, reference_date)
    except InputError as error:
        return Evidence(path.name, reference_date, form=[of_error("packed file", error)], complete=False)
    evidence = of_patients(surveyed, reference_date)
    bags = {bag.patient: bag for bag in evidence.bags}
    if pictures:
        for failed in look_through_sources(surveyed.sources(range(len(surveyed))), bags):
            evidence.form.append(of_error("packed file", failed))
            evidence.complete = False
        evidence.pictures_seen = True
    return evidence


def gather_cohort(cohort: Cohort, pictures: bool = True) -> Evidence:
    """Return the evidence of a cohort that has been read."""
    evidence = of_patients(cohort, cohort.reference_date)
    if pictures:
        for bag, looks in zip(evidence.bags, look_through_pixels(cohort), strict=True):
            bag.looks = looks
        evidence.pictures_seen = True
    return evidence


def of_patients(cohort: Cohort | Surveyed, reference_date: date) -> Evidence:
    """Return the evidence of patients that have been read, each with a bag that nobody has looked into."""
    own = [name for name in cohort.patients.columns if name not in ("patient", "n_cells", GROUP)]
    rows = cohort.patients.to_dict("records")
    grouped = GROUP in cohort.patients.columns
    entries_ = [
        Entry(
            row["patient"], values={name: row[name] for name in own}, keys={GROUP: row[GROUP]} if grouped else {}
        )
        for row in rows
    ]  # fmt: skip
    numbers = [attribute.name for attribute in cohort.attributes if attribute.levels is None]
    return Evidence(
        cohort.name, reference_date, simulated=cohort.simulated, entries=entries_,
        bags=[Bag("", row["patient"]) for row in rows], attributes=numbers,
    )  # fmt: skip
