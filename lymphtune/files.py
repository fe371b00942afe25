"""Files written whole or not at all, and YAML read safely."""

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from lymphtune.errors import InputError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`; it takes the name `path`, synced, if the block succeeds.

    Raises InputError where the folder cannot be written.
    """
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield scratch
        with scratch.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(scratch, path)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); name a folder that can") from error
    except OSError as error:
        if error.errno in (28, 30):  # no space left, read-only file system
            raise InputError(f"{path}: cannot be written ({error.strerror}); name a folder with room") from error
        raise
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it replaces `path` if the block succeeds."""
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        scratch.mkdir(parents=True)
        yield scratch
        if path.exists():
            old = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
            os.replace(path, old)
            os.replace(scratch, path)
            shutil.rmtree(old)
        else:
            os.replace(scratch, path)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); name a folder that can") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    with whole(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def write_yaml(path: Path, value: Any) -> None:
    write_text(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


class _Loader(yaml.SafeLoader):
    """YAML's safe subset, with 1e-3 read as a number (YAML 1.2) and a key given twice refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1 and isinstance(key, str):
                raise yaml.MarkedYAMLError(problem=f"'{key}' is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def read_yaml(path: Path) -> Any:
    """Return what the YAML file holds; raises InputError naming file and line where it is not YAML."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)  # a subclass of SafeLoader
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
    except RecursionError as error:
        raise InputError(f"{path}: nested too deeply") from error
