"""On systems that lack what Linux has: every module is imported, locks lock, and numbers keep their units."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lymphtune import files, platforms
from lymphtune.errors import InputError

AS_ON = Path(__file__).parent / "as_on.py"
ROOT = AS_ON.parents[1]
LIGHT = "lymphtune.files,lymphtune.cli,lymphtune.cli.search"
UNDER_LIGHT = "yaml"
# Windows' locks belong to an open file, as Linux's F_OFD_* do; they are asked for at the file's position
MSVCRT = """
    import fcntl, os, struct, sys, types

    def locking(file, mode, count):
        reads = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        kind = fcntl.F_UNLCK if mode == 0 else fcntl.F_RDLCK if reads else fcntl.F_WRLCK
        lock = struct.pack("hhqqi4x", kind, os.SEEK_SET, os.lseek(file, 0, os.SEEK_CUR), count, 0)
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
        except BlockingIOError as error:
            raise PermissionError(13, "Permission denied") from error

    windows = types.SimpleNamespace(locking=locking, LK_NBLCK=2, LK_UNLCK=0)
"""
HIDE = f"""
    sys.path.insert(0, {str(AS_ON.parent)!r})
    import as_on
    as_on.hide(SYSTEM)
"""


def as_on(system: str, script: Path | str, *arguments: str, packages: str) -> subprocess.CompletedProcess[str]:
    """Run a script as on another system."""
    command = [sys.executable, str(AS_ON), system, packages, str(script), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=550, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )


def python(code: str, system: str = "linux", before: str = "") -> str:
    """Run code where the modules and functions that the system lacks are hidden, and return what it prints."""
    hidden = textwrap.dedent(HIDE).replace("SYSTEM", repr(system)) if system != "linux" else ""
    fake = "sys.modules['msvcrt'] = windows\n" if before else ""
    text = "import sys\n" + textwrap.dedent(before) + hidden + fake + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        timeout=250,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_help_is_printed(system: str, tmp_path: Path) -> None:
    script = tmp_path / "help.py"
    script.write_text(
        f"import importlib\nfor name in {LIGHT.split(',')}: importlib.import_module(name)\n"
        "from lymphtune.cli import main\nmain()\n"
    )
    done = as_on(system, script, "--help", packages=UNDER_LIGHT)
    assert done.returncode == 0, done.stderr
    assert "search" in done.stdout


EVERY_MODULE = """
import sys
import as_on
as_on.import_all("lymphtune")
assert "lymphtune.cluster.runner" in sys.modules
from lymphtune.cli import main
cohort = sys.argv[1]
print("drawn", main(["simulate", cohort, "--patients", "12"]))
print("examined", main(["doctor", "--data", cohort]))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_every_module_is_imported_and_a_cohort_is_drawn_and_examined(system: str, tmp_path: Path) -> None:
    script = tmp_path / "all.py"
    script.write_text(EVERY_MODULE)
    done = as_on(system, script, str(tmp_path / "cohort"), packages="lymphtune")
    assert done.returncode == 0, done.stderr
    assert "drawn 0" in done.stdout or "drawn None" in done.stdout, done.stdout + done.stderr
    examined = done.stdout.partition("examined ")[2].strip()
    assert examined in ("None", "0", "3"), done.stdout + done.stderr  # 3: warnings, as of few patients


LOCKS = """
    from pathlib import Path
    from lymphtune.errors import InputError
    from lymphtune.files import exclusive_lock, is_locked, locked

    path = Path(PATH)
    print(is_locked(path))
    with exclusive_lock(path, {"pid": 7}):
        print(is_locked(path), path.read_text().strip())
        try:
            with exclusive_lock(path, {"pid": 8}):
                print("both")
        except InputError as error:
            print(str(error).partition("process ")[2])
    print(is_locked(path))
    with exclusive_lock(path, {"pid": 9}), locked(path.with_name("other")):
        print(path.read_text().strip())
"""


@pytest.mark.parametrize(("system", "before"), [("linux", ""), ("darwin", ""), ("win32", MSVCRT)])
def test_a_lock_is_held_by_one(system: str, before: str, tmp_path: Path) -> None:
    found = python(LOCKS.replace("PATH", repr(str(tmp_path / "driver.lock"))), system, before)
    assert found.splitlines() == [
        "False",
        'True {"pid": 7}',
        '({"pid": 7}); wait for it or stop it',
        "False",
        '{"pid": 9}',
    ]


def test_on_windows_a_lock_that_is_waited_for_is_got(tmp_path: Path) -> None:
    code = f"""
        import threading, time
        from pathlib import Path
        from lymphtune.files import locked

        path, order = Path({str(tmp_path / "lock")!r}), []
        def second():
            with locked(path):
                order.append("second")
        with locked(path):
            thread = threading.Thread(target=second)
            thread.start()
            time.sleep(0.2)
            order.append("first")
        thread.join(60)
        print(order)
    """
    assert python(code, "win32", MSVCRT).strip() == "['first', 'second']"


