"""The folder of a saved ensemble: what it may be called, and what becomes of another one of that name."""

import itertools
import os
import re
from pathlib import Path
from typing import Any

from lymphtune import console
from lymphtune.errors import InputError
from lymphtune.files import named_write_errors, read_yaml

MADE_BY = ("recipe", "calibration", "error_rate")  # of ensemble.yaml; beside the rules of threshold and referral


def checked_name(name: str) -> str:
    """Return the name; raises InputError where it would be no plain name of a folder."""
    if not re.fullmatch(r"\w[\w -]*", name):
        raise InputError(f"--name {name[:100]!r}: expected letters, digits, - and _")
    return name


def keep_different(path: Path, described: dict[str, Any]) -> None:
    """Rename a folder in the place of a new ensemble, unless it holds one that was made in the same way."""
    if not path.exists() or _made_by(path) == _rules(described):
        return
    numbers = itertools.count(1)
    kept = next(other for number in numbers if not (other := path.with_name(f"{path.name}-{number}")).exists())
    with named_write_errors(path):
        os.replace(path, kept)
    console.say(f"{path}: an ensemble made in another way was there; it is kept as {kept.name} (--name names this one)")


def _made_by(path: Path) -> Any:
    try:
        return _rules(read_yaml(path / "ensemble.yaml"))
    except (InputError, KeyError, TypeError):
        return None


def _rules(described: dict[str, Any]) -> list[Any]:
    return [*(described[name] for name in MADE_BY), described["threshold"]["rule"], described["refer"]["share"]]
