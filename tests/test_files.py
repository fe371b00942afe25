"""Files and folders are written whole or not at all, a full disk is one line, and YAML keeps its words."""

import csv
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import lymphtune
from lymphtune.errors import InputError
from lymphtune.files import (
    DiskFullError,
    atomic_file,
    atomic_folder,
    name_problem,
    read_yaml,
    remove,
    write_csv,
    write_yaml,
)


@pytest.mark.parametrize("write", [atomic_file, atomic_folder])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_cannot_be_written_is_named_and_leaves_nothing(write: Callable, number: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"out: cannot be written"), write(tmp_path / "out"):
        raise OSError(number, "no")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "cure"),
    [(errno.EROFS, "name a folder that can be written"), (errno.ENOSPC, "name a folder on a disk with free space")],
)
def test_a_read_only_folder_is_not_told_to_have_room(number: int, cure: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{cure}$"), atomic_file(tmp_path / "out"):
        raise OSError(number, "no")


@pytest.mark.parametrize("write", [atomic_file, atomic_folder])
def test_a_file_in_the_place_of_the_folder_is_named(write: Callable, tmp_path: Path) -> None:
    (tmp_path / "way").write_text("a file")
    with pytest.raises(InputError, match=r"way/out: cannot be written"), write(tmp_path / "way" / "out"):
        raise AssertionError("never begun")


@pytest.mark.parametrize("value", ["069e766498698513", "1e5", ".5e3", "12", "0x1f", "no", 1e-05, 1e22, 0.5, 12, True])
def test_yaml_is_read_as_it_was_written(value: object, tmp_path: Path) -> None:
    """A hash of digits with one e among them, one in a thousand, is no number."""
    write_yaml(tmp_path / "one.yaml", {"trial": value})
    assert read_yaml(tmp_path / "one.yaml") == {"trial": value}


BOMBS = {
    "nested": ("[" * 100, "line 1: not YAML .nested deeper than 60"),
    "aliases": (
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "more than 100000 values",
    ),
    "merged aliases": (
        "a: &a {x: 1}\n"
        + "".join(
            f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 9)}]}}\n"
            for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "more than 100000 values",
    ),
    "an alias inside itself": ("&a [*a]", "an alias inside what it names"),
    "many values": ("[" + "1," * 200_000 + "]", "more than 100000 values"),
    "a long number": ("a: 1" + ":1" * 50_000, "a number of 100001 characters"),
    "hexadecimal digits": ("a: 0x" + "f" * 50_000, "a number of 50002 characters"),
    "a number too large to be a float": ("a: 1" + ":1" * 190 + ".5", "no float"),
    "a large file": (" " * 5 * 2**20, "over 4 MB"),
    "two values for a key": ("a: 1\na: 2", "line 2: not YAML .'a' is given twice"),
    "a type of Python's": ("!!python/object/apply:os.system [id]", "could not determine a constructor"),
    "a list for a key": ("? [a]\n: b", "unhashable key"),
    "no date": ("2020-13-45", "no timestamp"),
    "half a document": ("a: 'b", "unexpected end of stream"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_in_yaml_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    text, said = BOMBS[name]
    (tmp_path / "bomb.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"^[^\n]*bomb.yaml.*{said}[^\n]*$"):
        read_yaml(tmp_path / "bomb.yaml")


def test_a_pipe_or_folder_in_the_place_of_yaml_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(InputError, match=f"{name}.yaml: not a file"):
            read_yaml(tmp_path / f"{name}.yaml")


def test_a_mark_before_a_yaml_text_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "marked.yaml").write_bytes(b"\xef\xbb\xbfabout: x\n")
    assert read_yaml(tmp_path / "marked.yaml") == {"about": "x"}


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", "-", "=", "+a1", "\uff1d1"]


def test_no_text_of_a_csv_file_is_a_formula(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"id": FORMULAS, "x": -1.5, "n": -2, "=head": ["-1.5", "+3", "-1e-3", "a=b", "", " -", *"abcd"]}
    )
    write_csv(tmp_path / "table.csv", table)
    with (tmp_path / "table.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "x", "n", "'=head"]
    assert [row[0] for row in rows] == [f"'{text}".replace("\r", " ") for text in FORMULAS]
    assert {(row[1], row[2]) for row in rows} == {("-1.5", "-2")}  # numbers stay what they are, in texts too
    assert [row[3] for row in rows] == ["-1.5", "+3", "-1e-3", "a=b", "", " -", *"abcd"]
    assert table["id"].tolist() == FORMULAS


def test_every_csv_file_is_written_by_it() -> None:
    """But tables of patients, which are read again: a drawn cohort's and a corrected one's."""
    source = Path(lymphtune.__file__).parent
    found = {str(path.relative_to(source)) for path in source.rglob("*.py") if ".to_csv(" in path.read_text()}
    assert found == {"files.py", "cohort/simulation/patients.py"}
    found = {str(path.relative_to(source)) for path in source.rglob("*.py") if "csv.writer(" in path.read_text()}
    assert found == {"doctor/correction.py"}


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("CON", "device"),
        ("nul.txt", "device"),
        ("Aux", "device"),
        ("com1", "device"),
        ("LPT9.x.y", "device"),
        ("con .a", "device"),
        ("P1.", "dot"),
        ("=1", "formula"),
        ("-x", "formula"),
        ("@a", "formula"),
        ("+a", "formula"),
        ("P1", None),
        ("P-1", None),
        ("-1", None),
        ("+3.5", None),
        ("CONSTANCE", None),
        ("COM10", None),
        ("a.b", None),
    ],
)
def test_names_that_mean_something_elsewhere_are_known(name: str, problem: str | None) -> None:
    found = name_problem(name)
    assert found is None if problem is None else problem in (found or "")


def test_nothing_is_removed_on_a_read_only_disk_and_what_is_not_there_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    (tmp_path / "there").touch()
    monkeypatch.setattr(Path, "unlink", read_only)
    remove(tmp_path / "not there")
    with pytest.raises(DiskFullError, match="there: cannot be written \\(Read-only file system\\)"):
        remove(tmp_path / "there")
