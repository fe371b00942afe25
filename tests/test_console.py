"""Progress without a terminal: lines for a person, nothing where there is no label."""

import pytest

from lymphtune import console


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
