"""The report's stability: the command's own conclusion and figure, and a note where runs are too few."""

from dataclasses import replace
from pathlib import Path

import pytest

from lymphtune.ensembling.ensemble_spread import conclusion
from lymphtune.ensembling.single_runs import choose_trials, read_single_runs
from lymphtune.reporting.drawing import INK, styled, svg_of
from lymphtune.reporting.facts import Facts
from lymphtune.reporting.parts import Drawing, Note, Table
from lymphtune.reporting.sections import stability as section_of
from lymphtune.statistics.ensemble_sizes import stability
from tests.ensembling.test_ensemble_spread import runs_of, write_run


def test_it_leads_with_the_conclusion_in_the_page_s_ink(facts: Facts, tmp_path: Path) -> None:
    run = write_run(tmp_path / "eight", runs_of(8, 2))
    with styled():
        section = section_of.section(replace(facts, run=run))
    assert section is not None
    drawing, table = section.parts
    assert isinstance(drawing, Drawing) and isinstance(table, Table)
    runs = read_single_runs(run, choose_trials(run, "networks", 10))
    found = stability(runs.oof_TRP, runs.labels_P, (1, 2, 3, 5, 10), section_of.DRAWS)
    assert section.lead == conclusion(runs, found)
    assert list(table.frame["size"]) == [1, 2, 3, 5, 10]
    svg = svg_of(drawing)
    assert INK in svg and "#000000" not in svg and "black" not in svg


@pytest.mark.parametrize(("trials", "said"), [(1, "1 single run."), (3, "3 single runs.")])
def test_too_few_runs_are_said_to_be_too_few(facts: Facts, tmp_path: Path, trials: int, said: str) -> None:
    section = section_of.section(replace(facts, run=write_run(tmp_path / "few", runs_of(trials, 1))))
    assert section is not None and section.lead.endswith(said)
    (note,) = section.parts
    assert isinstance(note, Note) and "--retrain" in note.text


def test_a_run_whose_networks_were_all_stopped_has_no_such_section(facts: Facts, tmp_path: Path) -> None:
    assert section_of.section(replace(facts, run=write_run(tmp_path / "none", runs_of(3, 1), stopped=3))) is None
