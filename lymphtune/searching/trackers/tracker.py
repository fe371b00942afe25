"""What a tracker is, and how trials get there: from a thread of the driver, which never stops or delays a search."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Any, NamedTuple, Protocol

from lymphtune import console
from lymphtune.errors import reason

ROOM = 10_000  # records that may wait; what comes while so many do is not delivered
PAUSES_S = (2.0, 5.0, 15.0, 60.0)  # between two tries to deliver a record; after the last one it is given up
LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class TrackedTrial:
    """A trial as a tracker shows it. search: what tells its search from all others, kept when it is resumed."""

    hash: str
    name: str  # as on the leaderboard: the first digits of the hash, and the title
    search: str
    parameters: Mapping[str, Any]
    tags: Mapping[str, str]


class Ending(NamedTuple):
    """How a trial ended: done, stopped, failed, or interrupted, where a resumed search continues it."""

    status: str
    reason: str
    epochs: int


class Delivered(NamedTuple):
    """What of a trial a tracker has already. status: as of `Ending`, empty while the trial has not ended there."""

    epochs: int = 0
    status: str = ""


class Undelivered(Exception):
    """A record that cannot be sent again; the text says where its data are."""


class Tracker(Protocol):
    """A client of a server or a folder. Any method may raise anything, and is then called again with the same."""

    place: str  # as messages name it

    def delivered(self, trial: TrackedTrial) -> Delivered: ...

    def trial_started(self, trial: TrackedTrial, at_s: float) -> None:
        """Have a run there, under the trial's name; the one of an earlier search of the same run is continued."""

    def epoch(self, trial: TrackedTrial, metrics: Mapping[str, float], at_s: float) -> None:
        """Add a point to each curve, at the step metrics["epoch"]; at_s: seconds since 1970."""

    def trial_ended(self, trial: TrackedTrial, ending: Ending, at_s: float) -> None: ...

    def close(self) -> None: ...


Record = Callable[[Tracker], None]


class Delivery:
    """Delivers records to a tracker, in their order. The first failure is said, none is raised."""

    def __init__(self, tracker: Tracker, room: int = ROOM, pauses_s: tuple[float, ...] = PAUSES_S) -> None:
        self.tracker, self.pauses_s = tracker, pauses_s
        self._queue: Queue[Record] = Queue(room)
        self._lock = threading.Lock()
        self._sent = self._delivered = 0
        self._warned = False
        self._ending, self._given_up = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="lymphtune-tracker", daemon=True)
        self._thread.start()

    def send(self, record: Record) -> None:
        """Have a record delivered some time; returns at once, whatever the tracker does."""
        with self._lock:
            self._sent += 1
        try:
            self._queue.put_nowait(record)
        except Full:
            self._warn(f"{self._queue.maxsize} records wait already")

    def close(self, patience_s: float) -> int:
        """Wait until everything is delivered, for so long at most; return how many records were not.

        The rest is dropped: a resumed search may send it at any time, and nothing is to arrive twice.
        """
        self._ending.set()
        self._thread.join(patience_s)
        self._given_up.set()
        return self._sent - self._delivered

    def _run(self) -> None:
        while not self._given_up.is_set():
            try:
                record = self._queue.get(timeout=LOOK_EVERY_S)
            except Empty:
                if self._ending.is_set():
                    break
            else:
                self._deliver(record)
        try:
            self.tracker.close()
        except Exception as error:  # noqa: BLE001  (a client raises what it likes)
            self._warn(reason(error))

    def _deliver(self, record: Record) -> None:
        for pause_s in (*self.pauses_s, 0.0):
            try:
                record(self.tracker)
            except Undelivered as error:
                self._warn(reason(error))
                return
            except Exception as error:  # noqa: BLE001  (a client raises what it likes)
                self._warn(reason(error))
                if self._ending.wait(pause_s):
                    return
            else:
                self._delivered += 1
                return

    def _warn(self, why: str) -> None:
        if not self._warned:
            self._warned = True
            console.say(f"{self.tracker.place}: reporting failed ({why}). The search continues without waiting for it.")
