"""What surrounds the code: the cluster file is one, the shipped YAML travels, the project speaks of itself alone."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from lymphtune.cli import parser

ROOT = Path(__file__).parent.parent
DOCS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_the_cluster_file_fits_rays_own_schema() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    given = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    validate_config(prepare_config(given))
    assert "RAY_AUTH_MODE=token" in " ".join(given["head_start_ray_commands"] + given["worker_start_ray_commands"])


def test_spaces_and_recipes_are_put_into_the_wheel() -> None:
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert built["force-include"] == {
        "search_spaces": "lymphtune/search_spaces",
        "ensembles": "lymphtune/ensembles",
    }


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_commands_and_options_in_the_documentation_exist(path: Path) -> None:
    commands = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    for line in re.findall(r"lymphtune ([a-z]+(?: [^`\n]*)?)[`\n]", path.read_text()):
        command, *rest = line.split()
        if command in commands:
            known = {option for action in commands[command]._actions for option in action.option_strings}
            assert {word.split("=")[0] for word in rest if word.startswith("--")} <= known, line


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


@pytest.mark.slow
def test_an_installed_wheel_finds_its_spaces_in_an_empty_folder(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)], check=True
    )
    target, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    wheel = next(tmp_path.glob("*.whl"))
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel], check=True)
    code = "import lymphtune.cli; print(lymphtune.__file__); raise SystemExit(lymphtune.cli.main(['spaces', 'mixed']))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=empty,
        env={"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and str(target) in done.stdout and "configuration" not in done.stderr
