"""A folder and its copy elsewhere: what is pushed is there, what is newer stays, what is removed by name goes."""

import os
import shutil
from pathlib import Path

import pytest

from lymphtune.errors import InputError
from lymphtune.runs.mirror import KNOWN, Mirror
from lymphtune.runs.storage import Entry, is_uri


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
    mirror.push("")
    whole = {"top.txt": "top", "a/one.txt": "one", "a/deep/two.txt": "two"}
    assert files(tmp_path / "there") == whole  # and no half-written file
    other = Mirror(mirror.uri, tmp_path / "other")
    other.pull("a")
    assert set(files(tmp_path / "other")) - {KNOWN} == {"a/one.txt", "a/deep/two.txt"}
    other.pull()
    assert {name: text for name, text in files(tmp_path / "other").items() if name != KNOWN} == whole


def test_only_what_has_changed_travels_and_what_is_missing_here_stays(mirror: Mirror, tmp_path: Path) -> None:
    """What this process has not removed by name may be another's, and newer than all that is known here."""
    mirror.push("")
    before = (tmp_path / "there" / "top.txt").stat().st_mtime_ns
    (mirror.path / "a" / "one.txt").write_text("another")
    shutil.rmtree(mirror.path / "a" / "deep")
    mirror.push("a")
    assert files(tmp_path / "there") == {"top.txt": "top", "a/one.txt": "another", "a/deep/two.txt": "two"}
    mirror.push("")
    assert (tmp_path / "there" / "top.txt").stat().st_mtime_ns == before


def test_what_is_removed_by_name_goes_and_its_neighbours_stay(mirror: Mirror, tmp_path: Path) -> None:
    mirror.push("")
    mirror.remove("a", ["deep", "none-*"])
    assert files(tmp_path / "there") == {"top.txt": "top", "a/one.txt": "one"}
    assert not (tmp_path / "there" / "a" / "deep").exists()  # and no empty folder is left
    mirror.remove("nothing/there", ["*"])


def test_of_a_replaced_folder_goes_what_was_known_and_nothing_else(mirror: Mirror, tmp_path: Path) -> None:
    mirror.push("")
    (tmp_path / "there" / "a" / "another's.txt").write_text("written meanwhile")
    (mirror.path / "a" / "one.txt").unlink()
    mirror.remove_replaced("a")
    assert files(tmp_path / "there") == {
        "top.txt": "top",
        "a/deep/two.txt": "two",
        "a/another's.txt": "written meanwhile",
    }


def test_a_copy_that_was_not_changed_does_not_come_back(mirror: Mirror, tmp_path: Path) -> None:
    """Another process removes a file; one that still holds a copy of it does not send it anew."""
    mirror.push("")
    other = Mirror(mirror.uri, tmp_path / "other")
    other.pull()
    mirror.remove("a", ["one.txt"])
    again = Mirror(mirror.uri, tmp_path / "other")
    again.push("")
    assert "a/one.txt" not in files(tmp_path / "there")
    (tmp_path / "other" / "a" / "one.txt").write_text("written here")
    again.push("")
    assert files(tmp_path / "there")["a/one.txt"] == "written here"


def test_its_own_files_alone(mirror: Mirror, tmp_path: Path) -> None:
    mirror.push_own()
    assert files(tmp_path / "there") == {"top.txt": "top"}
    (mirror.path / "top.txt").unlink()
    mirror.push_own()
    assert files(tmp_path / "there") == {"top.txt": "top"}


def test_what_is_newer_here_stays(mirror: Mirror) -> None:
    mirror.push("")
    (mirror.path / "top.txt").write_text("newer")
    mirror.pull()
    assert (mirror.path / "top.txt").read_text() == "newer"
    os.utime(mirror.path / "top.txt", (1, 1))
    mirror.pull()
    assert (mirror.path / "top.txt").read_text() == "top"
    mirror.pull_files("no such name")


def test_a_file_is_taken_once(mirror: Mirror, tmp_path: Path) -> None:
    mirror.push("")
    assert mirror.take("top.txt") and not mirror.take("top.txt") and not mirror.take("never/was.txt")
    assert "top.txt" not in files(tmp_path / "there")


@pytest.mark.parametrize("uri", ["nosuch://bucket/runs", "file:///proc/no/such"])
def test_what_cannot_be_reached_is_named(uri: str, mirror: Mirror) -> None:
    assert is_uri(uri) and not is_uri("/a/folder")
    with pytest.raises(InputError, match=rf"^{uri}: cannot be read or written .*name another --runs$"):
        Mirror(uri, mirror.path).push("")


def test_a_name_that_leads_out_is_not_brought_here(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket may hold any key."""
    monkeypatch.setattr(mirror.store, "files", lambda prefix: {"a/../../../out.txt": Entry(1, "")})
    with pytest.raises(InputError, match=r"'a/../../../out.txt' is no file below it"):
        mirror.pull()


def test_a_file_that_goes_between_the_listing_and_its_coming_is_no_failure(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search removes weights of trials that fall behind while another command reads; what it wrote then comes too."""
    mirror.push("")
    there, other = tmp_path / "there", Mirror(mirror.uri, tmp_path / "other")
    fetch = other.store.fetch

    def fetched(name: str, to: Path) -> None:
        if (there / "a" / "deep").exists():
            shutil.rmtree(there / "a" / "deep")
            (there / "top.txt").write_text("the new top")
            (there / "b.txt").write_text("new")
        fetch(name, to)

    monkeypatch.setattr(other.store, "fetch", fetched)
    other.pull()
    found = {name: text for name, text in files(tmp_path / "other").items() if name != KNOWN}
    assert found == {"top.txt": "the new top", "a/one.txt": "one", "b.txt": "new"}