def test_peak_memory_is_bytes_on_every_system(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda who: SimpleNamespace(ru_maxrss=2_000_000))
    monkeypatch.setitem(sys.modules, "resource", usage)
    assert platforms.peak_memory_bytes() == 2_000_000 * 1024  # Linux tells kilobytes
    monkeypatch.setattr(sys, "platform", "darwin")
    assert platforms.peak_memory_bytes() == 2_000_000


def test_peak_memory_of_this_process_is_what_the_system_says() -> None:
    kilobytes = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    assert platforms.peak_memory_bytes() == pytest.approx(int(kilobytes.split()[1]) * 1024, rel=0.2)


class _Kernel32:
    """What Windows answers: `processes` by number, an exit code each."""

    def __init__(self, processes: dict[int, int], peak_bytes: int = 0) -> None:
        self.processes, self.peak_bytes, self.closed = processes, peak_bytes, list[int]()
        self.OpenProcess: Any = lambda rights, inherit, pid: pid if pid in processes else None
        self.GetCurrentProcess: Any = lambda: 1

    def GetExitCodeProcess(self, process: ctypes.c_void_p, code: Any) -> bool:
        code._obj.value = self.processes[process.value or 0]
        return True

    def CloseHandle(self, process: ctypes.c_void_p) -> None:
        self.closed.append(process.value or 0)

    def K32GetProcessMemoryInfo(self, process: ctypes.c_void_p, counters: Any, size: int) -> bool:
        assert size == counters._obj.size == 72  # of PROCESS_MEMORY_COUNTERS, 64 bits
        counters._obj.peak_resident = self.peak_bytes
        return True


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Callable[..., _Kernel32]:
    def make(error: int = 0, **facts: Any) -> _Kernel32:
        kernel = _Kernel32(**facts)
        monkeypatch.setattr(sys, "platform", "win32")
        monkeypatch.setattr(ctypes, "WinDLL", lambda name, use_last_error: kernel, raising=False)
        monkeypatch.setattr(ctypes, "get_last_error", lambda: error, raising=False)
        return kernel

    return make


def test_on_windows_a_process_is_asked_for_without_a_signal(
    windows: Callable[..., _Kernel32], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(pid: int, number: int) -> None:
        raise AssertionError("os.kill(pid, 0) is Ctrl-C on Windows")

    monkeypatch.setattr(os, "kill", fail)
    kernel = windows(error=87, processes={5: 259, 6: 1})
    assert platforms.is_alive(5)
    assert not platforms.is_alive(6) and not platforms.is_alive(7)
    assert kernel.closed == [5, 6]
    windows(error=5, processes={})  # not ours to ask
    assert platforms.is_alive(7)


def test_on_windows_peak_memory_is_asked_of_the_kernel(windows: Callable[..., _Kernel32]) -> None:
    windows(processes={}, peak_bytes=123_456_789)
    assert platforms.peak_memory_bytes() == 123_456_789


def test_a_process_of_this_machine_is_alive_until_it_has_ended() -> None:
    assert platforms.is_alive(os.getpid())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(60)
    assert not platforms.is_alive(ended.pid)


def test_signals_that_end_a_process_are_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert platforms.termination_signals() == (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    monkeypatch.delattr(signal, "SIGHUP")
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    assert platforms.termination_signals() == (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def test_others_may_read_a_file_only_where_its_mode_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert platforms.readable_by_others(0o100644) and not platforms.readable_by_others(0o100600)
    monkeypatch.setattr(sys, "platform", "win32")
    assert not platforms.readable_by_others(0o100666)  # of every file there


def test_a_file_is_copied_where_it_cannot_be_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("weights")
    platforms.link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a").samefile(tmp_path / "b")
    monkeypatch.delattr(os, "link")
    platforms.link_or_copy(tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "c").read_text() == "weights" and not (tmp_path / "a").samefile(tmp_path / "c")


def test_text_ends_its_lines_alike_on_every_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = dict[str, Any]()

    def note(path: Path, text: str, **options: Any) -> None:
        given.update(options)
        path.write_bytes(text.encode())

    monkeypatch.setattr(Path, "write_text", note)
    files.write_text(tmp_path / "a.txt", "one\ntwo\n")
    assert given == {"encoding": "utf-8", "newline": "\n"}  # Windows writes \r\n otherwise


def test_on_windows_a_file_is_opened_to_write_for_its_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse_read_only(file: int) -> None:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(9, "Bad file descriptor")  # as there

    monkeypatch.setattr(os, "fsync", refuse_read_only)
    monkeypatch.setattr(sys, "platform", "win32")
    files.write_text(tmp_path / "a.txt", "one")
    assert (tmp_path / "a.txt").read_text() == "one"


def test_a_lock_held_elsewhere_names_its_holder(tmp_path: Path) -> None:
    with (
        files.exclusive_lock(tmp_path / "lock", {"pid": 7}),
        pytest.raises(InputError, match="held by another process"),
        files.exclusive_lock(tmp_path / "lock", {"pid": 8}),
    ):
        pass
    assert json.loads((tmp_path / "lock").read_text()) == {"pid": 7}
