"""Versions are told from a checkout that is not installed, too."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lymphtune.versions import MISSING, version

ROOT = Path(__file__).parent.parent
NOT_INSTALLED = """
import importlib.metadata, sys
real = importlib.metadata.version
def version(name):
    if name == "lymphtune":
        raise importlib.metadata.PackageNotFoundError(name)
    return real(name)
importlib.metadata.version = version
from lymphtune.cli import main
sys.exit(main([WORDS]))
"""


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_a_checkout_that_is_not_installed_answers(word: str) -> None:
    code = NOT_INSTALLED.replace("WORDS", repr(word))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert done.returncode == 0 and not done.stderr
    assert done.stdout == f"lymphtune {ours}\n" if word == "--version" else "usage: lymphtune" in done.stdout


def test_a_package_that_is_not_there_has_no_version() -> None:
    assert version("no-such-package-at-all") == MISSING
    assert version("numpy")[0].isdigit()
