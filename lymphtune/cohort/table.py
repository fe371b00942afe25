"""Read a csv table as texts, with limits on its size and a check of its header."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from lymphtune.cohort.folders import composed
from lymphtune.cohort.layout import AGE, FILE, Layout
from lymphtune.errors import InputError

MAX_BYTES = 64 * 2**20
MAX_COLUMNS = 2000
# bytes of the first line that are read to recognise a table
LONGEST_HEADER = 2**16


class Table(NamedTuple):
    """A table with a checked header; rows: number in the spreadsheet and values by column, without blank rows."""

    header: list[str]
    # fitted to the header
    layout: Layout
    rows: Iterator[tuple[int, dict[str, str]]]


def open_table(path: Path, layout: Layout) -> Table:
    """Open a table whose rows are read lazily.

    Raises InputError if the file is not a table or lacks a column of the layout.
    """
    read = csv_rows(decode_text(read_bytes(path), layout, path), layout.separator, path)
    _, names = next(read, (0, []))
    if not names:
        raise InputError(f"{path}: empty; expected the columns {', '.join(layout.required)}")
    fitted = layout.fitted(names)
    header = checked_header(names, path, layout)
    return Table(header, fitted, _rows(read, header, path, fitted))


def _rows(
    read: Iterator[tuple[int, list[str]]], header: list[str], path: Path, layout: Layout
) -> Iterator[tuple[int, dict[str, str]]]:
    for row, values in read:
        if len(values) != len(header):
            raise InputError(
                f"{path}, row {row}: {len(values)} values, the header has {len(header)} columns; "
                f"expected {separators(layout)} between values only, and {_points(layout)} in numbers"
            )
        yield row, dict(zip(header, values, strict=True))


def csv_rows(text: str, separator: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the stripped values of each row that is not blank.

    Raises InputError if the text is not CSV.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    try:
        for row, values in enumerate(reader, start=1):
            # Values are composed one by one: NFC turns a Greek question mark into a semicolon, a separator.
            values = [composed(value.strip()) for value in values]
            if any(values):
                yield row, values
    except csv.Error as error:
        raise InputError(f"{path}, row {reader.line_num}: not CSV ({error})") from error


def quoted(text: str) -> str:
    """The text quoted and shortened for a message."""
    return repr(text if len(text) <= 40 else text[:40] + "...")


def separators(layout: Layout) -> str:
    """The name of the separator, in the plural."""
    return {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}[layout.separator]


def _points(layout: Layout) -> str:
    return "a point" if layout.decimal == "." else "a comma"


def read_bytes(path: Path) -> bytes:
    """The file's bytes; raises InputError if it cannot be read or is too large."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: over {MAX_BYTES // 2**20} MB; expected a table with one row per patient")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def decode_text(data: bytes, layout: Layout, path: Path) -> str:
    """Decode the table; raises InputError if it is not in the layout's encoding."""
    try:
        text = data.decode("utf-8-sig" if layout.encoding == "utf-8" else layout.encoding)
    except UnicodeDecodeError as error:
        row, byte = data.count(b"\n", 0, error.start) + 1, data[error.start]
        name = layout.encoding.upper()
        raise InputError(f"{path}, row {row}: byte 0x{byte:02x} is not {name}; save it as CSV UTF-8") from error
    if "\0" in text:
        row = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{path}, row {row}: a NUL character; save it as CSV UTF-8")
    return text


