"""Write a corrected copy of a cohort. Only unambiguous faults are corrected, and every change is logged.

Corrected: the table's encoding, separator, decimals and column names; ids whose spelling differs from their folder;
spellings of labels and sexes; dates that all follow one other format; counts that are all in one other unit.
Left out: unreadable pictures, duplicates within a patient, hidden files, links out of the cohort.
"""

import csv
import io
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields, replace
from datetime import date
from functools import partial
from pathlib import Path, PurePosixPath

import pandas as pd

from lymphtune import console
from lymphtune.cohort.clinical import id_problem
from lymphtune.cohort.dates import read_date
from lymphtune.cohort.folders import check_link, composed
from lymphtune.cohort.layout import STUDY, Layout
from lymphtune.cohort.study import folder_layout, table_path
from lymphtune.cohort.table import read_bytes
from lymphtune.doctor import values
from lymphtune.doctor.dates import accepts, consistent
from lymphtune.doctor.evidence import Bag, Entry, Evidence
from lymphtune.doctor.gathering import gather_folder
from lymphtune.doctor.roles import matches
from lymphtune.doctor.table import decoded
from lymphtune.errors import InputError, one_line
from lymphtune.files import NUMBER, atomic_folder, write_csv, write_text

CHANGES = ("doctor-changes.csv", "doctor-changes.txt")
# a correction may make another one possible
PASSES = 3
SEXES = {"f": "F", "female": "F", "m": "M", "male": "M"}
# kind of change, column, and a function that returns the row's corrected text
Corrector = tuple[str, str, Callable[[Entry], str]]


@dataclass(frozen=True)
class Change:
    """One change in the copy, as printable texts; `after` is "" for what was left out."""

    kind: str
    where: str
    before: str
    after: str

    def __post_init__(self) -> None:
        for name in ("where", "before", "after"):
            object.__setattr__(self, name, one_line(getattr(self, name)))


def correct(folder: Path, out: Path, reference_date: date) -> list[Change]:
    """Write a corrected copy of a folder to `out`, with a log of the changes, and return the changes.

    Raises InputError if `out` exists or lies inside the folder, or if the table cannot be read.
    """
    if out.exists() or out.is_symlink():
        raise InputError(f"{out}: exists already; name another folder with --fix")
    if out.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{out}: is inside {folder}, which is left as it is; name another folder with --fix")
    evidence = gather_folder(folder, reference_date)
    if not evidence.entries:
        first = evidence.reading_findings[0]
        raise InputError(f"{folder}: correct this first: {first.text}; {first.cure}")
    layout = folder_layout(folder)
    with atomic_folder(out) as scratch:
        names = _spelling_corrections(evidence)
        changes = [*_copy_bags(evidence, scratch, names, layout), *_form_changes(evidence)]
        changes += _correct_table(evidence, scratch, names, layout)
        for _ in range(PASSES - 1):
            changes += _correct_table(gather_folder(scratch, reference_date, pictures=False), scratch, {}, layout)
        _write_changes(scratch, changes)
    return changes


def _spelling_corrections(evidence: Evidence) -> dict[str, str]:
    """The id to use, by the row's spelling, for ids that row and folder spell differently: the folder's if valid."""
    return {row: row if id_problem(folder) else folder for row, folder in matches(evidence).items()}


# ---- the table


def _form_changes(evidence: Evidence) -> Iterator[Change]:
    """Yield the changes that follow from writing the table in the layout's encoding, separator and column names."""
    for finding in evidence.reading_findings:
        if finding.check in ("encoding", "separator", "columns"):
            yield Change(finding.check, evidence.layout.table, finding.text, "as the layout says")
    assert evidence.folder is not None
    path = table_path(evidence.folder, evidence.layout)
    raw = read_bytes(path).decode(evidence.layout.encoding, errors="replace")
    if count := sum(line != composed(line) for line in raw.splitlines()):
        yield Change("characters", evidence.layout.table, f"{count} rows with decomposed ones", "composed")
    text = decoded(
        read_bytes(path), replace(evidence, reading_findings=[], layout=folder_layout(evidence.folder)), path
    )
    sign = re.escape(evidence.layout.separator)
    spaced, blank = rf"(?:^|{sign}) +[^ ]|[^ ] +(?:{sign}|\r?$)", rf"^[ {sign}]*\r?\n"
    for kind, pattern in (("spaces round values", spaced), ("blank rows", blank)):
        if count := len(re.findall(pattern, text, re.MULTILINE)):
            yield Change(kind, evidence.layout.table, str(count), "taken out")


