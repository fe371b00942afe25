"""Append-only files of what has happened: one JSON line a fact, synced before anything is built on it.

A line carries the checksum of its content. Whatever follows the first line that is cut or damaged is not believed.
"""

import base64
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lymphtune.files import named_write_errors, write_text


class Ledger:
    """One file; appending to it first cuts off what an earlier writer left unfinished."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mended = False

    def append(self, fact: Mapping[str, Any]) -> None:
        """Write a fact of plain values down; it is on the disk when this returns. Raises InputError where it is not."""
        if not self._mended:
            self._mend()
        with named_write_errors(self.path), self.path.open("ab") as file:
            before = file.tell()
            try:
                file.write(_line(fact))
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), before)  # a full disk keeps no half of a line
                raise

    def read(self) -> list[dict[str, Any]]:
        """Return the facts, oldest first, up to the first damaged line."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        return list(_facts(content))

    def cut(self, facts: int) -> None:
        """Keep the first so many facts only."""
        write_text(self.path, b"".join(map(_line, self.read()[:facts])).decode())

    def _mend(self) -> None:
        with named_write_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size != sum(len(_line(fact)) for fact in self.read()):
            self.cut(len(self.read()))
        self._mended = True


def _line(fact: Mapping[str, Any]) -> bytes:
    text = json.dumps(fact, separators=(",", ":"))
    return f"{zlib.crc32(text.encode()):08x} {text}\n".encode()


def _facts(content: bytes) -> Iterator[dict[str, Any]]:
    for line in content.split(b"\n")[:-1]:  # the last one has no end
        checksum, _, text = line.partition(b" ")
        if checksum != b"%08x" % zlib.crc32(text):
            return
        yield json.loads(text)


def packed(array: np.ndarray) -> list[Any]:
    """Return an array of float64 as plain values, every bit kept."""
    return [list(array.shape), base64.b64encode(zlib.compress(array.astype(np.float64).tobytes(), 1)).decode()]


def unpacked(given: list[Any]) -> np.ndarray:
    shape, text = given
    return np.frombuffer(zlib.decompress(base64.b64decode(text))).reshape(shape).copy()
