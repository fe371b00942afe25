"""Progress without a terminal: lines for a person, nothing where there is no label."""

import pytest

from lymphtune import console


def test_work_without_a_label_is_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(console, "QUIET_SECONDS", 0.0)
    for label in ("features", ""):
        with console.bar(label, 3) as bar:
            bar.advance(2)
    assert capsys.readouterr().err.splitlines() == ["features: 2 of 3, about 0 s left"]
