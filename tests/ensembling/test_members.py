"""An ensemble of a run whose search still runs and removes weights of trials that fall behind."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import lymphtune
from lymphtune.ensembling import build, members
from lymphtune.errors import InputError
from lymphtune.files import exclusive_lock, read_yaml, write_table, write_yaml
from lymphtune.runs.run import DRIVER, Run


@pytest.fixture
def own(searched: Run, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(searched.path, tmp_path / "own")))


@pytest.fixture
def running(own: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A run whose search seems to run: another process holds its lock."""
    monkeypatch.setattr(build, "READ_AGAIN_S", 0.0)
    with exclusive_lock(own.path / DRIVER, {"pid": os.getpid(), "host": "here", "since": "noon"}):
        yield own


def ranked(run: Run) -> list[str]:
    return run.leaderboard.query("kind == 'network' and status == 'done'")["trial"].tolist()


def lost_while_copied(run: Run, monkeypatch: pytest.MonkeyPatch, then: bool = True) -> str:
    """Have the best trial's weights removed when one of its files was copied; then: and its row overtaken."""
    best, copyfile = ranked(run)[0], shutil.copyfile

    def copied(source: Path, target: Path) -> None:
        copyfile(source, target)
        if Path(source).parent.parent.name == best and (run.trial(best) / "weights").exists():
            shutil.rmtree(run.trial(best) / "weights")
            if then:
                board = run.leaderboard
                board.loc[board["trial"] == best, "status"] = "failed"
                write_table(run.path / "leaderboard.parquet", board, run.description.cohort.as_yaml())

    monkeypatch.setattr(members.shutil, "copyfile", copied)
    return best


def test_members_are_chosen_anew_where_weights_go_while_they_are_copied(
    running: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    expected = ranked(running)[1:2]
    lost_while_copied(running, monkeypatch)
    made = lymphtune.ensemble(run=running.path, top=1)
    assert [member["trial"] for member in made.members] == expected
    assert sorted(path.name for path in (made.path / "weights").iterdir()) == sorted(expected)
    assert "changed by its search while it was read; reading it again" in capsys.readouterr().err


def test_a_search_that_ended_meanwhile_is_read_again_too(own: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ranked(own)[1]
    lost_while_copied(own, monkeypatch)
    assert [member["trial"] for member in lymphtune.ensemble(run=own.path, top=1).members] == [expected]


def test_weights_that_stay_away_end_it_in_one_line(running: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    best = lost_while_copied(running, monkeypatch, then=False)
    with pytest.raises(
        InputError, match=rf"{best}: its weights were not kept.*search is still running.*--top$"
    ) as told:
        lymphtune.ensemble(run=running.path, top=1)
    assert "\n" not in str(told.value) and not (running.path / "ensembles").exists()


def test_without_a_search_nothing_is_read_again(own: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    best = ranked(own)[0]
    shutil.rmtree(own.trial(best) / "weights")
    read, candidates = [], build.read_candidates
    monkeypatch.setattr(build, "read_candidates", lambda *given: read.append(1) or candidates(*given))
    with pytest.raises(InputError, match=r"its weights were not kept; search with a larger --keep-weights$"):
        lymphtune.ensemble(run=own.path, top=1)
    assert len(read) == 1


def test_an_ensemble_that_fails_leaves_the_one_before(own: Run) -> None:
    made = lymphtune.ensemble(run=own.path, top=1)
    before = {path: path.read_bytes() for path in made.path.rglob("*") if path.is_file()}
    described = read_yaml(own.trial(ranked(own)[0]) / "config.yaml")
    write_yaml(
        own.trial(ranked(own)[0]) / "config.yaml", described | {"weights": dict.fromkeys(described["weights"], "0")}
    )
    with pytest.raises(InputError, match="not the weights that the search wrote"):
        lymphtune.ensemble(run=own.path, top=1)
    assert {path: path.read_bytes() for path in made.path.rglob("*") if path.is_file()} == before
