"""Names of half-written files and folders, which tell whether the process that writes them still lives."""

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
MAX_SILENCE_S = (
    3600.0  # what a process of another machine, or an unknown one, writes is left over after so long a silence
)


def scratch_path(path: Path) -> Path:
    """Return a new hidden path beside `path`; its name says which process of which machine writes it."""
    pid = os.getpid()
    return path.with_name(f".{path.name}.{_machine_digest()}-{pid}-{start_ticks(pid)}-{uuid.uuid4().hex[:8]}")


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes have left half-written in and below the folder; what a living one writes stays.

    A folder that a killed process had moved aside for a new one, which never took its place, is put back.
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
    """Return whether nobody writes there any longer: its process has ended or, where that is unknown, fell silent."""
    if match["machine"] == _machine_digest():
        pid = int(match["pid"])
        return not is_alive(pid) or start_ticks(pid) != int(match["start"])
    return time.time() - _last_change(path) > MAX_SILENCE_S


def _last_change(path: Path) -> float:
    """Return when a file, or anything in a folder, was last written; infinite where it is gone meanwhile."""
    try:
        return max(found.lstat().st_mtime for found in [path, *path.rglob("*")])
    except FileNotFoundError:
        return float("inf")


@cache
def _machine_digest() -> str:
    return hashlib.sha256(machine_id().encode()).hexdigest()[:8]
