"""A folder and its copy elsewhere: what is pushed is there, what is newer here stays, what is gone goes."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pyarrow.fs
import pytest

from lymphtune.errors import InputError
from lymphtune.mirror import Mirror, is_uri


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    here = tmp_path / "here"
    (here / "a" / "deep").mkdir(parents=True)
    (here / "top.txt").write_text("top")
    (here / "a" / "one.txt").write_text("one")
    (here / "a" / "deep" / "two.txt").write_text("two")
    (here / "a" / ".scratch").write_text("half")
    return Mirror(f"file://{tmp_path}/there", here)


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_pushed_and_pulled_it_is_the_same(mirror: Mirror, tmp_path: Path) -> None:
    mirror.push()
    whole = {"top.txt": "top", "a/one.txt": "one", "a/deep/two.txt": "two"}
    assert files(tmp_path / "there") == whole  # and no half-written file
    other = Mirror(mirror.uri, tmp_path / "other")
    other.pull("a")
    assert set(files(tmp_path / "other")) == {"a/one.txt", "a/deep/two.txt"}
    other.pull()
    assert files(tmp_path / "other") == whole


def test_only_what_has_changed_travels_and_what_is_gone_goes(mirror: Mirror, tmp_path: Path) -> None:
    mirror.push()
    before = (tmp_path / "there" / "top.txt").stat().st_mtime_ns
    (mirror.path / "a" / "one.txt").write_text("another")
    shutil.rmtree(mirror.path / "a" / "deep")
    mirror.push("a")
    assert files(tmp_path / "there") == {"top.txt": "top", "a/one.txt": "another"}
    mirror.push()
    assert (tmp_path / "there" / "top.txt").stat().st_mtime_ns == before


def test_its_own_files_alone(mirror: Mirror, tmp_path: Path) -> None:
    mirror.push(deep=False)
    assert files(tmp_path / "there") == {"top.txt": "top"}
    (mirror.path / "top.txt").unlink()
    mirror.push(deep=False)
    assert files(tmp_path / "there") == {"top.txt": "top"}


def test_what_is_newer_here_stays(mirror: Mirror) -> None:
    mirror.push()
    (mirror.path / "top.txt").write_text("newer")
    mirror.pull()
    assert (mirror.path / "top.txt").read_text() == "newer"
    os.utime(mirror.path / "top.txt", (1, 1))
    mirror.pull()
    assert (mirror.path / "top.txt").read_text() == "top"
    mirror.pull(only="no such name")


def test_a_file_is_taken_once(mirror: Mirror, tmp_path: Path) -> None:
    mirror.push()
    assert mirror.take("top.txt") and not mirror.take("top.txt") and not mirror.take("never/was.txt")
    assert "top.txt" not in files(tmp_path / "there")


@pytest.mark.parametrize("uri", ["nosuch://bucket/runs", "file:///proc/no/such"])
def test_what_cannot_be_reached_is_named(uri: str, mirror: Mirror) -> None:
    assert is_uri(uri) and not is_uri("/a/folder")
    with pytest.raises(InputError, match=rf"^{uri}: cannot be read or written .*name another --runs$"):
        Mirror(uri, mirror.path).push()


def test_a_name_that_leads_out_is_not_brought_here(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket may hold any key."""
    mirror.push()
    found = mirror._fs.get_file_info(pyarrow.fs.FileSelector(mirror._base, recursive=True))
    out = [next(info for info in found if info.is_file)]

    class Bucket:
        def get_file_info(self, selector: object) -> list:
            return [SimpleNamespace(path=f"{mirror._base}/a/../../../out.txt", type=out[0].type)]

    monkeypatch.setattr(mirror, "_fs", Bucket())
    with pytest.raises(InputError, match=r"'a/../../../out.txt' is no file below it"):
        mirror.pull()