def checked_header(names: list[str], path: Path, layout: Layout) -> list[str]:
    """The names of the columns; raises InputError if one is missing, misspelt or duplicated."""
    if len(names) > MAX_COLUMNS:
        raise InputError(f"{path}: {len(names)} columns; expected {MAX_COLUMNS} at most")
    fitted = layout.fitted(names)
    missing = [name for name in fitted.required if name not in names]
    if missing:
        or_age = f" (or {AGE})" if layout.columns.may_give_ages and layout.columns.birth_date in missing else ""
        raise InputError(
            f"{path}: no column {', '.join(missing)}{or_age}; found {', '.join(map(quoted, names[:20]))}; "
            f"expected {', '.join(layout.required)} separated by {separators(layout)}"
            f"{_suggestion(missing, names, fitted)}"
        )
    for name, other in _misspelt_optional(names, layout).items():
        key = next(key for key, own in layout.columns.optional.items() if own == name)
        raise InputError(
            f"{path}: column {quoted(other)} is spelt {name} where it is read; rename it, or name it in {FILE} under "
            f"`columns` (`{key}: {other}`, or `{key}: null` to leave it aside)"
        )
    read = {*fitted.required, *fitted.columns.optional.values()}
    twice = sorted(name for name in read if names.count(name) > 1)
    if twice:
        raise InputError(f"{path}: column {', '.join(twice)} occurs twice; keep one")
    return names


def _suggestion(missing: list[str], names: list[str], layout: Layout) -> str:
    """A suggestion of columns that may be misspelt missing ones, else ""."""
    unused = {normalised_name(name): name for name in names if name and name not in layout.required}
    pairs = []
    for name in missing:
        wanted = normalised_name(name)
        # a name that contains the word: PATIENT_ID contains ID
        containing = [
            key for key, other in unused.items() if wanted in map(normalised_name, re.split(r"[\W_]+", other))
        ]
        near = get_close_matches(wanted, unused, n=1, cutoff=0.6) or containing
        pairs += [f"{quoted(unused[key])} for {name}" for key in near[:1]]
    return f"; did you mean {', '.join(pairs)}? Rename it, or name it in {FILE}" if pairs else ""


def _misspelt_optional(names: list[str], layout: Layout) -> dict[str, str]:
    """By missing optional column, the column that is a spelling variant of it or one edit apart."""
    expected, used = list(layout.columns.optional.values()), set(layout.fitted(names).required)
    slips = {}
    for name in (name for name in expected if name not in names):
        near = [
            other
            for other in names
            if other not in used and one_edit_apart(normalised_name(name), normalised_name(other))
        ]
        if len(near) == 1:
            slips[name] = near[0]
    return slips | spelling_variants(expected, names)


def one_edit_apart(word: str, other: str) -> bool:
    """Whether the words differ by one inserted, deleted, changed or swapped letter after the first."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(word, other, strict=False)))
    if not same:
        return False
    a, b = word[same:], other[same:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])


def has_columns(path: Path, layout: Layout) -> bool:
    """Whether the first line of the file holds the columns of the layout, with any separator."""
    with path.open("rb") as file:
        line = composed(file.readline(LONGEST_HEADER).decode(errors="replace"))
    names = {normalised_name(name) for name in re.split(r"[,;\t|]", line)}
    return {
        normalised_name(name) for name in layout.fitted([AGE] if normalised_name(AGE) in names else []).required
    } <= names


def spelling_variants(expected: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """By missing expected name, the one name that equals it after normalisation."""
    found = {}
    for name in (name for name in expected if name not in names):
        alike = [other for other in names if normalised_name(other) == normalised_name(name)]
        if len(alike) == 1:
            found[name] = alike[0]
    return found


def normalised_name(name: str) -> str:
    """A column's name without case, spaces and punctuation."""
    return "".join(character for character in name.casefold() if character.isalnum())


def ignored_age_note(header: Sequence[str], layout: Layout) -> str:
    """A note if a table with dates of birth also has a column AGE, which is not read; else ""."""
    columns = layout.columns
    extra = {one.column for one in layout.attributes.values()}
    if columns.birth_date is None or columns.examined_on is not None or AGE not in header or AGE in extra:
        return ""
    return (
        f"column {AGE} beside {columns.birth_date} is not read; `age_years: {AGE}` in {FILE}, under `columns`, takes "
        "it for the age at the examination"
    )
