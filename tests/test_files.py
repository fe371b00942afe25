"""Files and folders are written whole or not at all, and a full disk is one line."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from lymphtune.errors import InputError
from lymphtune.files import whole, whole_folder


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
