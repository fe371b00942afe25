"""Versions of the packages at work, lymphtune included where it runs from a checkout that is not installed."""

import tomllib
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

OURS = "lymphtune"
MISSING = "not installed"


def version(name: str) -> str:
    """Return a package's version; of lymphtune in a checkout that of pyproject.toml; MISSING where there is none."""
    try:
        return installed(name)
    except PackageNotFoundError:
        return _of_checkout() if name == OURS else MISSING


def _of_checkout() -> str:
    project = Path(__file__).parent.parent / "pyproject.toml"
    try:
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return MISSING
