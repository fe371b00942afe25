"""What is shown of a search while it runs, without Ray."""

import io
import sys
from pathlib import Path

import pytest

from lymphtune.searching import display as module
from lymphtune.searching.display import Display
from tests.searching.test_board import board, report


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_each_trial_has_its_line_once(
    tiny_cohort_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, show = board(tmp_path, tiny_cohort_folder, 2), Display()
    for number in (1, 0):
        report(found, number, 0.5)
        show(found)
        show(found)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("[")]
    assert [line.split("]")[1].split()[0] for line in lines] == [found.records[n].trial.hash[:6] for n in (1, 0)]


def test_a_live_table_is_drawn_now_and_then_only(
    tiny_cohort_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks at every trial, and is asked for at each report."""
    drawn, real = [], module._table
    monkeypatch.setattr(module, "_table", lambda of: drawn.append(of) or real(of))
    monkeypatch.setattr(sys, "stderr", Terminal())
    found, show = board(tmp_path, tiny_cohort_folder, 3), Display()
    for number in range(3):
        report(found, number, 0.5)
        show(found)
    show.close()
    assert len(drawn) == 1


def test_the_table_names_the_best_and_counts_whom_it_leaves_out(
    tiny_cohort_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RUNNING_SHOWN", 1)
    found = board(tmp_path, tiny_cohort_folder, 6, epochs=2, grace=1, scheduler="none")
    for number, skill in enumerate((0.3, 0.9, 0.5)):
        report(found, number, skill, epochs=2)
    for number in (3, 4, 5):
        report(found, number, 0.2, ends=False)
    best = found.table.rows().iloc[0]
    assert found.table.best is not None and found.table.best["trial"] == best["trial"] == found.records[1].trial.hash
    table = module._table(found)
    assert best["trial"][:6] in str(table.caption)
    assert list(table.columns[1].cells)[-1] == "and 2 more"
