"""A folder here and its copy on any filesystem that pyarrow knows (s3://, gs://): pulled and pushed by file."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from lymphtune.errors import InputError, shortened
from lymphtune.files import whole
from lymphtune.masking import masked


def is_uri(place: object) -> bool:
    return "://" in str(place)


class Mirror:
    """`uri` holds what `path` holds; what was pushed once is pushed again only when it has changed."""

    def __init__(self, uri: str, path: Path) -> None:
        import pyarrow.fs

        self.uri, self.path = uri.rstrip("/"), path
        self._pushed: dict[str, tuple[int, int]] = {}
        with self._named():
            self._fs, self._base = pyarrow.fs.FileSystem.from_uri(self.uri)

    def pull(self, name: str = "", only: str = "") -> None:
        """Bring a folder here, all files of it or those of one name; what is newer here stays."""
        with self._named():
            for file, info in self._there(name).items():
                local = self.path / file
                newer = local.exists() and local.stat().st_mtime_ns >= info.mtime_ns
                if newer or (only and Path(file).name != only):
                    continue
                with whole(local) as scratch, self._fs.open_input_stream(info.path) as source, scratch.open("wb") as to:
                    shutil.copyfileobj(source, to)
                os.utime(local, ns=(info.mtime_ns, info.mtime_ns))
                self._pushed[file] = _state(local)

    def take(self, file: str) -> bool:
        """Return whether there is such a file there, and remove it."""
        with self._named():
            there = self._fs.get_file_info(f"{self._base}/{file}").is_file
            if there:
                self._fs.delete_file(f"{self._base}/{file}")
        return bool(there)

    def push(self, name: str = "", deep: bool = True) -> None:
        """Make a folder there what it is here: changed files are written, those gone here are deleted.

        deep: with the folders in it; else its own files alone, and nothing is deleted.
        """
        folder = self.path / name
        here = {path for path in (folder.rglob("*") if deep else folder.glob("*")) if path.is_file()}
        files = {str(path.relative_to(self.path)): path for path in here if not path.name.startswith(".")}
        with self._named():
            for file, path in files.items():
                if self._pushed.get(file) != (state := _state(path)):
                    target = f"{self._base}/{file}"
                    self._fs.create_dir(target.rpartition("/")[0], recursive=True)
                    with path.open("rb") as source, self._fs.open_output_stream(target) as to:
                        shutil.copyfileobj(source, to)
                    self._pushed[file] = state
            for gone in set(self._there(name)) - set(files) if deep else ():
                self._fs.delete_file(f"{self._base}/{gone}")
                self._pushed.pop(gone, None)

    def _there(self, name: str) -> dict[str, Any]:
        """Return the files of a folder there, by their path in the mirror."""
        import pyarrow.fs

        place = f"{self._base}/{name}".rstrip("/")
        found = self._fs.get_file_info(pyarrow.fs.FileSelector(place, recursive=True, allow_not_found=True))
        files = [info for info in found if info.type == pyarrow.fs.FileType.File]
        named = {info.path[len(self._base) :].lstrip("/"): info for info in files}
        if strange := [file for file in named if ".." in PurePosixPath(file).parts or "\0" in file]:
            raise InputError(f"{masked(self.uri)}: {strange[0][:100]!r} is no file below it; remove it there")
        return named

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say of what another machine's filesystem refuses where that was."""
        try:
            yield
        except (OSError, ValueError) as error:
            why = shortened(masked(str(error)))
            raise InputError(f"{masked(self.uri)}: cannot be read or written ({why}); name another --runs") from error


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
