"""Findings made of refusals: what is wrong and what would do, each once."""

from pathlib import Path

import pytest

from lymphtune.errors import InputError
from lymphtune.findings import finding_from_error, sentence


@pytest.mark.parametrize(
    ("error", "text", "cure"),
    [
        ("alt/cohort.yaml: line 1: not YAML", "cohort.yaml: line 1: not YAML", ""),
        ("alt/cohort.yaml: no 'x'; name another", "cohort.yaml: no 'x'", "Name another."),
        ("alt: no table; cohort.yaml names one", "no table", "cohort.yaml names one."),
        ("no table in it; expected one.", "no table in it", "Expected one."),
    ],
)
def test_a_refusal_is_told_once(error: str, text: str, cure: str) -> None:
    """What says nothing of a remedy has none; a path keeps its first letter."""
    finding = finding_from_error("layout", InputError(error), Path("alt"))
    assert (finding.text, finding.cure) == (text, cure)


def test_a_sentence_begins_with_a_capital_and_a_path_does_not() -> None:
    assert sentence("convert them to 8 bits") == "Convert them to 8 bits."
    assert sentence("e.g. so") == "e.g. so."
    assert sentence("alt/cohort.yaml: name it") == "alt/cohort.yaml: name it."
