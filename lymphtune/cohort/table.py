"""A csv table as texts: bounded in size, a header that has what is needed, one row of values a line."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from lymphtune.cohort.layout import Layout
from lymphtune.errors import InputError

MAX_BYTES = 64 * 2**20
MAX_COLUMNS = 2000


def records(path: Path, layout: Layout) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row that is not blank: its number in a spreadsheet, and its values by column.

    Raises InputError where the file is no such table, or lacks a column of the layout.
    """
    header: list[str] = []
    for row, values in lines(text_of(data_of(path), layout, path), layout.separator, path):
        if not header:
            header = checked_header(values, path, layout)
            continue
        if len(values) != len(header):
            raise InputError(
                f"{path}, row {row}: {len(values)} values, the header has {len(header)} columns; "
                f"expected {separators(layout)} between values only, and {_points(layout)} in numbers"
            )
        yield row, dict(zip(header, values, strict=True))
    if not header:
        raise InputError(f"{path}: empty; expected the columns {', '.join(layout.required)}")


def lines(text: str, separator: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the values of each line that is not blank, spaces around them left aside.

    Raises InputError where the text is not CSV.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    try:
        for row, values in enumerate(reader, start=1):
            values = [value.strip() for value in values]
            if any(values):
                yield row, values
    except csv.Error as error:
        raise InputError(f"{path}, row {reader.line_num}: not CSV ({error})") from error


def shown(text: str) -> str:
    """Return the text as a message shows it."""
    return repr(text if len(text) <= 40 else text[:40] + "...")


def separators(layout: Layout) -> str:
    """Return what stands between values, in words."""
    return {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}[layout.separator]


def _points(layout: Layout) -> str:
    return "a point" if layout.decimal == "." else "a comma"


def data_of(path: Path) -> bytes:
    """Return the file's bytes; raises InputError where it cannot be read or is no table by its size."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: over {MAX_BYTES // 2**20} MB; expected a table with one row a patient")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def text_of(data: bytes, layout: Layout, path: Path) -> str:
    """Return the file's text; raises InputError where its encoding is another."""
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
    """Return the names of the columns; raises InputError where one is missing, or there twice."""
    if len(names) > MAX_COLUMNS:
        raise InputError(f"{path}: {len(names)} columns; expected {MAX_COLUMNS} at most")
    missing = [name for name in layout.required if name not in names]
    if missing:
        raise InputError(
            f"{path}: no column {', '.join(missing)}; found {', '.join(map(shown, names[:20]))}; "
            f"expected {', '.join(layout.required)} separated by {separators(layout)}"
        )
    read = {*layout.required, *([layout.columns.sex] if layout.columns.sex else [])}
    twice = sorted(name for name in read if names.count(name) > 1)
    if twice:
        raise InputError(f"{path}: column {', '.join(twice)} is there twice; keep one")
    return names
