"""Reports: what is in the page and beside it, the same twice, nothing from outside as markup, refusals in one line."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

import lymphtune
from lymphtune.cli import main
from lymphtune.errors import InputError
from lymphtune.reporting.facts import gather
from lymphtune.reporting.report import write_report
from lymphtune.runs.run import Run
from tests.reporting.hostile import EVIL, REASON, hostile_page

BODIES = {"script", "style"}


class Page(HTMLParser):
    """A page's tags with their attributes, its visible text, and the bodies of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.scripts, self.inside = "", dict[str, str](), ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in BODIES:
            self.inside = str(dict(attrs).get("id", tag))

    def handle_endtag(self, tag: str) -> None:
        if tag in BODIES:
            self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.scripts[self.inside] = self.scripts.get(self.inside, "") + data
        else:
            self.text += data


@pytest.fixture(scope="module")
def text(run: Run) -> str:
    """The page of the run without an ensemble."""
    return write_report(run).read_text(encoding="utf-8")


def undated(text: str) -> str:
    return re.sub(r"made \d{4}-\d\d-\d\d \d\d:\d\d", "made", text)


def test_the_page_answers_without_an_ensemble_and_with_one(text: str, run: Run, tmp_path: Path) -> None:
    assert "This run has no saved ensemble" in text and "12 patients" in text
    copy = Run(Path(shutil.copytree(run.path, tmp_path / "copy")))
    lymphtune.ensemble(run=copy.path, top=2)
    page = write_report(copy).read_text(encoding="utf-8")
    assert "no saved ensemble" not in page and "ensemble of 2" in page
    with pytest.raises(InputError, match="no such ensemble; there are: top"):
        write_report(copy, ensemble="other")


def test_figures_and_tables_lie_beside_the_page(text: str, run: Run) -> None:
    there = {path.name for path in (run.path / "figures").iterdir()}
    assert {"scores.csv", "scores.tex", "leaderboard-table-10.csv"} <= there
    drawings = {attrs["id"] for tag, attrs in Page(text).tags if tag == "figure" and "id" in attrs}
    assert {f"{name}.{kind}" for name in drawings for kind in ("svg", "png")} <= there
    kept = pd.read_csv(run.path / "figures" / "leaderboard-table-10.csv")
    assert kept["trial"].tolist() == run.leaderboard["trial"].tolist()


@pytest.mark.slow
def test_a_run_gives_the_same_page_twice(text: str, run: Run) -> None:
    assert undated(write_report(run).read_text(encoding="utf-8")) == undated(text)


def test_failed_trials_are_shown_with_their_reason(text: str, failed: pd.Series) -> None:
    page = Page(text)
    assert f"failed: {REASON}" in page.text
    assert [attrs["data-status"] for _, attrs in page.tags if attrs.get("data-trial") == failed["trial"]] == ["failed"]
    assert set(json.loads(page.scripts["trials"])) >= {failed["trial"]}


def test_some_trial_is_the_best_in_every_resample(run: Run) -> None:
    facts = gather(run, None, None, True)
    assert len(facts.p_best_M) == len(facts.candidates.table)
    assert facts.p_best_M.sum() == pytest.approx(1)


@pytest.mark.slow
def test_names_of_folders_are_no_markup(hostile_run: tuple[Run, Path]) -> None:
    run, data = hostile_run
    page = Page(write_report(run, data).read_text(encoding="utf-8"))
    assert run.name in page.text and data.name in page.text
    assert not [attrs for _, attrs in page.tags if attrs.get("src") == "x" or "onload" in attrs]


def test_no_text_of_any_part_is_markup() -> None:
    page = Page(hostile_page())
    assert [tag for tag, _ in page.tags if tag == "script"] == ["script", "script"]  # the data's and the page's own
    assert not [tag for tag, attrs in page.tags if tag == "img" or any(name.startswith("on") for name in attrs)]
    assert page.text.count(EVIL) >= 12 and "49" not in page.text
    trials = json.loads(page.scripts["trials"])
    assert trials[EVIL]["configuration"] == EVIL


def test_what_cannot_be_reported_on_is_said_in_one_line(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = Run(Path(shutil.copytree(run.path, tmp_path / "moved")))
    described = (moved.path / "run.yaml").read_text().replace(run.description.cohort.data, "/nowhere/at/all")
    (moved.path / "run.yaml").write_text(described)
    for words, message in (
        (["--run", "none"], f"{tmp_path / 'none'}: no such run; there are: moved"),
        (["--run", "moved"], "the run moved was trained on it: name it with --data"),
        (["--run", "moved", "--data", str(tmp_path / "no")], "no such file or folder"),
        (["--run", str(run.path), "--ensemble", "top"], "no such ensemble; there are: none"),
    ):
        assert main(["report", "--runs", str(tmp_path), *words]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lymphtune: ")]
        assert len(lines) == 1 and message in lines[0]
