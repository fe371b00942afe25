"""Progress without a terminal: lines for a person, nothing where there is no label."""

import pandas as pd
import pytest

from lymphtune import console
from lymphtune.searching.display import leaderboard_text


def test_work_without_a_label_is_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console, "QUIET_SECONDS", 0.0)
    for label in ("features", ""):
        with console.bar(label, 3) as bar:
            bar.advance(2)
    assert capsys.readouterr().err.splitlines() == ["features: 2 of 3, about 0 s left"]


def test_colours_are_for_terminals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert console.painted("trial", "heading") == "trial"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert console.painted("trial", "heading") == "\x1b[1mtrial\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert console.painted("trial", "heading") == "trial"


def test_long_lines_hang_and_paths_stay_whole() -> None:
    path = "/" + "folder-" * 12
    assert console.hanging(f"error: {path}: no such file") == ["error:", f"  {path}:", "  no such file"]


def test_a_title_is_cut_with_a_sign_and_keeps_its_end() -> None:
    title = "resnet-32 gated gated_attention fixed 40"
    assert console.cut(title, len(title)) == title
    assert len(console.cut(title, 36)) == 36
    assert console.cut(title, 20).endswith(" 40") and "..." in console.cut(title, 20)


@pytest.mark.parametrize(("columns", "width"), [("60", 60), ("200", 80), ("10", 40)])
def test_what_is_printed_follows_the_terminal(columns: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert console.width() == width
    lines = console.wrapped("word " * 100)
    assert max(map(len, lines)) <= width and max(map(len, console.hanging("word " * 100))) <= width


@pytest.mark.parametrize(("columns", "n_tables"), [(80, 1), (60, 2), (40, 4)])
def test_columns_without_room_stand_below(columns: int, n_tables: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    titles, row = ["run", *(f"column of width {n}" for n in "wxyz")], ["first", "1", "2", "", "4"]
    lines = console.tabular(titles, [row, ["second", *"abcd"]])
    assert max(map(len, lines)) <= columns and len(lines) == 3 * n_tables
    words = [word for line in lines for word in line.split()]
    assert set("wxyz124abcd") <= {*words}
    assert [words.count(word) for word in ("run", "first", "second")] == [n_tables] * 3


def test_the_leaderboard_fits_a_terminal_of_60_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {
        "trial": "abcdef0123",
        "title": "resnet-32 gated gated_attention 40",
        "baseline": False,
        "status": "done",
        "balanced_accuracy": 0.8,
        "balanced_accuracy_low": 0.7,
        "balanced_accuracy_high": 0.9,
        "auc": 0.8,
        "log_loss": 0.5,
        "epochs": 30,
        "best_epoch_picked": False,
        "reason": "",
    }
    table = pd.DataFrame([row, row | {"status": "failed", "reason": "no memory " * 20}, row | {"baseline": True}])
    for columns in (60, 80):
        monkeypatch.setenv("COLUMNS", str(columns))
        text = leaderboard_text(table)
        assert max(map(len, text.splitlines())) <= columns
    assert "resnet-32 gated gated_attention 40 " in text and "..." in text


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 trials"), (1, "1 trial"), (2, "2 trials"), (13000, "13,000 trials")]
)
def test_one_is_singular(count: int, said: str) -> None:
    assert console.counted(count, "trial") == said
