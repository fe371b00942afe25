"""A search that keeps its report up to date: written while it goes on, and once more when it is over."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import lymphtune
from lymphtune.runs.run import Run
from lymphtune.searching import live_report
from lymphtune.searching.live_report import LiveReport


class Board:
    """What a live report looks at."""

    mirror = None

    def __init__(self, *settled: str) -> None:
        self.table = SimpleNamespace(settled=list(settled))


def test_it_is_written_again_every_minute_once_a_trial_has_ended(
    searched: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, started = LiveReport(searched, "data"), []
    monkeypatch.setattr(LiveReport, "start", lambda self: started.append(1))
    live(Board("one"))  # type: ignore[arg-type]
    assert not started  # the first minute is not over
    live.began = time.monotonic() - live_report.EVERY_S
    live(Board())  # type: ignore[arg-type]
    assert not started
    live(Board("one"))  # type: ignore[arg-type]
    assert started == [1]


def test_a_report_that_cannot_be_is_said(searched: Run, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    live = LiveReport(searched, tmp_path / "gone")
    live.finish()
    assert capsys.readouterr().err == ""  # the search is not over
    live.over(Board("one"))  # type: ignore[arg-type]
    live.finish()
    assert f"no report: lymphtune: {tmp_path / 'gone'}: no such" in capsys.readouterr().err


@pytest.mark.slow
def test_a_search_leaves_its_report(
    ray_session: None, _tiny_cohort_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_report, "EVERY_S", 0.5)
    run = lymphtune.search(
        "tiny", _tiny_cohort_files, runs=tmp_path, name="shown", trials=2, epochs=2, grace=1, report=True
    )
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "the search goes on" not in page
    assert all(trial in page for trial in run.leaderboard["trial"])
    assert (run.path / "figures" / "scores.csv").is_file()
