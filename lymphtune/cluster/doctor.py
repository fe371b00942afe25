"""Checks of a Ray cluster before a search: each node's answers against those of this machine."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lymphtune import console
from lymphtune.cluster import probe
from lymphtune.cluster.node import Node
from lymphtune.cohort import survey_cohort
from lymphtune.cohort.cohort import PICTURE_PX
from lymphtune.errors import InputError, shortened
from lymphtune.findings import Finding, Severity
from lymphtune.result import Result
from lymphtune.runs.storage import is_uri, opened

TIMEOUT_S = 60.0
MOST_SKEW_S = 2.0  # of a node's clock
LEAST_FREE = 5_000_000_000  # bytes of disk
STORE_SPARE = 1.1  # object store, of the pictures' size
# the state that tables and JSON show for a severity; a note is a check that could not be made
STATES: dict[Severity, str] = {"ok": "ok", "error": "!", "note": "-"}

INSTALL = "Install there what is here: `pip install -c constraints.txt -e .`, then restart that node's Ray."
SAME = "Bring every node to the same state of the source, then restart Ray there."
AWAKE = "See whether that machine still runs, and `ray status`; a node that hangs holds up every trial put on it."
SHARED = "Mount the same storage under the same path on every node, writable, or name another with --runs."
GPUS = "See `nvidia-smi` and the torch build there, or start that node's Ray with the --num-gpus it has."
STORE = "Start that node's Ray with a larger --object-store-memory; what does not fit is read from disk."
CLOCK = "Set that node's clock by NTP (chrony)."
ROOM = "Free some disk there, or start Ray with a --temp-dir on another one."
TOKENS = (
    "Anyone who reaches a port of this cluster can run code on it. Turn tokens on (RAY_AUTH_MODE=token and the same "
    "~/.ray/auth_token everywhere) or keep its ports closed."
)


def check_cluster(
    address: str, runs: str | None = None, data: str | None = None, timeout_s: float = TIMEOUT_S
) -> Result:
    """Return the table of all checks on all nodes, and what to do about each finding; a fault where there are any.

    Raises InputError where no cluster answers.
    """
    storage = checked_storage(runs)
    pictures = None if data is None else pictures_bytes(data)
    from lymphtune.cluster.nodes import ask_cluster

    nodes = ask_cluster(address, storage, timeout_s)
    here = probe.describe(str(Path.cwd()), None)
    lines = [line for node in nodes for line in check_node(node, here, pictures, storage is not None)]
    lines += check_tokens(nodes)
    fault = ""
    if found := [line for line in lines if line.severity == "error"]:
        where = len({line.where for line in found})
        count = f"{console.counted(len(found), 'finding')} on {where} of {len(nodes)} nodes"
        fault = f"address {address}: {count}; mend what stands under the table, then check again"
    values = {"nodes": [node.name for node in nodes], "checks": [_values(line) for line in lines]}
    return Result(report(lines), values, fault, InputError.code if fault else 0)


def checked_storage(runs: str | None) -> str | None:
    """Return a URI as it is and a folder as an absolute path; raises InputError where it is none."""
    if runs is None:
        return None
    if is_uri(runs):
        try:
            opened(runs)
        except (OSError, ValueError, NotImplementedError) as error:
            raise InputError(f"runs {runs}: cannot be opened ({shortened(str(error), 200)})") from error
        return runs
    folder = Path(runs).expanduser().resolve()
    if not folder.is_dir():
        raise InputError(f"runs {runs}: no such folder; make it, on storage that every node sees under the same path")
    return str(folder)


def pictures_bytes(data: str) -> int:
    """Return the bytes of a cohort's pictures, decoded; nothing is decoded for it."""
    return int(survey_cohort(data, None).patients["n_cells"].sum()) * PICTURE_PX * PICTURE_PX * 3


def _finding(node: str, check: str, severity: Severity, text: str, cure: str = "") -> Finding:
    return Finding(severity, check, text, cure, (node,))


def _values(finding: Finding) -> dict[str, str]:
    """The finding for JSON."""
    state = STATES[finding.severity]
    return {"node": finding.where, "check": finding.check, "state": state, "text": finding.text, "cure": finding.cure}


def check_node(node: Node, here: Mapping[str, Any], pictures: int | None, storage: bool) -> Iterator[Finding]:
    """Yield one finding a check; `here` is what the driver's own machine says of itself."""
    if isinstance(node.answer, str):
        yield _finding(node.name, "answer", "error", node.answer, AWAKE)
    else:
        yield check_versions(node.name, here["versions"], node.answer["versions"])
        yield check_source(node.name, here["source"], node.answer["source"])
        yield check_disk(node.name, node.answer["free"])
    if storage:
        yield check_storage(node)
    yield check_gpus(node)
    yield check_store(node, pictures)
    yield check_clock(node)


