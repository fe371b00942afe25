"""Half-written files and folders: those of living processes stay, those of dead ones go, no finished one is lost."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import lymphtune
from lymphtune import files, scratch
from lymphtune.files import atomic_file, atomic_folder
from lymphtune.scratch import SCRATCH, remove_unfinished, scratch_path

WRITER = """
import sys, time
from pathlib import Path
from lymphtune.files import atomic_file, atomic_folder
out = Path(sys.argv[1])
with atomic_file(out / "run.yaml") as file, atomic_folder(out / "ensembles" / "top") as folder:
    file.write_text("half")
    (folder / "ensemble.yaml").write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""


def halves(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if SCRATCH.fullmatch(path.name)]


def aged(path: Path) -> Path:
    """Return the path, all of it last written long ago."""
    for found in [path, *path.rglob("*")]:
        os.utime(found, (time.time() - scratch.MAX_SILENCE_S - 60,) * 2)
    return path


def test_what_a_living_process_writes_stays_and_what_a_dead_one_wrote_goes(tmp_path: Path) -> None:
    """A search starts beside an `ensemble` that writes into the same run."""
    environment = os.environ | {"PYTHONPATH": str(Path(lymphtune.__file__).parent.parent)}
    writer = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, env=environment)
    try:
        assert writer.stdout is not None and writer.stdout.readline() == b"writing\n"
        assert len(halves(tmp_path)) == 2
        for path in halves(tmp_path):
            aged(path)  # a process that lives may be slow
        remove_unfinished(tmp_path)
        assert len(halves(tmp_path)) == 2
    finally:
        writer.kill()
        writer.wait()
    remove_unfinished(tmp_path)
    assert halves(tmp_path) == [] and not list(tmp_path.rglob("ensemble.yaml"))


def test_what_this_process_writes_stays(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a") as file, atomic_folder(tmp_path / "b") as folder:
        file.write_text("a")
        remove_unfinished(tmp_path)
        assert file.exists() and folder.exists()
    assert (tmp_path / "a").read_text() == "a" and (tmp_path / "b").is_dir() and halves(tmp_path) == []


def test_a_number_that_another_process_has_now_is_no_sign_of_life(tmp_path: Path) -> None:
    written = scratch_path(tmp_path / "run.yaml")
    machine, pid, start, rest = written.name.rpartition(".")[2].split("-")
    if start == "0":
        pytest.skip("this system does not say when a process started")
    reused = written.with_name(f".run.yaml.{machine}-{pid}-{int(start) - 1}-{rest}")
    written.touch()
    reused.touch()
    remove_unfinished(tmp_path)
    assert halves(tmp_path) == [written]


@pytest.mark.parametrize("mark", ["00000000-1-1-0badc0de", "0badc0de"])  # of another machine, of an earlier version
def test_where_life_cannot_be_seen_silence_decides(mark: str, tmp_path: Path) -> None:
    fresh, silent, slow = (tmp_path / f".{name}.{mark}" for name in ("fresh", "silent", "slow"))
    for folder in (fresh, silent, slow):
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "weights").touch()
    aged(silent)
    aged(slow)
    (slow / "deep" / "weights").touch()  # it still writes
    remove_unfinished(tmp_path)
    assert sorted(halves(tmp_path)) == sorted([fresh, slow])


def test_other_hidden_files_stay(tmp_path: Path) -> None:
    kept = [tmp_path / name for name in ("deep/board.parquet", ".hidden", ".profile.yaml", "deep/.a.0badc0de.csv")]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        aged(path)
    remove_unfinished(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_a_folder_that_was_moved_aside_for_one_that_never_came_is_put_back(tmp_path: Path) -> None:
    """Killed between the two renames, a process leaves the old folder under a hidden name."""
    old, new = tmp_path / ".top.0badc0de.old", tmp_path / ".top.0badc0df"
    for folder, text in ((old, "old"), (new, "new")):
        folder.mkdir()
        (folder / "ensemble.yaml").write_text(text)
        aged(folder)
    remove_unfinished(tmp_path)
    assert (tmp_path / "top" / "ensemble.yaml").read_text() == "old" and halves(tmp_path) == []


def test_a_folder_that_was_replaced_stays_replaced(tmp_path: Path) -> None:
    (tmp_path / ".top.0badc0de.old").mkdir()
    aged(tmp_path / ".top.0badc0de.old")
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "ensemble.yaml").write_text("new")
    remove_unfinished(tmp_path)
    assert (tmp_path / "top" / "ensemble.yaml").read_text() == "new" and halves(tmp_path) == []


def test_a_folder_is_back_where_its_successor_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "ensemble.yaml").write_text("old")
    replace = os.replace

    def refused(source: Path, target: Path) -> None:
        if Path(target) == tmp_path / "top" and not Path(source).name.endswith(".old"):
            raise OSError("no")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", refused)
    with pytest.raises(OSError, match="no"), atomic_folder(tmp_path / "top") as folder:
        (folder / "ensemble.yaml").write_text("new")
    assert (tmp_path / "top" / "ensemble.yaml").read_text() == "old" and halves(tmp_path) == []
