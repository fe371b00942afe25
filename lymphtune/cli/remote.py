"""Runs at a URI: the ones that a command means are brought into the cache, and what the command wrote is sent back."""

import argparse
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lymphtune.errors import InputError
from lymphtune.files import is_locked
from lymphtune.runs.mirror import Mirror, named
from lymphtune.runs.run import DRIVER, FIGURES, PROGRESS, REPORT, find_run
from lymphtune.runs.storage import join, opened

DESCRIBING = ("run.yaml", DRIVER, PROGRESS)  # of each run: whether it is there and runs
WRITTEN = {  # files and folders of a run that a command writes; all other commands write nothing there
    "ensemble": ("ensembles",),
    "report": (REPORT, FIGURES),
    "robustness": ("robustness",),
    "stability": ("stability",),
}
OWN_FILES = ("status", "stop")  # commands that look at no trial's folder
EACH_ITS_OWN = ("ensembles",)  # folders whose folders are replaced one by one


@contextmanager
def brought(arguments: argparse.Namespace) -> Iterator[None]:
    """Have the runs that the arguments mean in a folder here, `--runs` being a URI; send what the command wrote.

    A search brings and sends its own run; other commands need no right to write unless they write results.
    """
    uri = arguments.runs
    if getattr(arguments, "watch", False):
        raise InputError("--watch: wants a folder that is seen from here; leave it out, and ask again")
    arguments.storage, arguments.runs = uri, cache_of(uri)
    _bring_descriptions(uri, arguments.runs)
    mirrors = (
        [] if arguments.command == "search" else [_mirror(uri, arguments.runs, name) for name in _named(arguments)]
    )
    for mirror in mirrors:
        if is_locked(mirror.path / DRIVER):  # a search of this machine writes here: nothing there is newer
            continue
        mirror.pull_own() if arguments.command in OWN_FILES else mirror.pull()
    yield
    for mirror in mirrors:
        _send(mirror, WRITTEN.get(arguments.command, ()))


def cache_of(uri: str) -> Path:
    """Return the folder that holds copies of the runs at a URI."""
    from lymphtune.cohort.pictures import cache_dir

    return cache_dir() / "runs" / hashlib.sha256(uri.encode()).hexdigest()[:16]


def _mirror(uri: str, runs: Path, name: str) -> Mirror:
    return Mirror(join(uri, name), runs / name)


def _bring_descriptions(uri: str, runs: Path) -> None:
    with named(uri):
        folders = opened(uri).folders()
    for name in folders:
        if not is_locked(runs / name / DRIVER):
            _mirror(uri, runs, name).pull_files(*DESCRIBING)


def _named(arguments: argparse.Namespace) -> list[str]:
    """Return the names of the runs that a command means: the latest where it names none and needs one."""
    own = ("run",) if arguments.command == "ensemble" else ("run", "name")  # whose --name is the ensemble's
    given = [getattr(arguments, name, None) for name in own]
    found = [str(name) for name in [*given, *getattr(arguments, "compared", [])] if name]
    if not found and arguments.command not in ("runs", "recipes"):
        return [find_run(None, arguments.runs, arguments.storage).name]
    return [find_run(name, arguments.runs, arguments.storage).name for name in found]


def _send(mirror: Mirror, written: tuple[str, ...]) -> None:
    there = [name for name in written if (mirror.path / name).exists()]
    if not there:
        return
    mirror.push(*there)
    for name in there:
        folders = mirror.path.glob(f"{name}/[!.]*/") if name in EACH_ITS_OWN else [mirror.path / name]
        for folder in folders:
            mirror.remove_replaced(str(folder.relative_to(mirror.path)))


def refresh(arguments: argparse.Namespace, name: str) -> None:
    """Bring the own files of a run here once more; nothing where `--runs` is a folder."""
    if arguments.storage is not None:
        _mirror(arguments.storage, arguments.runs, name).pull_own()


def send_now(arguments: argparse.Namespace, name: str, file: str) -> None:
    """Send one file of a run before the command has ended."""
    if arguments.storage is not None:
        _mirror(arguments.storage, arguments.runs, name).push(file)
