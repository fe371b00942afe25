"""Tables of patients that are made to fill the memory: refused soon, in one line."""

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from lymphtune.cohort.clinical import read_clinical
from lymphtune.cohort.cohort import REFERENCE_DATE
from lymphtune.errors import InputError

HEADER = b"ID,LABEL,DOB,LYMPH_COUNT"
ROW = b"P1,0,1/1/1950,4"


def _of_a_gigabyte(path: Path) -> None:
    path.write_bytes(HEADER)
    os.truncate(path, 2**30)


BOMBS: dict[str, tuple[bytes | Callable[[Path], None], str]] = {
    "a gigabyte": (_of_a_gigabyte, "over 64 MB; expected a table"),
    "a cell of 30 MB": (HEADER + b"\n" + b"P" * 30_000_000 + b",0,1/1/1950,4\n", "not CSV .field larger than"),
    "a quote that is not closed": (HEADER + b'\nP1,0,"' + b"1,1\n" * 5_000_000, "not CSV .field larger than"),
    "a million columns": (HEADER + b",x" * 1_000_000 + b"\n", "1000004 columns; expected 2000 at most"),
    "a row of a million values": (HEADER + b"\n" + ROW + b",1" * 1_000_000, "1000004 values, the header has 4"),
    "a number of a million digits": (HEADER + b"\nP1,0,1/1/1950," + b"9" * 100_000, "is out of range"),
    "a NUL": (HEADER + b"\nP1,0,1/1/1950,4\0", "a NUL character"),
    "UTF-16": ((HEADER + b"\n" + ROW).decode().encode("utf-16"), "is not UTF-8"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_table_that_would_fill_the_memory_is_refused(name: str, tmp_path: Path) -> None:
    made, message = BOMBS[name]
    path = tmp_path / "clinical_annotation.csv"
    if isinstance(made, bytes):
        path.write_bytes(made)
    else:
        made(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=rf"^[^\n]*clinical_annotation.csv[^\n]*{message}[^\n]*$"):
        read_clinical(path, REFERENCE_DATE)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 700  # MB
