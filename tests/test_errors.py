"""An error is one line that a terminal can be shown, whatever is in the names that it quotes."""

import pytest

from lymphtune.cli import main
from lymphtune.errors import one_line, reason, shortened


def test_what_is_said_is_one_printable_line() -> None:
    said = one_line("a\x1b[2J.yaml: found 'x\u202ey\x07'\nand more\r")
    assert said.isprintable() and said.startswith("a\\x1b[2J.yaml") and "and more" in said


def test_a_reason_is_never_empty() -> None:
    assert reason(ValueError()) == "ValueError" and reason(OSError("one\ntwo")) == "one"


def test_the_command_line_escapes_what_it_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--space", "evil\x1b]0;title\x07\n.yaml", "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("lymphtune: evil\\x1b]0;title\\x07 .yaml: no such file") and said.count("\n") == 1


def test_a_long_text_is_cut_between_two_words() -> None:
    text = "word " * 59 + "whole"  # 300 characters
    assert shortened(text) == text
    assert shortened(text + "s") == "word " * 58 + "word ..."
    assert shortened("x" * 301) == "x" * 296 + " ..."
