"""Ray's errors as one plain sentence each, found by the words in which Ray tells them.

Tune keeps `str(error)` alone, without its class, and appends one failure of a trial to another's.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lymphtune import console
from lymphtune.errors import shortened
from lymphtune.masking import masked

WORKER_DIED = "its worker died"
OUT_OF_MEMORY = "out of memory: the machine killed its worker"
NODE_DIED = f"{WORKER_DIED}: its node is dead or out of reach"
FAILURE = re.compile(r"^Failure # \d+.*$", re.MULTILINE)  # the head of each failure that Tune appends
# the first that is found counts: what follows an error of Ray's is a page of guesses at its cause
SENTENCES = (
    (r"ray\.exceptions\.OutOfMemoryError|out of memory issue|node running low on memory", OUT_OF_MEMORY),
    (r"[Tt]he actor \S+ is unavailable:|\brpc_code: 14\b", NODE_DIED),
    (
        r"its node has died|actor's node was terminated|node (it|the task) was running on is dead|NodeDiedError",
        NODE_DIED,
    ),
    (r"local raylet died|node has died", NODE_DIED),
    (r"worker process has died|actor died unexpectedly|worker died unexpectedly|WorkerCrashedError", WORKER_DIED),
    (r"disk's utilization is over capacity|OutOfDiskError", "no room on its node's disk for Ray's objects"),
    (r"object store is full|ObjectStoreFullError", "its node's object store is full"),
    (r"Failed to retrieve object|ObjectLostError|OwnerDiedError", "what it needs was lost with another node"),
    (r"Failed to set up runtime environment", "Ray could not set its worker up on that node"),
    (r"(task|actor) is not schedulable", "no node of the cluster can run it"),
)


def plain(text: str) -> str | None:
    """Return an error of Ray's in words of ours; None where the text tells of none."""
    return next((sentence for pattern, sentence in SENTENCES if re.search(pattern, text)), None)


def latest_reason(text: str) -> str:
    """Return why a trial failed last, from Tune's file of all its failures: the last line, unless Ray itself failed."""
    latest = FAILURE.split(text)[-1]
    lines = [line for line in latest.splitlines() if line.strip()]
    return plain(latest) or (shortened(masked(lines[-1])) if lines else WORKER_DIED)


@contextmanager
def errors_in_a_line() -> Iterator[None]:
    """Print what Ray's processes report to the driver during the block on stderr, one line each and no line twice.

    Ray itself prints it on stdout at any logging level, with the last twenty lines of a dead node's log. Those lines
    remain in the log, in Ray's folder.
    """
    from ray._private import worker

    before, shown = vars(worker)["print_to_stdstream"], set[str]()

    def show(data: dict[str, Any], ignore_prefix: bool = False) -> None:
        for line in map(in_a_line, data["lines"]):
            if line not in shown:
                shown.add(line)
                console.say(line)

    vars(worker)["print_to_stdstream"] = show
    try:
        yield
    finally:
        vars(worker)["print_to_stdstream"] = before


def in_a_line(text: str) -> str:
    """Return a report of one of Ray's processes as one line."""
    if re.search(r"[Rr]aylet is terminated|has been marked dead", text):
        return "Ray: a node is dead or out of reach; its log stands in Ray's folder there"
    lines = [line for line in text.splitlines() if line.strip()]
    return f"Ray: {shortened(masked(lines[0] if lines else text), 200)}"
