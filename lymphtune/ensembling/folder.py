"""The folder of a saved ensemble: valid names, and the renaming of an existing folder of that name."""

import itertools
import os
import re
from pathlib import Path
from typing import Any

from lymphtune import console
from lymphtune.errors import InputError
from lymphtune.files import named_write_errors, read_yaml

MADE_BY = ("recipe", "calibration", "error_rate")  # keys of ensemble.yaml that define how an ensemble was made


def checked_name(name: str) -> str:
    """Return the name; raises InputError if it is not a plain folder name."""
    if not re.fullmatch(r"\w[\w -]*", name):
        raise InputError(f"--name {name[:100]!r}: expected letters, digits, - and _")
    return name


def keep_different(path: Path, described: dict[str, Any]) -> None:
    """Rename an existing folder at `path`, unless its ensemble was made with the same options as the new one."""
    if not path.exists() or _saved_options(path) == _options(described):
        return
    numbers = itertools.count(1)
    kept = next(other for number in numbers if not (other := path.with_name(f"{path.name}-{number}")).exists())
    with named_write_errors(path):
        os.replace(path, kept)
    console.say(f"{path}: an ensemble with other options existed; renamed to {kept.name} (--name names the new one)")


def _saved_options(path: Path) -> list[Any] | None:
    try:
        return _options(read_yaml(path / "ensemble.yaml"))
    except (InputError, KeyError, TypeError):
        return None


def _options(described: dict[str, Any]) -> list[Any]:
    """Return the parts of ensemble.yaml that define how an ensemble was made."""
    return [*(described[name] for name in MADE_BY), described["threshold"]["rule"], described["refer"]["share"]]
