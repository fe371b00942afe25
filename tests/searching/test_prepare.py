"""What a search says of its cohort before it starts: the doctor's word in short, and never a refusal of its own."""

from pathlib import Path

import pytest

from lymphtune.cohort import Cohort, load_cohort
from lymphtune.cohort.packed import pack
from lymphtune.doctor import quick_findings
from lymphtune.doctor.listing import MAX_LINES, short_listing
from lymphtune.findings import Finding
from lymphtune.searching.prepare import prepare
from lymphtune.searching.settings import Settings
from tests.doctor import corpus

SETTINGS = Settings(trials=1, folds=3)


def said(data: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines after the first, which says to what day ages are counted."""
    prepare("clinical", data, SETTINGS)
    first, *lines = capsys.readouterr().err.splitlines()
    assert "ages are counted to 2020-01-01" in first
    return lines


def test_of_a_cohort_that_is_well_nothing_is_said(tiny_cohort_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(tiny_cohort_folder, capsys) == []


def test_a_line_a_warning_and_how_to_hear_more(tiny_cohort_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus.counts_a_microlitre(tiny_cohort_folder)
    corpus.two_rows_of_one_person(tiny_cohort_folder)
    corpus.a_picture_twice(tiny_cohort_folder)
    lines = said(tiny_cohort_folder, capsys)
    assert [line.split(": ")[1:3] for line in lines[:-1]] == [
        ["warning", "twin rows"],
        ["warning", "odd count"],
        ["warning", "same picture"],
    ]
    assert lines[-1] == f"`lymphtune doctor --data {tiny_cohort_folder}` says what to do"


def test_the_same_of_a_packed_cohort(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    corpus.counts_a_microlitre(tiny_cohort_folder)
    pack(tiny_cohort_folder, tmp_path / "tiny.parquet", SETTINGS.reference_date)
    found = [quick_findings(data, load_cohort(data)) for data in (tiny_cohort_folder, tmp_path / "tiny.parquet")]
    assert [[finding.check for finding in of] for of in found] == [["count unit"], ["count unit"]]


def test_of_a_simulated_cohort_nothing_is_said(tiny_cohort: Cohort) -> None:
    assert quick_findings("simulated", tiny_cohort) == []


def test_at_most_so_many_lines() -> None:
    findings = [Finding("warning", f"check {number}", "odd", "mend it") for number in range(MAX_LINES + 3)]
    lines = short_listing("cohort", findings, "folder")
    assert len(lines) == MAX_LINES + 1
    assert lines[-1] == "`lymphtune doctor --data folder` says 3 more, and what to do"
    assert short_listing("cohort", [], "folder") == []
