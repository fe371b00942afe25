"""The lock of a run that lies at a URI: the storage itself keeps it, so that one search alone drives the run.

The lock is a small file, written only if it is as it was read (a conditional write). Its owner writes it anew every few
seconds. One that was not for EXPIRES_S, by the clock of the storage, belongs to a dead search and is taken over; so is
one of a process of this machine that has ended.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from lymphtune import console
from lymphtune.files import exclusive_lock
from lymphtune.masking import masked
from lymphtune.platforms import is_alive, machine_id, user
from lymphtune.runs.mirror import StorageError, named
from lymphtune.runs.storage import PATIENT_S, S3, opened

LOCK = ".driver.lock"
BEAT_EVERY_S = 10.0
EXPIRES_S = 90.0  # longer than a search waits for a storage that does not answer


class DriverLock:
    """The owner's side of the lock of the run at `uri`."""

    def __init__(self, uri: str, store: S3) -> None:
        self.uri, self.store = uri, store
        self.owner = {
            "id": uuid.uuid4().hex,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "machine": machine_id(),
            "user": user(),
            "since": datetime.now().isoformat(timespec="seconds"),
        }
        self.lost = ""  # to whom, once another search has taken the lock over
        self._tag: str | None = None
        self._over = threading.Event()

    def check(self) -> None:
        """Raise StorageError where another search has taken the lock over."""
        if self.lost:
            raise StorageError(
                f"{masked(self.uri)}: taken over by another search ({self.lost}); wait for it or stop it"
            )

    def acquire(self) -> None:
        """Take the lock; raises StorageError, which names owner and age, where a living search has it."""
        with named(self.uri):
            for _ in range(3):  # another search may be as quick
                found = self.store.read(LOCK)
                if found is not None:
                    self._check_free(*found)
                self._tag = self.store.write_if(LOCK, self._beat(), found[1].tag if found else None)
                if self._tag is not None or self._is_ours():
                    return
        raise StorageError(f"{masked(self.uri)}: another search takes its lock at this moment; try again")

    def _is_ours(self) -> bool:
        """Return whether the lock is ours after all: the answer to a write may be lost, and the write repeated."""
        found = self.store.read(LOCK)
        if found is None or _read(found[0]).get("id") != self.owner["id"]:
            return False
        self._tag = found[1].tag
        return True

    def _check_free(self, text: bytes, entry: Any) -> None:
        """Raise StorageError where the lock that was read belongs to a search that lives, as far as can be known."""
        owner = _read(text)
        if owner.get("released") or (owner.get("machine") == self.owner["machine"] and not is_alive(owner.get("pid"))):
            return
        age_s = (self._storage_time_ns() - entry.mtime_ns) / 1e9
        if age_s >= EXPIRES_S:
            console.say(f"{self.uri}: its last search ({_shown(owner)}) is silent for {age_s:.0f} s, taken for dead")
            return
        heard = f"heard of {max(age_s, 0):.0f} s ago"
        raise StorageError(
            f"{masked(self.uri)}: another search drives this run ({_shown(owner)}, {heard}); wait for it or stop it; "
            f"its lock expires after {EXPIRES_S:.0f} s of silence"
        )

    def _storage_time_ns(self) -> int:
        """Return the time by the clock of the storage, which also dates the lock."""
        name = f".lymphtune-clock-{uuid.uuid4().hex[:12]}"
        self.store.write(name, b"written by lymphtune to see what time it is\n")
        found = self.store.find(name)
        self.store.delete(name)
        return time.time_ns() if found is None else found.mtime_ns

    def _beat(self, **more: Any) -> bytes:
        return (json.dumps(self.owner | {"beat": time.time()} | more) + "\n").encode()

    def keep(self) -> None:
        """Write the lock anew every few seconds, until `release`; note where another search has taken it over."""
        while not self._over.wait(BEAT_EVERY_S):
            self.renew()

    def renew(self) -> None:
        """Write the lock anew, or note who has taken it over."""
        try:
            tag = self.store.write_if(LOCK, self._beat(), self._tag)
            if tag is not None:
                self._tag = tag
            elif not self._is_ours():
                found = self.store.read(LOCK)
                self.lost = _shown(_read(found[0])) if found else "unknown: the lock is gone"
                self._over.set()
        except OSError:  # the storage does not answer: the search's own writes will say so
            return

    def release(self) -> None:
        """Give the lock back, if it is still ours; a storage that does not answer lets it expire."""
        self._over.set()
        if not self.lost and self._tag is not None:
            try:
                self.store.write_if(LOCK, self._beat(released=True), self._tag)
            except OSError:
                return


@contextmanager
def only_driver(uri: str) -> Iterator[Callable[[], None]]:
    """Be the only search that drives the run at `uri`; yield what raises StorageError once it no longer is.

    Raises StorageError where another search drives it.
    """
    with named(uri):
        store = opened(uri, PATIENT_S)
    if isinstance(store, S3):
        with _beating(DriverLock(uri, store)) as lock:
            yield lock.check
        return
    if store.folder is None:
        console.say(f"{uri}: this storage has no conditional write, so two searches of one run are not told apart")
        yield lambda: None
        return
    with exclusive_lock(store.folder / LOCK, {"pid": os.getpid(), "host": socket.gethostname(), "user": user()}):
        yield lambda: None


@contextmanager
def _beating(lock: DriverLock) -> Iterator[DriverLock]:
    lock.acquire()
    keeper = threading.Thread(target=lock.keep, name="driver-lock", daemon=True)
    keeper.start()
    try:
        yield lock
    finally:
        lock._over.set()
        keeper.join(timeout=2 * PATIENT_S)
        lock.release()


def _read(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _shown(owner: dict[str, Any]) -> str:
    """Return a lock's owner in words; the file may hold anything."""
    pid, host, user, since = (str(owner.get(key, "?"))[:60] for key in ("pid", "host", "user", "since"))
    return f"process {pid} of {user} on {host}, since {since}"
