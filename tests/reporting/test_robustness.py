"""The section on shifts: what was measured of this very ensemble, or how to measure it."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import lymphtune
from lymphtune.ensembling import shift_robustness as module
from lymphtune.reporting.drawing import styled
from lymphtune.reporting.facts import Facts, gather
from lymphtune.reporting.parts import Drawing, Note, Table
from lymphtune.reporting.sections.robustness import section
from lymphtune.runs.run import Run
from lymphtune.shortcuts.shifts import SHIFTS


@pytest.fixture(scope="module")
def facts(searched: Run, tmp_path_factory: pytest.TempPathFactory) -> Facts:
    own = Run(Path(shutil.copytree(searched.path, tmp_path_factory.mktemp("runs") / "own")))
    lymphtune.ensemble(run=own.path, top=1, source="networks")
    return gather(own, None, None, True)


def test_what_was_not_measured_is_named_with_its_command(facts: Facts) -> None:
    found = section(facts)
    assert found is not None and "was not measured" in found.lead
    note = found.parts[1]
    assert isinstance(note, Note) and note.code
    assert note.text == "lymphtune robustness --run own --ensemble top"
    assert section(replace(facts, bundle=None)) is None


def test_what_was_measured_is_drawn_and_tabled(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    assert facts.bundle is not None
    monkeypatch.setattr(module, "SHIFTS", {name: SHIFTS[name] for name in ("darker", "blurred")})
    result = module.measure_robustness(facts.run, facts.bundle, None, 2)
    with styled():
        found = section(facts)
    assert found is not None and found.lead.startswith("The worst of 2 shifts")
    drawing, table = found.parts
    assert isinstance(drawing, Drawing) and isinstance(table, Table)
    assert "darker: balanced accuracy" in drawing.alt and "2 cells each" in drawing.caption
    assert table.frame.equals(result.values["shifts"]) and table.shown is not None
    assert table.shown["shift"].tolist() == ["as it is", "darker", "blurred"]
