"""A folder here and its copy at a URI: a file travels where it has changed, and goes only where we removed it.

What is missing on one side is never taken as removed: another process may have written it a moment ago.
"""

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from lymphtune.errors import InputError, shortened
from lymphtune.files import atomic_file, read_json, write_json
from lymphtune.masking import masked
from lymphtune.runs.storage import HASTY_S, Entry, Store, is_uri, opened

__all__ = ["Mirror", "StorageError", "check_writable", "is_uri"]

KNOWN = ".mirror.json"  # of a mirrored folder: the state here and the tag there of each file when both were equal
LISTINGS = 3  # of a folder whose files another process removes meanwhile
State = tuple[int, int]  # bytes, nanoseconds of the last change


class StorageError(InputError):
    """A storage cannot be read or written: the local copy is whole; resume once it can."""


class Mirror:
    """`uri` holds a copy of `path`; what was equal once is sent again only when it has changed here.

    may_write: called before every change there; raises where this process must not write any longer.
    """

    def __init__(
        self, uri: str, path: Path, patience_s: float = HASTY_S, may_write: Callable[[], None] = lambda: None
    ) -> None:
        self.uri, self.path, self.may_write = uri, path, may_write
        with named(self.uri):
            self.store: Store = opened(uri, patience_s)
        self._known: dict[str, tuple[State, str]] = _read_known(path / KNOWN)

    def hurry(self) -> None:
        """Repeat failed requests for seconds only from now on: the storage is known not to answer."""
        self.store = opened(self.uri, HASTY_S)

    def has(self, file: str) -> bool:
        with named(self.uri):
            return self.store.find(file) is not None

    def pull(self, name: str = "") -> None:
        """Bring a folder here; what is newer here stays, and so does what is not there.

        It is listed again, some times, where another process removes files between the listing and their coming here.
        """
        with named(self.uri):
            for _ in range(LISTINGS):
                if self._fetch(self._there(name)):
                    return

    def pull_own(self) -> None:
        """Bring the files here that lie in the folder itself, but not those below."""
        with named(self.uri):
            self._fetch(_checked(self.store.own(), self.uri))

    def pull_files(self, *files: str) -> None:
        """Bring the named files here, those that are there."""
        with named(self.uri):
            self._fetch({file: entry for file in files if (entry := self.store.find(file)) is not None})

    def _fetch(self, there: dict[str, Entry]) -> bool:
        """Bring the listed files here that differ; return whether they were all still there."""
        gone = []
        for file, entry in there.items():
            local = self.path / file
            if self._is_current(file, local, entry):
                continue
            try:
                with atomic_file(local) as scratch:
                    self.store.fetch(file, scratch)
            except FileNotFoundError:
                gone.append(file)
                continue
            os.utime(local, ns=(entry.mtime_ns, entry.mtime_ns))
            self._known[file] = _state(local), entry.tag
        if there:
            write_json(self.path / KNOWN, self._known)
        return not gone

    def _is_current(self, file: str, local: Path, entry: Entry) -> bool:
        if not local.exists():
            return False
        known, state = self._known.get(file), _state(local)
        if known and known[0] == state:  # not changed here since both were equal
            return known[1] == entry.tag
        return state[1] >= entry.mtime_ns

    def take(self, file: str) -> bool:
        """Return whether there is such a file there, and remove it."""
        with named(self.uri):
            there = self.store.find(file) is not None
            if there:
                self.store.delete(file)
        return there

    def push(self, *names: str) -> None:
        """Send what has changed here since both were equal, of the named files and folders; "": all."""
        self._send([path for name in names for path in [self.path / name, *(self.path / name).rglob("*")]])

    def push_own(self) -> None:
        """Send what has changed here of the files that lie in the folder itself, but not of those below."""
        self._send(list(self.path.glob("*")))

    def _send(self, paths: Sequence[Path]) -> None:
        here = {str(path.relative_to(self.path)): path for path in paths if path.is_file()}
        changed = {file: path for file, path in here.items() if not _is_hidden(file) and self._changed(file, path)}
        if not changed:
            return
        self.may_write()
        with named(self.uri):
            for file, path in changed.items():
                try:
                    state = _state(path)
                    self._known[file] = state, self.store.send(path, file).tag
                except FileNotFoundError:  # removed here by another process since it was listed
                    if path.exists():
                        raise
        write_json(self.path / KNOWN, self._known)

    def _changed(self, file: str, path: Path) -> bool:
        try:
            return file not in self._known or self._known[file][0] != _state(path)
        except FileNotFoundError:
            return False

    def remove(self, folder: str, patterns: Sequence[str]) -> None:
        """Remove there what was removed here: the files and folders in a folder whose names fit one of the patterns."""
        with named(self.uri):
            top = len(Path(folder).parts)
            gone = [file for file in self._there(folder) if _fits(Path(file).parts[top], patterns)]
            if gone:
                self.may_write()
            for file in gone:
                self.store.delete(file)
                self._known.pop(file, None)

    def remove_replaced(self, folder: str) -> None:
        """Remove there what was equal once in a folder that this process has written anew without it."""
        gone = [file for file in self._known if file.startswith(f"{folder}/") and not (self.path / file).exists()]
        self.may_write()
        with named(self.uri):
            for file in gone:
                self.store.delete(file)
                del self._known[file]
        write_json(self.path / KNOWN, self._known)

    def _there(self, name: str = "") -> dict[str, Entry]:
        """Return the files of a folder there, by their path in the mirror."""
        return _checked(self.store.files(name), self.uri)


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def check_writable(uri: str) -> None:
    """Write a small file at a URI and remove it; raises StorageError where that is refused."""
    name = f".lymphtune-{uuid.uuid4().hex[:12]}"
    with named(uri):
        store = opened(uri)
        store.write(name, b"written by lymphtune to see whether it can be\n")
        store.delete(name)


@contextmanager
def named(uri: str) -> Iterator[None]:
    """Say of what another machine's filesystem refuses where that was."""
    try:
        yield
    except (OSError, ValueError, ImportError, NotImplementedError) as error:
        why = shortened(masked(str(error)))
        raise StorageError(f"{masked(uri)}: cannot be read or written ({why}); name another --runs") from error


def _checked(there: dict[str, Entry], uri: str) -> dict[str, Entry]:
    """Return the files but hidden ones; raises InputError where one has a name that leads out of the folder."""
    for file in there:
        if ".." in PurePosixPath(file).parts or file.startswith("/") or "\0" in file:
            raise InputError(f"{masked(uri)}: {file[:100]!r} is no file below it; remove it there")
    return {file: entry for file, entry in there.items() if not _is_hidden(file)}


def _is_hidden(file: str) -> bool:
    """Return whether a file is none of a run's: a lock, or half-written."""
    return any(part.startswith(".") for part in PurePosixPath(file).parts)


def _state(path: Path) -> State:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _read_known(path: Path) -> dict[str, tuple[State, str]]:
    """Return what was known of the files when the folder was last mirrored; {} where that is not known."""
    try:
        found = read_json(path)
        return {str(file): ((int(size), int(changed)), str(tag)) for file, ((size, changed), tag) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
