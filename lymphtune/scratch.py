"""Temporary paths whose names identify the writing process, so that abandoned ones can be removed."""

import hashlib
import os
import re
import shutil
import time
import uuid
from functools import cache
from pathlib import Path

from lymphtune.platforms import is_alive, machine_id, start_ticks

SCRATCH = re.compile(
    r"\.(?P<name>.+)\.(?:(?P<machine>[0-9a-f]{8})-(?P<pid>[0-9]{1,10})-(?P<start>[0-9]{1,20})-)?[0-9a-f]{8}(?P<old>\.old)?"
)
# a path written on another machine, or by an unknown process, counts as abandoned after this long without a change
MAX_SILENCE_S = 3600.0


def scratch_path(path: Path) -> Path:
    """A new hidden path beside `path`; its name holds the machine, the process and its start time."""
    pid = os.getpid()
    return path.with_name(f".{path.name}.{_machine_digest()}-{pid}-{start_ticks(pid)}-{uuid.uuid4().hex[:8]}")


def remove_unfinished(folder: Path) -> None:
    """Remove unfinished files and folders of ended processes, recursively; those of running processes stay.

    If a process ended while it replaced a folder, the old folder is restored.
    """
    found = [(path, match) for path in folder.rglob(".*") if (match := SCRATCH.fullmatch(path.name))]
    for path, match in found:
        if not _is_abandoned(path, match):
            continue
        home = path.with_name(match["name"])
        if match["old"] and path.is_dir() and not home.exists():
            os.replace(path, home)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_abandoned(path: Path, match: re.Match[str]) -> bool:
    """Whether the writing process has ended or, if it cannot be checked, has not written for MAX_SILENCE_S."""
    if match["machine"] == _machine_digest():
        pid = int(match["pid"])
        return not is_alive(pid) or start_ticks(pid) != int(match["start"])
    return time.time() - _last_change(path) > MAX_SILENCE_S


def _last_change(path: Path) -> float:
    """Time of the last change of a file, or of anything in a folder; infinite if it has just been removed."""
    try:
        return max(found.lstat().st_mtime for found in [path, *path.rglob("*")])
    except FileNotFoundError:
        return float("inf")


@cache
def _machine_digest() -> str:
    return hashlib.sha256(machine_id().encode()).hexdigest()[:8]