def check_versions(node: str, here: Mapping[str, str | None], there: Mapping[str, str | None]) -> Finding:
    other = [
        f"{name} {there.get(name) or 'missing'}, here {version or 'missing'}"
        for name, version in here.items()
        if there.get(name) != version
    ]
    if other:
        return _finding(node, "versions", "error", "; ".join(other), INSTALL)
    first = ", ".join(f"{name} {here[name]}" for name in list(here)[:2])
    return _finding(node, "versions", "ok", f"{first}, {len(here) - 2} more: as here")


def check_source(node: str, here: str | None, there: str | None) -> Finding:
    if there is None:
        return _finding(node, "lymphtune", "error", "cannot be imported", INSTALL)
    if there != here:
        return _finding(node, "lymphtune", "error", f"another source: {there[:8]}, here {(here or 'none')[:8]}", SAME)
    return _finding(node, "lymphtune", "ok", f"the same source, {there[:8]}")


def check_disk(node: str, free: Mapping[str, int | None]) -> Finding:
    known = {name: size for name, size in free.items() if size is not None}
    if not known:
        return _finding(node, "disk", "note", "free space unknown")
    text = ", ".join(f"{console.size(size)} free in {name}" for name, size in known.items())
    low = any(size < LEAST_FREE for size in known.values())
    return _finding(node, "disk", "error" if low else "ok", text, ROOM if low else "")


def check_storage(node: Node) -> Finding:
    if node.written:
        return _finding(node.name, "storage", "error", f"cannot be written: {node.written}", SHARED)
    if not node.read_back:
        return _finding(node.name, "storage", "error", "what it wrote is not seen here: not shared", SHARED)
    return _finding(node.name, "storage", "ok", "written there, read here, removed")


def check_gpus(node: Node) -> Finding:
    if not node.gpus:
        return _finding(node.name, "gpus", "ok", "none")
    if isinstance(node.torch_gpus, str):
        return _finding(node.name, "gpus", "note", f"{node.gpus:g}, not checked: {node.torch_gpus}")
    if node.torch_gpus is None:
        return _finding(node.name, "gpus", "error", f"Ray gives {node.gpus:g}, torch is missing", INSTALL)
    if len(node.torch_gpus) != node.gpus:
        return _finding(node.name, "gpus", "error", f"Ray gives {node.gpus:g}, torch sees {len(node.torch_gpus)}", GPUS)
    names = ", ".join(f"{gpu['name']} {console.size(gpu['bytes'])}" for gpu in node.torch_gpus)
    return _finding(node.name, "gpus", "ok", f"{len(node.torch_gpus)}: {names}")


def check_store(node: Node, pictures: int | None) -> Finding:
    holds = f"object store {console.size(node.store_bytes)}"
    if pictures is None:
        return _finding(node.name, "memory", "note", f"{holds}; --data compares it with a cohort")
    text = f"{holds} for {console.size(pictures)} of pictures"
    short = node.store_bytes < pictures * STORE_SPARE
    return _finding(node.name, "memory", "error" if short else "ok", text, STORE if short else "")


def check_clock(node: Node) -> Finding:
    if node.skew_s is None:
        return _finding(node.name, "clock", "note", "not checked: no answer")
    text = f"{node.skew_s:+.2f} s from here, known to {node.error_s:.2f} s"
    wrong = abs(node.skew_s) - node.error_s > MOST_SKEW_S
    return _finding(node.name, "clock", "error" if wrong else "ok", text, CLOCK if wrong else "")


def check_tokens(nodes: Sequence[Node]) -> list[Finding]:
    """Return one note for the whole cluster: tokens are no finding where the network is somebody else's care."""
    answers = [node.answer for node in nodes if not isinstance(node.answer, str)]
    if not answers:
        return []
    if all(answer["token"] for answer in answers):
        return [_finding("cluster", "tokens", "ok", "every node asks for the token")]
    if all(node.name.startswith("127.") for node in nodes):
        return [_finding("cluster", "tokens", "ok", "off; it listens on loopback only")]
    return [_finding("cluster", "tokens", "note", "off, and it can be reached from the network", TOKENS)]


def report(lines: Sequence[Finding]) -> str:
    """Return one row a line, at most console.width() columns, and below what to do, once for each cure."""
    widest = max(len(line.where) for line in lines)
    rows = [f"{STATES[line.severity]:2} {line.where:{widest}} {line.check:9} {line.text}" for line in lines]
    text = [row if len(row) <= console.width() else row[: console.width() - 3].rstrip() + "..." for row in rows]
    for cure in dict.fromkeys(line.cure for line in lines if line.cure):
        text.append("")
        for line in lines:
            if line.cure == cure:
                text += textwrap.wrap(f"{line.where} {line.check}: {line.text}", console.width())
        text += textwrap.wrap(cure, console.width(), initial_indent="  ", subsequent_indent="  ")
    return "\n".join(text)
