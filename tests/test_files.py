"""Files and folders are written whole or not at all, a full disk is one line, and YAML keeps its words."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from lymphtune.errors import InputError
from lymphtune.files import read_yaml, remove_unfinished, whole, whole_folder, write_yaml


@pytest.mark.parametrize("write", [whole, whole_folder])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_cannot_be_written_is_named_and_leaves_nothing(write: Callable, number: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"out: cannot be written"), write(tmp_path / "out"):
        raise OSError(number, "no")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [whole, whole_folder])
def test_a_file_in_the_place_of_the_folder_is_named(write: Callable, tmp_path: Path) -> None:
    (tmp_path / "way").write_text("a file")
    with pytest.raises(InputError, match=r"way/out: cannot be written"), write(tmp_path / "way" / "out"):
        raise AssertionError("never begun")


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = [tmp_path / name for name in ("deep/board.parquet", ".hidden", ".profile.yaml", "deep/.a.0badc0de.csv")]
    left = [
        tmp_path / name for name in (".board.parquet.0badc0de", "deep/.weights.0badc0de/a", "deep/.w.0badc0de.old/a")
    ]
    for path in kept + left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    remove_unfinished(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
    assert sorted(tmp_path.rglob("*.0badc0de*")) == [tmp_path / "deep/.a.0badc0de.csv"]


@pytest.mark.parametrize("value", ["069e766498698513", "1e5", ".5e3", "12", "0x1f", "no", 1e-05, 1e22, 0.5, 12, True])
def test_yaml_is_read_as_it_was_written(value: object, tmp_path: Path) -> None:
    """A hash of digits with one e among them, one in a thousand, is no number."""
    write_yaml(tmp_path / "one.yaml", {"trial": value})
    assert read_yaml(tmp_path / "one.yaml") == {"trial": value}