def _correct_table(evidence: Evidence, scratch: Path, names: dict[str, str], layout: Layout) -> list[Change]:
    """Write the corrected table and return its changes."""
    changes: list[Change] = []
    rows = []
    at = {name: place for place, name in enumerate(evidence.columns)}
    correctors = _correctors(evidence, names)
    for entry in evidence.entries:
        line = list(entry.line)
        for kind, column, corrected in correctors:
            if column in entry.texts:
                before, after = line[at[column]], corrected(entry)
                if after != before:
                    changes.append(Change(kind, f"{layout.table}, row {entry.row} ({entry.patient})", before, after))
                    line[at[column]] = after
        rows.append(line)
    _write_table(scratch / layout.table, [list(evidence.columns), *rows], layout)
    return changes


def _correctors(evidence: Evidence, names: dict[str, str]) -> list[Corrector]:
    """The correctors that apply to this table."""
    columns = evidence.layout.columns
    found: list[Corrector] = [("id", columns.patient, lambda entry: names.get(entry.patient, entry.patient))]
    if columns.label:
        found.append(("label", columns.label, lambda entry: _label(entry, evidence.layout)))
    if columns.sex:
        found.append(("sex", columns.sex, lambda entry: _sex(entry, evidence.layout)))
    if columns.birth_date and (reading := _other_reading(evidence)):
        for column in filter(None, [columns.birth_date, columns.examined_on]):
            found.append(("date", column, partial(_date, column, reading, evidence)))
    decimals = values.other_decimals(evidence)
    found += [("decimal", column, partial(_decimal, column, evidence)) for column in decimals]
    factor = values.unit_factor(evidence)
    if columns.lymphocytes and factor != 1 and columns.lymphocytes not in decimals:
        found.append(("count unit", columns.lymphocytes, lambda entry: _count(entry, factor, evidence.layout)))
    return found


def _label(entry: Entry, layout: Layout) -> str:
    """The study's spelling of a numeric label; other layouts' words are kept."""
    text = entry.texts[str(layout.columns.label)]
    if layout.labels != STUDY.labels or not NUMBER.fullmatch(text):
        return text
    return {0.0: "0", 1.0: "1", -1.0: "-1"}.get(float(text), text)


def _sex(entry: Entry, layout: Layout) -> str:
    """The layout's first word for a sex that is written in another case or in full."""
    text, words = entry.texts[str(layout.columns.sex)], {"F": layout.sexes.F[0], "M": layout.sexes.M[0]}
    for word in words.values():
        if text.casefold() == word.casefold():
            return word
    return words.get(SEXES.get(text.casefold(), ""), text) if "sex" not in entry.values else text


def _other_reading(evidence: Evidence) -> str | None:
    """The only date format that fits every date of birth and examination, if the layout's does not; else None."""
    column, absent = str(evidence.layout.columns.birth_date), {"", *evidence.layout.missing}
    given = [entry for entry in evidence.entries if entry.texts.get(column, "") not in absent]
    if all(accepts(entry, evidence.layout.dates, evidence) for entry in given):
        return None
    fitting = consistent(evidence, given)
    return fitting[0] if len(fitting) == 1 else None


def _date(column: str, reading: str, evidence: Evidence, entry: Entry) -> str:
    text = entry.texts[column]
    day = read_date(text, reading)
    if day is None:
        return text
    month_first = f"{day.month}/{day.day}/{day.year:04d}"
    forms = {"iso": day.isoformat(), "day_first": f"{day.day}/{day.month}/{day.year:04d}"}
    return forms.get(evidence.layout.dates, month_first)


def _decimal(column: str, evidence: Evidence, entry: Entry) -> str:
    wrong = "," if evidence.layout.decimal == "." else "."
    text = entry.texts[column]
    return text.replace(wrong, evidence.layout.decimal) if text not in evidence.layout.missing else text


def _count(entry: Entry, factor: float, layout: Layout) -> str:
    text = entry.texts[str(layout.columns.lymphocytes)]
    if text in layout.missing or values.COUNT not in entry.values:
        return text
    number = float(text.replace(",", ".") if layout.decimal == "," else text)
    return f"{number * factor:.10g}".replace(".", layout.decimal)


