"""Where a local Ray keeps its sockets, its token and what its object store spills."""

import atexit
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lymphtune import console
from lymphtune.errors import InputError
from lymphtune.platforms import longest_socket_path, supports_sockets

LONGEST_SOCKET = longest_socket_path() or 4096  # bytes; where Ray uses no sockets of this kind, any path will do
IN_A_SESSION = len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
PREFIX, RANDOM, SESSIONS = "lt-", 8, "r"  # RANDOM: letters that mkdtemp appends
LONGEST_PARENT = LONGEST_SOCKET - IN_A_SESSION - len(f"/{PREFIX}/{SESSIONS}") - RANDOM  # bytes
LOOPBACK = "127.0.0.1"
ENDED_WITHIN_S = 10.0  # Ray's processes, once they were told to; much sooner unless Ray was still starting
AUTH = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@dataclass(frozen=True)
class Folders:
    """Private folders (0700) of one local Ray."""

    private: Path  # short; holds the token and `sessions`, which Ray itself opens to everybody
    spill: Path | None  # for objects that do not fit into memory; None: inside `sessions`

    @property
    def sessions(self) -> Path:
        return self.private / SESSIONS

    @property
    def token(self) -> Path:
        return self.private / "token"


def check_local_ray() -> None:
    """Raise InputError where no local Ray can start here: no folder for its sockets, or no IPv4 loopback."""
    check_loopback()
    parent = socket_parent()
    if parent != Path(tempfile.gettempdir()):
        console.say(
            f"Ray's sockets go to {parent}: {tempfile.gettempdir()} is longer than the {LONGEST_PARENT} bytes that "
            "leave room for their paths; everything else stays there."
        )


def check_loopback() -> None:
    """Raise InputError where 127.0.0.1 cannot be listened on, as on a machine with IPv6 alone."""
    try:
        with socket.socket(socket.AF_INET) as server:
            server.bind((LOOPBACK, 0))
            server.listen()
            with socket.create_connection(server.getsockname(), timeout=5):
                pass
    except OSError as error:
        raise InputError(
            f"{LOOPBACK}: a local Ray cannot listen there ({error.strerror or error}); it needs the IPv4 loopback "
            f"address (`ip link set lo up; ip address add {LOOPBACK}/8 dev lo`), or name a cluster with --address"
        ) from error


def socket_parent() -> Path:
    """Return the first writable folder that is short enough for Ray's sockets, the temporary folder before others.

    Raises InputError where there is none.
    """
    wanted = [tempfile.gettempdir(), "/tmp", "/var/tmp", os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"]
    tried = list(dict.fromkeys(folder for folder in wanted if folder))
    for folder in tried:
        if len(os.fsencode(folder)) <= LONGEST_PARENT and supports_sockets(Path(folder), PREFIX):
            return Path(folder)
    raise InputError(
        f"TMPDIR {tried[0]}: Ray's sockets need a writable folder with a path of at most {LONGEST_PARENT} bytes, and "
        f"neither this nor {', '.join(tried[1:])} is one; set TMPDIR to one that is"
    )


@contextmanager
def local_folders() -> Iterator[Folders]:
    """Yield the folders of a local Ray, removed after the block."""
    parent = socket_parent()
    folders = Folders(
        Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)),
        None if parent == Path(tempfile.gettempdir()) else Path(tempfile.mkdtemp(prefix="lymphtune-spill-")),
    )
    made = [folder for folder in (folders.private, folders.spill) if folder is not None]
    for folder in made:  # again at exit: a Ray whose start was interrupted writes there until its own exit handler
        atexit.register(_remove, folder)
    try:
        yield folders
    finally:
        for folder in made:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove the folder, which Ray's processes may write in until they have ended."""
    deadline = time.monotonic() + ENDED_WITHIN_S
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


@contextmanager
def own_token(path: Path) -> Iterator[None]:
    """Let the Ray that starts in the block ask for a new token, written to `path` (0600) and nowhere else.

    Without it Ray leaves one in ~/.ray, which turns tokens on in every Ray that is started later. A RAY_AUTH_MODE of
    `disabled` stays as it is.
    """
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        yield
        return
    before = {name: os.environ.pop(name, None) for name in AUTH}
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}
    _read_settings_again()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        _read_settings_again()


def _read_settings_again() -> None:
    """Have this process's Ray look at RAY_AUTH_*: it has kept what stood there when it was imported."""
    from ray import _raylet

    compiled: Any = _raylet  # without types
    compiled.Config.initialize("")
    compiled.AuthenticationTokenLoader.instance().reset_cache()
