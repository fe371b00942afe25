"""Run a script as on Windows or macOS: python tests/as_on.py win32|darwin PACKAGES SCRIPT [ARGUMENT...].

PACKAGES, separated by commas, are imported before anything is hidden: other people's packages have builds of their own
for each system. `lymphtune` stands for all that its modules import. `os.name` stays, since pathlib would refuse to make
a path.
"""

import builtins
import importlib
import io
import os
import pkgutil
import runpy
import shutil  # noqa: F401  as those below, before anything is hidden
import signal
import socket
import subprocess  # noqa: F401
import sys
import tempfile  # noqa: F401
import time
from typing import Any

MODULES = {"win32": ["fcntl", "grp", "pwd", "readline", "resource", "syslog", "termios", "tty"], "darwin": []}
WITHOUT = """
    O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK WNOHANG chown chroot fork forkpty getegid geteuid getgid getgroups
    getloadavg getpgid getpgrp getpriority getresuid getsid getuid killpg lchown mkfifo nice openpty posix_fallocate
    posix_fadvise posix_spawn pread pwrite sched_getaffinity setpgid setpriority setsid setuid statvfs sync sysconf
    uname wait wait4 waitid
"""
OF_OS = {"win32": WITHOUT.split(), "darwin": ["posix_fallocate", "posix_fadvise", "sched_getaffinity", "memfd_create"]}
OF_SIGNAL = {"win32": ["SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD", "SIGPIPE", "alarm"]}
OF_TIME = {"win32": ["CLOCK_BOOTTIME", "CLOCK_MONOTONIC", "clock_gettime"], "darwin": ["CLOCK_BOOTTIME"]}
FOLDERS = {"win32": ("/proc", "/dev/", "/sys"), "darwin": ("/proc", "/dev/shm", "/sys")}


def hide(system: str) -> None:
    """Let Python have neither modules, functions, signals nor folders that the system lacks."""
    for name in MODULES[system]:
        sys.modules[name] = None  # type: ignore[assignment]
    for module, names in ((os, OF_OS), (signal, OF_SIGNAL), (time, OF_TIME), (socket, {"win32": ["AF_UNIX"]})):
        for name in names.get(system, []):
            if hasattr(module, name):
                delattr(module, name)
    _hide_folders(FOLDERS[system])
    sys.platform = system


def _hide_folders(folders: tuple[str, ...]) -> None:
    opened, linked = io.open, os.readlink

    def refuse(path: Any) -> None:
        if isinstance(path, str | os.PathLike) and str(path).startswith(folders) and "/dev/null" not in str(path):
            raise FileNotFoundError(2, "hidden by the test", str(path))

    def open_(path: Any, *more: Any, **options: Any) -> Any:
        refuse(path)
        return opened(path, *more, **options)

    def readlink(path: Any, *more: Any, **options: Any) -> Any:
        refuse(path)
        return linked(path, *more, **options)

    builtins.open = io.open = open_
    os.readlink = readlink


def import_all(package: str) -> None:
    """Import every module of the package."""
    folders = importlib.import_module(package).__path__
    for found in pkgutil.walk_packages(folders, f"{package}."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)


def forget(package: str) -> None:
    """Let the package's own modules be imported anew; what they imported from others stays."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


if __name__ == "__main__":
    system, packages, script = sys.argv[1:4]
    for package in packages.split(","):
        (import_all if package == "lymphtune" else importlib.import_module)(package)
    forget("lymphtune")
    hide(system)
    sys.argv = sys.argv[3:]
    runpy.run_path(script, run_name="__main__")
