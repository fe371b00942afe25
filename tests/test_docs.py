"""The documentation says what is: its commands and options exist, its links lead somewhere, its examples run."""

import argparse
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from lymphtune import registry
from lymphtune.cli import parser
from lymphtune.cohort import Cohort
from lymphtune.cohort.layout import Layout
from lymphtune.config import configuration
from lymphtune.training.lockstep import train
from tests.training.networks import protocol

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
SCRIPTS = [DOCS / "slurm" / "lymphtune.sbatch", DOCS / "kubernetes" / "rayjob.yaml"]
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
OTHERS = {"--help", "--version", "--tmux"}  # of every command, of lymphtune itself, of Ray


def commands() -> dict[str, argparse.ArgumentParser]:
    return dict(parser()._subparsers._group_actions[0].choices)  # type: ignore[union-attr, arg-type]


def options_of(command: argparse.ArgumentParser) -> set[str]:
    return {option for action in command._actions for option in action.option_strings}


def blocks(path: Path, *words: str) -> Iterator[str]:
    """Yield the text of the fenced blocks whose language is one of these."""
    for language, text in FENCED.findall(path.read_text(encoding="utf-8")):
        if language in words:
            yield text


def command_lines(path: Path) -> list[str]:
    """Return the lines of shell blocks that begin with lymphtune, without their comments."""
    text = "\n".join(blocks(path, "", "sh", "bash")).replace("\\\n", " ")
    return [line for line in text.splitlines() if re.match(r"lymphtune [a-z]", line)]


