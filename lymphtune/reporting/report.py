"""lymphtune report: report.html of a run, with its figures and tables as files."""

import importlib
from pathlib import Path

from lymphtune import console
from lymphtune.files import atomic_folder, write_text
from lymphtune.reporting.drawing import mark_simulated, save_drawing, styled, svg_of
from lymphtune.reporting.facts import Facts, gather
from lymphtune.reporting.page import page
from lymphtune.reporting.parts import Drawing, Section, Table
from lymphtune.reporting.sections import SECTIONS
from lymphtune.reporting.sections.verdict import banners
from lymphtune.reporting.tables import save_table
from lymphtune.runs.run import FIGURES, REPORT, Run


def write_report(run: Run, data: str | Path | None = None, ensemble: str | None = None, pictures: bool = True) -> Path:
    """Write the run's report.html and figures/, replacing earlier ones, and return the path of report.html.

    data: the run's cohort if it has moved; ensemble: name of a saved ensemble (default: the newest); pictures: whether
    the report may show patients' cells. Raises InputError where the input is unusable.
    """
    facts = gather(run, data, ensemble, pictures)
    with styled():
        found = [
            importlib.import_module(f"lymphtune.reporting.sections.{name}").section(facts)
            for name in console.each(SECTIONS, "reporting", len(SECTIONS))
        ]
    write_sections(facts, [section for section in found if section is not None])
    return run.path / REPORT


def write_sections(facts: Facts, sections: list[Section]) -> None:
    """Write figures/ and report.html of these sections."""
    parts = [part for section in sections for part in section.parts]
    svgs: dict[str, str] = {}
    with atomic_folder(facts.run.path / FIGURES) as scratch:
        for part in console.each(parts, "drawing", len(parts)):
            if isinstance(part, Drawing):
                if facts.simulated:
                    mark_simulated(part)
                svgs[part.name] = svg_of(part, facts.cohort.title)
                save_drawing(scratch, part, svgs[part.name], facts.cohort.title)
            elif isinstance(part, Table):
                save_table(scratch, part, facts.cohort.title)
    title = f"{facts.run.name}: {facts.cohort.title}"
    write_text(facts.run.path / REPORT, page(title, banners(facts), sections, svgs, facts.live))
