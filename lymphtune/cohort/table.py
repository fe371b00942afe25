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
    text = io.StringIO(_text(path, layout), newline="")
    reader = csv.reader(text, delimiter=layout.separator, skipinitialspace=True)
    header: list[str] = []
    try:
        for row, values in enumerate(reader, start=1):
            values = [value.strip() for value in values]
            if not any(values):
                continue
            if not header:
                header = _header(values, path, layout)
                continue
            if len(values) != len(header):
                raise InputError(
                    f"{path}, row {row}: {len(values)} values, the header has {len(header)} columns; "
                    f"expected {_separators(layout)} between values only, and {_points(layout)} in numbers"
                )
            yield row, dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise InputError(f"{path}, row {reader.line_num}: not CSV ({error})") from error
    if not header:
        raise InputError(f"{path}: empty; expected the columns {', '.join(layout.required)}")


def shown(text: str) -> str:
    """Return the text as a message shows it."""
    return repr(text if len(text) <= 40 else text[:40] + "...")


def _separators(layout: Layout) -> str:
    return {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}[layout.separator]


def _points(layout: Layout) -> str:
    return "a point" if layout.decimal == "." else "a comma"


def _text(path: Path, layout: Layout) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: over {MAX_BYTES // 2**20} MB; expected a table with one row a patient")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
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


def _header(names: list[str], path: Path, layout: Layout) -> list[str]:
    if len(names) > MAX_COLUMNS:
        raise InputError(f"{path}: {len(names)} columns; expected {MAX_COLUMNS} at most")
    missing = [name for name in layout.required if name not in names]
    if missing:
        raise InputError(
            f"{path}: no column {', '.join(missing)}; found {', '.join(map(shown, names[:20]))}; "
            f"expected {', '.join(layout.required)} separated by {_separators(layout)}"
        )
    read = {*layout.required, *([layout.columns.sex] if layout.columns.sex else [])}
    twice = sorted(name for name in read if names.count(name) > 1)
    if twice:
        raise InputError(f"{path}: column {', '.join(twice)} is there twice; keep one")
    return names
