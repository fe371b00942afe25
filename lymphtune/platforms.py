"""Functions that differ between Linux, macOS and Windows: locks, processes, signals, memory.

Modules that exist on one system only are imported inside the functions that need them. `mypy --platform win32` and
`--platform darwin` check the whole package.
"""

import ctypes
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

# Windows locks this byte of the file, far beyond its text, because locked bytes cannot be read
LOCK_OFFSET = 2**30
LOCK_POLL_S = 0.05
# on Windows, `is_locked` in another process holds the lock itself for a moment
LOCK_RETRY_S = 0.5
WINDOWS_QUERY, WINDOWS_STILL_ACTIVE, WINDOWS_NO_SUCH_PROCESS = 0x1000, 259, 87


@contextmanager
def file_lock(file: IO[str], wait: bool, shared: bool = False) -> Iterator[None]:
    """Hold the lock of an open file during the block.

    wait: wait for another process's lock; False raises BlockingIOError instead.
    shared: a shared lock, which other processes may share; on Windows the lock is always exclusive.
    """
    if sys.platform == "win32":
        with _windows_lock(file.fileno(), float("inf") if wait else 0.0 if shared else LOCK_RETRY_S):
            yield
        return
    import fcntl

    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def _windows_lock(file: int, timeout_s: float) -> Iterator[None]:
    import msvcrt

    # through vars: the functions have no type stubs on other systems
    locking: Any = vars(msvcrt)
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            _change_lock(file, locking["locking"], locking["LK_NBLCK"])
            break
        except OSError as error:
            if time.monotonic() >= deadline:
                raise BlockingIOError(*error.args) from error
        time.sleep(LOCK_POLL_S)
    try:
        yield
    finally:
        _change_lock(file, locking["locking"], locking["LK_UNLCK"])


def _change_lock(file: int, locking: Any, mode: int) -> None:
    """Lock or unlock one byte at LOCK_OFFSET and restore the file position."""
    before = os.lseek(file, 0, os.SEEK_CUR)
    os.lseek(file, LOCK_OFFSET, os.SEEK_SET)
    try:
        locking(file, mode, 1)
    finally:
        os.lseek(file, before, os.SEEK_SET)


def sync(path: Path) -> None:
    """Flush the file to disk (fsync); Windows needs it opened for writing."""
    with path.open("rb+" if sys.platform == "win32" else "rb") as written:
        os.fsync(written.fileno())


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link the file, or copy it if the file system has no hard links or the target is on another one."""
    try:
        os.link(source, target)
    except (OSError, AttributeError):
        shutil.copyfile(source, target)


def readable_by_others(mode: int) -> bool:
    """Whether `st_mode` lets other users access the file; always False on Windows, which uses access lists."""
    return sys.platform != "win32" and bool(mode & 0o077)


def machine_id() -> str:
    """An identifier of the machine or container within which process ids are unique."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def user() -> str:
    """The user's name, or the user id if there is no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        if sys.platform == "win32":
            return "unknown"
        return str(os.getuid())


def is_alive(pid: Any) -> bool:
    """Whether a process with this id runs on this machine; True if that cannot be determined."""
    if not isinstance(pid, int) or isinstance(pid, bool) or not 0 < pid < 2**31:
        return True
    if sys.platform == "win32":
        # os.kill(pid, 0) would send Ctrl-C there
        return _windows_is_alive(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _kernel32() -> Any:
    return vars(ctypes)["WinDLL"]("kernel32", use_last_error=True)


def _windows_is_alive(pid: int) -> bool:
    kernel, code = _kernel32(), ctypes.c_ulong()
    kernel.OpenProcess.restype = ctypes.c_void_p
    process = kernel.OpenProcess(WINDOWS_QUERY, False, pid)
    if not process:
        return bool(vars(ctypes)["get_last_error"]() != WINDOWS_NO_SUCH_PROCESS)
    handle = ctypes.c_void_p(process)
    found = kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return not found or code.value == WINDOWS_STILL_ACTIVE


def start_ticks(pid: int) -> int:
    """Start time of a process of this machine, in clock ticks since boot; 0 if unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return int(fields[19])
    except (OSError, ValueError, IndexError):
        return 0


def process_age_s() -> float | None:
    """Seconds since this process started; None if the system does not report it."""
    started = start_ticks(os.getpid())
    if sys.platform != "linux" or not started:
        return None
    with suppress(OSError, ValueError, AttributeError):
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    return None


def termination_signals() -> tuple[signal.Signals, ...]:
    """The signals by which a terminal, a batch system or a user ends a process."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


def led_process_groups(pids: list[int]) -> list[int]:
    """Those of the processes that lead a process group; none on Windows, which has no process groups."""
    if sys.platform == "win32":
        return []
    return [pid for pid in pids if os.getpgid(pid) == pid]


def kill_groups(groups: list[int]) -> None:
    """Kill every process of the groups; groups that have ended are ignored."""
    if sys.platform != "win32":
        for group in groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


def start_in_background(command: list[str], nice: int, env: dict[str, str]) -> subprocess.Popen[str]:
    """Start a process of lower priority that ignores the terminal's Ctrl-C; only its stderr can be read."""
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    if sys.platform == "win32":
        apart = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.BELOW_NORMAL_PRIORITY_CLASS
        return subprocess.Popen(
            [*command], stdin=null, stdout=null, stderr=pipe, text=True, env=env, creationflags=apart
        )
    return subprocess.Popen(
        ["nice", "-n", str(nice), *command],
        stdin=null,
        stdout=null,
        stderr=pipe,
        text=True,
        env=env,
        start_new_session=True,
    )


def processor() -> str:
    """The processor's model name, "" if the system does not report it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def usable_cpus() -> int:
    """Number of CPUs that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_memory_bytes() -> int:
    """Peak resident memory of this process in bytes; 0 if the system does not report it."""
    if sys.platform == "win32":
        return _windows_peak_bytes()
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class _MemoryCounters(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS of psapi.h."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("page_faults", ctypes.c_uint32),
        ("peak_resident", ctypes.c_size_t),
        *((f"other_{number}", ctypes.c_size_t) for number in range(7)),
    )


def _windows_peak_bytes() -> int:
    kernel, counters = _kernel32(), _MemoryCounters()
    counters.size = ctypes.sizeof(counters)
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(kernel.GetCurrentProcess())
    found = kernel.K32GetProcessMemoryInfo(process, ctypes.byref(counters), counters.size)
    return counters.peak_resident if found else 0


def longest_socket_path() -> int | None:
    """Maximum length in bytes of a Unix socket's path, without its NUL; None on Windows, where Ray uses no sockets."""
    return {"linux": 107, "win32": None}.get(sys.platform, 103)


def supports_sockets(folder: Path, prefix: str) -> bool:
    """Whether a Unix socket can be created in a new folder there; some file systems do not support them."""
    try:
        with tempfile.TemporaryDirectory(prefix=prefix, dir=folder) as made:
            if sys.platform != "win32":
                with socket.socket(socket.AF_UNIX) as server:
                    server.bind(f"{made}/s")
    except OSError:
        return False
    return True