def _write_table(path: Path, rows: Sequence[Sequence[str]], layout: Layout) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=layout.separator).writerows(rows)
    try:
        data = stream.getvalue().encode(layout.encoding)
    except UnicodeEncodeError as error:
        raise InputError(
            f"{layout.table}: {error.object[error.start]!r} cannot be written as {layout.encoding}; take `encoding` "
            "out of cohort.yaml and save the table as CSV UTF-8"
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


# ---- pictures and other files


def _copy_bags(evidence: Evidence, scratch: Path, names: dict[str, str], layout: Layout) -> list[Change]:
    """Copy the kept files unchanged; return what was left out and which folders were renamed."""
    assert evidence.folder is not None
    changes = [*_copy_top_files(evidence.folder, scratch, layout), *_beside_bags(evidence)]
    folders = {folder: names[row] for row, folder in matches(evidence).items()}
    with console.bar("Copying pictures", sum(len(bag.names) for bag in evidence.bags)) as progress:
        for bag in evidence.bags:
            if "" in bag.refused:
                changes.append(Change("link", bag.path, bag.refused[""].partition(";")[0], ""))
                continue
            name = folders.get(bag.patient, bag.patient)
            if name != PurePosixPath(bag.path).name:
                changes.append(Change("folder", bag.path, PurePosixPath(bag.path).name, name))
            target = scratch / bag.parent / name
            target.mkdir(parents=True, exist_ok=True)
            changes += _copy_bag(evidence.folder, bag, target)
            progress.advance(len(bag.names))
    return changes


def _beside_bags(evidence: Evidence) -> Iterator[Change]:
    """Yield files beside the patients' folders, which are not copied."""
    kinds = {"other files": "other file", "hidden files": "hidden file", "link": "link"}
    for finding in evidence.reading_findings:
        if finding.check in kinds:
            for place in finding.places or (finding.text,):
                yield Change(kinds[finding.check], place, place, "")


def _copy_top_files(folder: Path, scratch: Path, layout: Layout) -> Iterator[Change]:
    """Copy the regular files beside the table; yield what is not copied: other folders, hidden files, links."""
    own = {PurePosixPath(layout.table).parts[0], *layout.tops} - {""}
    for path in sorted(folder.iterdir()):
        if composed(path.name) in (*own, *CHANGES):
            continue
        if path.is_dir() and not path.is_symlink():
            if "" not in layout.tops:
                yield Change("other folder", path.name, path.name, "")
        elif path.name.startswith("."):
            yield Change("hidden file", path.name, path.name, "")
        elif not path.is_file() or not _inside(path, folder):
            yield Change("no plain file", path.name, path.name, "")
        else:
            shutil.copyfile(path, scratch / path.name)


def _copy_bag(folder: Path, bag: Bag, target: Path) -> Iterator[Change]:
    """Copy one patient's files; yield what is left out."""
    # name by digest
    kept: dict[str, str] = {}
    for picture in bag.inspected:
        if picture.problem:
            yield Change("unreadable picture", bag.place(picture.name), picture.problem.partition(";")[0], "")
        elif picture.digest in kept:
            yield Change("same picture", bag.place(picture.name), f"the same file as {kept[picture.digest]}", "")
        else:
            kept[picture.digest] = picture.name
            (target / picture.name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / bag.place(picture.name), target / picture.name)
    for name in bag.hidden:
        yield Change("hidden file", bag.place(name), name, "")
    for name, why in bag.refused.items():
        yield Change("link" if "link" in why else "name", f"{bag.path}/{name!r}", why.partition(";")[0], "")
    for name in (*bag.others, *bag.folders):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        yield from _copy_other(folder / bag.place(name), target / name, bag.place(name))


def _copy_other(path: Path, target: Path, place: str) -> Iterator[Change]:
    """Copy a file that is not a picture, or a folder of them; yield links and special files, which are not copied."""
    if path.is_symlink() or not (path.is_file() or path.is_dir()):
        yield Change("no plain file", place, path.name, "")
    elif path.is_file():
        shutil.copyfile(path, target)
    else:
        target.mkdir()
        for inner in sorted(path.iterdir()):
            yield from _copy_other(inner, target / inner.name, f"{place}/{inner.name}")


def _inside(path: Path, folder: Path) -> bool:
    try:
        if path.is_symlink():
            check_link(path, folder)
    except InputError:
        return False
    return True


# ---- the log


def _write_changes(scratch: Path, changes: Sequence[Change]) -> None:
    """Write the changes as a csv table (formulas escaped) and as text."""
    columns = [field.name for field in fields(Change)]
    write_csv(scratch / CHANGES[0], pd.DataFrame([astuple(change) for change in changes], columns=columns))
    lines = [
        f"{change.kind}: {change.where}: {change.before!r} -> {change.after!r}"
        if change.after
        else f"{change.kind}: {change.where}: left out ({change.before})"
        for change in changes
    ]
    write_text(scratch / CHANGES[1], "\n".join([*lines, ""]))
