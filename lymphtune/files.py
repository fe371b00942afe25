"""Atomic writes of files and folders, file locks, and safe reading of YAML."""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lymphtune.errors import InputError
from lymphtune.platforms import file_lock, sync
from lymphtune.scratch import scratch_path

RUNS = Path("runs")  # the folder of all runs unless another is named
MAX_YAML_BYTES = 4 * 2**20
# values of one YAML file, with aliases expanded
MAX_YAML_NODES = 100_000
# nesting of mappings and lists
MAX_YAML_DEPTH = 60
# characters; the time to parse a number like 1:30:00 grows with the square of its length
MAX_NUMBER_LENGTH = 400
# first characters of a formula; the last four are the full-width forms of = + - @
FORMULA_STARTS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
# stricter than float(), which accepts 1_000 and nan
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10))}
NUMBER_TAGS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}

if TYPE_CHECKING:
    import pandas as pd


class DiskFullError(InputError):
    """The disk is full or no longer writable. Files on it are intact; the work can be resumed once there is space."""


DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EROFS, errno.EDQUOT}


@contextmanager
def named_write_errors(path: Path) -> Iterator[None]:
    """Turn write errors into an InputError that names `path`; a full disk into DiskFullError."""
    try:
        yield
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); name a writable folder") from error
    except OSError as error:
        if error.errno in DISK_FULL_ERRNOS:
            cure = "that can be written" if error.errno == errno.EROFS else "on a disk with free space"
            raise DiskFullError(f"{path}: cannot be written ({error.strerror}); name a folder {cure}") from error
        raise


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`, which is synced and renamed to `path` if the block succeeds.

    Raises InputError if the folder cannot be written.
    """
    scratch = scratch_path(path)
    with named_write_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield scratch
            sync(scratch)
            os.replace(scratch, path)
        finally:
            # inside named_write_errors: this fails too if a parent of `path` is a file
            scratch.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file, or a folder with its contents; do nothing if it does not exist.

    Raises InputError if the folder cannot be written (DiskFullError on a read-only disk).
    """
    with named_write_errors(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.is_symlink() or path.exists():
            # checked first: on a read-only disk, unlinking a missing file fails as well
            path.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file's lock during the block; other processes of this host wait for it."""
    with named_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w", encoding="utf-8")
    with file, file_lock(file, wait=True):
        yield


@contextmanager
def exclusive_lock(path: Path, who: Mapping[str, Any]) -> Iterator[None]:
    """Hold the file's lock during the block and write `who` into it; raises InputError if another process holds it."""
    with named_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    with file, ExitStack() as lock:
        try:
            lock.enter_context(file_lock(file, wait=False))
        except BlockingIOError as error:
            file.seek(0)
            raise InputError(
                f"{path}: held by another process ({file.read().strip()}); wait for it or stop it"
            ) from error
        with named_write_errors(path):
            file.truncate(0)
            file.write(json.dumps(who) + "\n")
            file.flush()
        yield


def is_locked(path: Path) -> bool:
    """Whether a process holds the file's lock."""
    if not path.is_file():
        # opening a pipe would block
        return False
    try:
        with path.open(encoding="utf-8") as file, file_lock(file, wait=False, shared=True):
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it replaces `path` if the block succeeds, else it is removed."""
    scratch = scratch_path(path)
    is_new = not path.parent.exists()
    try:
        with named_write_errors(path):
            scratch.mkdir(parents=True)
            yield scratch
            if path.exists():
                _replace_folder(path, scratch)
            else:
                os.replace(scratch, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if is_new:
            with suppress(OSError):
                # rmdir fails if the folder is not empty
                path.parent.rmdir()


def _replace_folder(path: Path, new: Path) -> None:
    """Replace a folder by a new one; the old one is restored if that fails."""
    old = scratch_path(path)
    old = old.with_name(f"{old.name}.old")
    os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        os.replace(old, path)
        raise
    shutil.rmtree(old)


def sha256(path: Path) -> str:
    """SHA-256 of the file's content, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file in the folder, by name; {} if the folder does not exist."""
    return {path.name: sha256(path) for path in sorted(folder.iterdir())} if folder.is_dir() else {}


def write_text(path: Path, text: str) -> None:
    with atomic_file(path) as scratch:
        # newline: the same bytes on every operating system
        scratch.write_text(text, encoding="utf-8", newline="\n")


def write_yaml(path: Path, value: Any) -> None:
    write_text(path, yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


class _Loader(yaml.SafeLoader):
    """Loader of YAML's safe subset that reads 1e-3 as a number (YAML 1.2).

    Rejects, with the line: duplicate keys, recursive aliases, more than MAX_YAML_NODES values (aliases expanded),
    nesting deeper than MAX_YAML_DEPTH, numbers longer than MAX_NUMBER_LENGTH, and invalid values of a type
    (2020-13-45).
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        # number of nodes in each finished node, with aliases expanded
        self._sizes: dict[yaml.Node, int] = {}
        self._depth = self._begun = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        mark, alias = self.peek_event().start_mark, self.check_event(yaml.AliasEvent)
        self._depth += 1
        self._begun += 1
        if self._depth > MAX_YAML_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {MAX_YAML_DEPTH} levels", problem_mark=mark)
        if self._begun > MAX_YAML_NODES:
            raise yaml.MarkedYAMLError(problem=f"more than {MAX_YAML_NODES} values", problem_mark=mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None and node not in self._sizes:
            if alias:
                raise yaml.MarkedYAMLError(problem="an alias inside what it names", problem_mark=mark)
            self._sizes[node] = 1 + sum(self._sizes[child] for child in _children(node))
            if self._sizes[node] > MAX_YAML_NODES:
                raise yaml.MarkedYAMLError(problem=f"more than {MAX_YAML_NODES} values", problem_mark=mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"'{key.value}' is given twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag in NUMBER_TAGS and isinstance(node, yaml.ScalarNode) and len(node.value) > MAX_NUMBER_LENGTH:
            raise yaml.MarkedYAMLError(
                problem=f"a number of {len(node.value)} characters", problem_mark=node.start_mark
            )
        try:
            value = super().construct_object(node, deep)
        except (ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
            kind = node.tag.rpartition(":")[2]
            problem = f"no {kind}: {node.value[:40]!r}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error
        if isinstance(value, int) and abs(value) >= 2**63:
            raise yaml.MarkedYAMLError(problem="a whole number beyond 64 bits", problem_mark=node.start_mark)
        return value


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


class _Dumper(yaml.SafeDumper):
    """Dumper that quotes strings which `_Loader` would read as numbers, such as the hash 12e4567."""


_Dumper.add_multi_representer(dict, yaml.SafeDumper.represent_dict)

for _yaml_class in (_Loader, _Dumper):
    _yaml_class.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
    )


def write_csv(path: Path, table: "pd.DataFrame", float_format: str | None = None) -> None:
    """Write a csv table atomically; texts that a spreadsheet would run as a formula get a leading apostrophe."""
    safe = table.set_axis([escape_formula(str(name)) for name in table.columns], axis=1)
    for place in range(table.shape[1]):
        values = table.iloc[:, place]
        if values.dtype.kind not in "biuf":
            safe.isetitem(place, [escape_formula(value) if isinstance(value, str) else value for value in values])
    with atomic_file(path) as scratch:
        safe.to_csv(scratch, index=False, float_format=float_format, lineterminator="\n")


def is_formula(text: str) -> bool:
    """Whether a spreadsheet would run the text as a formula; numbers such as -1 are not formulas."""
    return text.startswith(FORMULA_STARTS) and not NUMBER.fullmatch(text)


def escape_formula(text: str) -> str:
    """The text as a safe csv cell: formulas get a leading apostrophe, carriage returns become spaces."""
    return ("'" if is_formula(text) else "") + text.replace("\r", " ")


def name_problem(name: str) -> str | None:
    """Why a name is not portable as a file, folder or table row; None if it is."""
    if name.endswith("."):
        return "ends with a dot"
    if name.partition(".")[0].rstrip().upper() in RESERVED:
        return "is a device on Windows"
    if is_formula(name):
        return "begins as a formula does, which a spreadsheet would run"
    return None


def write_table(path: Path, table: "pd.DataFrame", about: Mapping[str, Any]) -> None:
    """Write a Parquet table with `about` (cohort name, whether it is simulated) in its metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.replace_schema_metadata(dict(arrow.schema.metadata or {}) | {k: str(v) for k, v in about.items()})
    with atomic_file(path) as scratch:
        pq.write_table(arrow, scratch)


def read_json(path: Path) -> Any:
    """Parse a small JSON file; raises OSError or ValueError if it cannot be read or is not JSON."""
    if not path.is_file() or path.stat().st_size > MAX_YAML_BYTES:
        # opening a pipe would block
        raise FileNotFoundError(path)
    return json.loads(path.read_text(encoding="utf-8"))


def read_yaml(path: Path) -> Any:
    """Parse a YAML file; raises InputError with file and line if it is not YAML or too large."""
    try:
        if path.exists() and not path.is_file():
            # opening a pipe would block
            raise InputError(f"{path}: not a file; expected a YAML file")
        with path.open("rb") as file:
            data = file.read(MAX_YAML_BYTES + 1)
        if len(data) > MAX_YAML_BYTES:
            raise InputError(f"{path}: over {MAX_YAML_BYTES // 2**20} MB; expected a YAML file of a few pages")
        # _Loader is a subclass of SafeLoader
        return yaml.load(data.decode("utf-8-sig"), _Loader)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file in UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{where}: not YAML ({getattr(error, 'problem', None) or error})") from error
