"""Benchmarks that stand on the search's own parts still run; no test asserts a time."""

from pathlib import Path

from benchmarks.demo import demo_commands
from benchmarks.search import scale_one


def test_a_simulated_search_ends_and_is_read_again() -> None:
    told = scale_one(40, workers=7)  # raises where the run that is read again is another one
    assert told["settled"] == told["trials"] == 40
    assert 0.4 < told["stopped"] < 0.9
    assert 0 <= told["fsync"] < 1 and told["driver"] > told["table"]


def test_the_demo_that_is_timed_is_the_one_of_the_makefile() -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    commands = demo_commands(makefile)
    assert [words[0] for words in commands] == ["search", "ensemble"]
    assert all(f"$(BIN)/lymphtune {' '.join(words)}" in makefile for words in commands)
