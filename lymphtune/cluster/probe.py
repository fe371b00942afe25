"""What one node says of itself; sent to it by value, so that it needs nothing of ours there.

Nothing but the standard library is imported here, the node's own lymphtune only where the storage is not a folder.
"""

import hashlib
import importlib.util
import os
import platform
import shutil
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("ray", "torch", "timm", "numpy", "scikit-learn", "pandas", "safetensors")
OURS = "lymphtune"
SHIPPED = ("search_spaces", "ensembles")  # folders of YAML: in the package of a wheel, beside it in a checkout


def describe(temp_folder: str, storage: str | None) -> dict[str, Any]:
    """Return the node's versions, the hash of our source, whether tokens are on, and bytes free by folder."""
    folders = {"Ray's folder": temp_folder}
    if storage is not None and not is_uri(storage):
        folders["the storage"] = storage
    return {
        "versions": {"python": platform.python_version()} | {name: installed(name) for name in (*PACKAGES, OURS)},
        "source": source_hash(),
        "token": os.environ.get("RAY_AUTH_MODE", "").lower() == "token",
        "free": {name: free_bytes(folder) for name, folder in folders.items()},
    }


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def source_hash() -> str | None:
    """Return a hash of the package that would be imported here, None where there is none."""
    try:
        found = importlib.util.find_spec(OURS)
    except (ImportError, ValueError):
        return None
    if found is None or not found.origin:
        return None
    return hash_of_package(Path(found.origin).parent)


def hash_of_package(package: Path) -> str:
    """Return a hash over names and bytes of its modules and shipped YAML, the same for wheel and checkout."""
    files = [(path.relative_to(package).as_posix(), path) for path in package.rglob("*.py")]
    for folder in SHIPPED:
        inside = package / folder
        beside = inside if inside.is_dir() else package.parent / folder
        files += [(f"{folder}/{path.name}", path) for path in beside.glob("*.yaml")]
    total = hashlib.sha256()
    for name, path in sorted(files):
        total.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def free_bytes(folder: str) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def is_uri(storage: str) -> bool:
    return "://" in storage


def _opened(uri: str) -> Any:
    """Return the storage as the node's own lymphtune opens it."""
    from lymphtune.runs.storage import opened

    return opened(uri)


def write_token(storage: str, name: str, token: str) -> str | None:
    """Write a small file into the storage; return None, or why it could not be."""
    try:
        if is_uri(storage):
            _opened(storage).write(name, token.encode())
        else:
            with (Path(storage) / name).open("x", encoding="utf-8") as file:
                file.write(token)
                file.flush()
                os.fsync(file.fileno())
    except (OSError, ValueError, NotImplementedError, ImportError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def read_token(storage: str, name: str) -> str | None:
    """Return what the storage's small file holds, None where there is no such file."""
    try:
        if is_uri(storage):
            found = _opened(storage).read(name)
            return found[0].decode("utf-8", "replace") if found else None
        return (Path(storage) / name).read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError, NotImplementedError, ImportError):
        return None


def remove_token(storage: str, name: str) -> None:
    """Remove the small file where it can be seen from here."""
    try:
        if is_uri(storage):
            _opened(storage).delete(name)
        else:
            (Path(storage) / name).unlink(missing_ok=True)
    except (OSError, ValueError, NotImplementedError, ImportError):
        return


def gpus() -> list[dict[str, Any]] | None:
    """Return name and bytes of every GPU that torch sees here, None where torch is not installed."""
    try:
        import torch
    except ImportError:
        return None
    seen = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [{"name": one.name, "bytes": int(one.total_memory)} for one in seen]


def clock() -> float:
    """Return the node's seconds since 1970."""
    return time.time()