def by_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [page for page in PAGES if command_lines(page)], ids=by_name)
def test_every_command_of_a_shell_block_is_one(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in command_lines(path):
        if {"[", "{"} & set(line):  # a usage, of the reference
            continue
        try:
            parser().parse_args(shlex.split(line, comments=True)[1:])
        except SystemExit:
            pytest.fail(f"{line}\n{capsys.readouterr().err}")


@pytest.mark.parametrize("path", [*PAGES, *SCRIPTS], ids=by_name)
def test_commands_and_options_in_the_text_exist(path: Path) -> None:
    """Also within a sentence, and after other words than lymphtune's."""
    text, known = path.read_text(encoding="utf-8").replace("\\\n", " "), commands()
    for line in re.findall(r"lymphtune ([a-z]+(?: [^`\n|]*)?)[`\n|]", text):
        command, *rest = line.split()
        if command in known:
            named = {re.split("[=\\]]", word.strip("["))[0] for word in rest if word.lstrip("[").startswith("--")}
            assert named <= options_of(known[command]), line
    every = set().union(*map(options_of, known.values())) | OTHERS
    for quoted in re.findall(r"`((?:--|lymphtune )[^`\n]+)`", FENCED.sub("", text)):
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", quoted)) <= every, quoted


@pytest.mark.parametrize("path", PAGES, ids=by_name)
def test_links_and_pictures_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", FENCED.sub("", path.read_text(encoding="utf-8"))):
        name, _, anchor = target.partition("#")
        found = path.parent / name if name else path
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


def anchors(path: Path) -> set[str]:
    """Return the names of a page's headings, as both a repository and the site make them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_layout_of_another_hospital_is_one() -> None:
    (text,) = blocks(DOCS / "cohorts.md", "yaml")
    layout = Layout.model_validate(yaml.safe_load(text))
    assert layout.labels.values["CLL"] == 1 and set(layout.attributes) == {"hb_g_per_l", "ldh", "material"}


@pytest.mark.parametrize("path", [page for page in PAGES if [*blocks(page, "python")]], ids=by_name)
def test_python_blocks_compile(path: Path) -> None:
    for text in blocks(path, "python"):
        compile(text, str(path), "exec")


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "make_reference.py"))


@pytest.mark.parametrize(
    "name", ["reference/spaces.md", "reference/recipes.md", "reference/commands.md", "python-api.md"]
)
def test_the_reference_is_what_the_code_says(reference: dict[str, Any], name: str) -> None:
    assert name in reference["PAGES"]
    same = (DOCS / name).read_text(encoding="utf-8") == reference["page"](name)
    assert same, f"docs/{name} is out of date; run python docs/make_reference.py"


def test_the_reference_has_every_word_option_and_bound(reference: dict[str, Any]) -> None:
    families = [value for value in vars(registry).values() if isinstance(value, registry.Family)]
    text = reference["page"]("reference/spaces.md") + reference["page"]("reference/recipes.md")
    assert [word for family in families for word in family.words() if f"### `{word}`" not in text] == []
    assert "| `crop_px` | integer from 40 to 224 | `112` | side of the central square" in text
    assert "| `weights` | string, or null | `null` |" in text and "`adam`, `adamw`, `sgd`" in text
    listed = reference["page"]("reference/commands.md")
    assert all(
        f"`{option}" in listed for command in commands().values() for option in options_of(command) - OTHERS - {"-h"}
    )


@pytest.fixture
def own_encoder() -> Iterator[dict[str, Any]]:
    """The encoder of the page, registered as a file in the family's folder would be, and removed again."""
    text, configured = blocks(DOCS / "adding-an-encoder.md", "python", "yaml")
    registry.encoders.words()  # the others are there first
    module = ModuleType("lymphtune.models.encoders.depthwise")
    sys.modules[module.__name__] = module  # where a dataclass looks for its module
    try:
        exec(compile(text, "depthwise.py", "exec"), module.__dict__)
        yield {"about": module.__doc__, "space": configured}
    finally:
        del sys.modules[module.__name__]
        registry.encoders._members.pop("depthwise", None)


def test_the_encoder_of_the_page_is_one(own_encoder: dict[str, Any], tiny_cohort: Cohort, tmp_path: Path) -> None:
    from lymphtune.spaces import load_space

    (tmp_path / "mine.yaml").write_text(own_encoder["space"], encoding="utf-8")
    drawn = {load_space(str(tmp_path / "mine.yaml")).sample(0, number).architecture for number in range(12)}
    assert drawn == {"depthwise concat prediction_mean", "resnet concat prediction_mean"}
    given = {
        "model": {"encoder": {"depthwise": {"filters": 4}}, "fusion": "concat"},
        "data": {"crop_px": 40, "bag_size": 3},
        "training": {"precision": "float32"},
    }
    wanted = protocol(tiny_cohort, epochs=1)
    for result in train(configuration(given, "test"), tiny_cohort, wanted):
        result.save(tmp_path / "weights")
        held_out = result.probabilities_RP[wanted.folds_RP >= 0]
        assert ((held_out > 0) & (held_out < 1)).all() and np.ptp(held_out) > 0
    assert len(list((tmp_path / "weights").iterdir())) == 3


def test_the_encoder_of_the_page_is_gone_again() -> None:
    assert "depthwise" not in registry.encoders.words()


# ---- what takes its time


def run(arguments: list[str | Path], folder: Path) -> str:
    """Return what a program prints; the cache is the tests' own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(map(str, arguments))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tutorial_runs_as_it_stands(tmp_path: Path) -> None:
    lines = command_lines(DOCS / "tutorial.md")
    assert len(lines) >= 10
    for line in lines:
        run([sys.executable, "-m", *shlex.split(line, comments=True)], tmp_path)
    assert (tmp_path / "runs" / "first" / "ensembles" / "top" / "submission.csv").is_file()
    assert (tmp_path / "runs" / "first" / "report.html").is_file()
    assert {path.name for path in (tmp_path / "predictions").iterdir()} >= {"predictions.parquet", "submission.csv"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_example_of_the_python_api_runs(tmp_path: Path) -> None:
    said = run([sys.executable, DOCS / "example.py"], tmp_path)
    assert "ensemble of 3" in said and "NEW1 " in said and re.search(r"balanced accuracy 0\.\d\d \(0\.\d\d to ", said)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    run([sys.executable, "-m", "mkdocs", "build", "--strict", "-f", ROOT / "mkdocs.yml", "-d", tmp_path], ROOT)
    pages = list(tmp_path.rglob("*.html"))
    assert {"index.html", "tutorial.html", "CONTRIBUTING.html"} <= {page.name for page in pages}
    assert (tmp_path / "cluster.yaml").is_file() and not (tmp_path / "top_files.html").exists()
    fetched = re.compile(
        r'<(?:script|img|iframe)[^>]*src="(?:https?:)?//|<link[^>]*rel="stylesheet"[^>]*href="(?:https?:)?//'
    )
    assert [page.name for page in pages if fetched.search(page.read_text(encoding="utf-8"))] == []
