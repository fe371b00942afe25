"""The nodes of a running Ray cluster, asked what they are: one task each, which no busy node refuses."""

import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from lymphtune.cluster import probe
from lymphtune.cluster.addresses import check_answers
from lymphtune.cluster.node import Node
from lymphtune.cluster.ray_errors import plain
from lymphtune.cluster.runner import ray, ray_cluster
from lymphtune.errors import shortened

CLOCK_ASKED = 3  # times; the shortest round trip counts
CLOCK_TIMEOUT_S = 10.0


def ask_cluster(address: str, storage: str | None, timeout_s: float) -> list[Node]:
    """Return what every alive node of the cluster says, the head first; the driver is a node's own machine."""
    check_answers(address)
    with ray_cluster(address):
        ray.cloudpickle.register_pickle_by_value(probe)
        try:
            return _ask(storage, timeout_s)
        finally:
            ray.cloudpickle.unregister_pickle_by_value(probe)


def _ask(storage: str | None, timeout_s: float) -> list[Node]:
    alive = sorted((node for node in ray.nodes() if node["Alive"]), key=_order)
    token = uuid.uuid4().hex
    files = {node["NodeID"]: f".lymphtune-doctor-{token[:12]}-{number}" for number, node in enumerate(alive)}
    tasks: dict[tuple[str, str], Any] = {}
    for node in alive:
        key = node["NodeID"]
        temp = str(Path(node["ObjectStoreSocketName"]).parent.parent.parent)  # above session_*/sockets/
        tasks[key, "said"] = _on(node, probe.describe).remote(temp, storage)
        if storage is not None:
            tasks[key, "written"] = _on(node, probe.write_token).remote(storage, files[key], token)
        if _free_gpus(node):
            tasks[key, "gpus"] = _on(node, probe.gpus, gpus=node["Resources"]["GPU"]).remote()
    answers = _answers(tasks, timeout_s)
    nodes = [_node(node, answers, _name(node, alive)) for node in alive]
    if storage is not None:
        nodes = [
            replace(node, read_back=_read_back(given, storage, files[given["NodeID"]], token))
            for node, given in zip(nodes, alive, strict=True)
        ]
    return [
        replace(node, skew_s=skew, error_s=error)
        for node, given in zip(nodes, alive, strict=True)
        for skew, error in [(None, 0.0) if isinstance(node.answer, str) else _skew(given)]
    ]


def _order(node: dict[str, Any]) -> tuple[bool, str, str]:
    return "node:__internal_head__" not in node["Resources"], node["NodeManagerAddress"], node["NodeID"]


def _name(node: dict[str, Any], alive: list[dict[str, Any]]) -> str:
    """Return the node's address, with the start of its id where several nodes share one."""
    address = str(node["NodeManagerAddress"])
    shared = sum(other["NodeManagerAddress"] == address for other in alive) > 1
    return f"{address}/{node['NodeID'][:4]}" if shared else address


def _on(node: dict[str, Any], function: Any, gpus: float = 0) -> Any:
    """Return the function as a task of exactly this node, which takes no CPU and so never waits for one."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there: Any = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return ray.remote(num_cpus=0, num_gpus=gpus, max_retries=0, scheduling_strategy=there)(function)


def _free_gpus(node: dict[str, Any]) -> bool:
    """Return whether the node has GPUs and all of them are free, so that a task asking for them starts at once."""
    from ray._private.state import available_resources_per_node

    wanted = node["Resources"].get("GPU", 0)
    return bool(wanted) and available_resources_per_node().get(node["NodeID"], {}).get("GPU", 0) >= wanted


def _answers(tasks: dict[tuple[str, str], Any], timeout_s: float) -> dict[tuple[str, str], Any]:
    """Return each task's result wrapped in a list, or as a str why there is none."""
    ready, _ = ray.wait(list(tasks.values()), num_returns=len(tasks), timeout=timeout_s)
    done = set(ready)
    answers: dict[tuple[str, str], Any] = {}
    for key, task in tasks.items():
        if task not in done:
            ray.cancel(task, force=True)
            answers[key] = f"no answer within {timeout_s:.0f} s"
            continue
        try:
            answers[key] = [ray.get(task)]
        except ray.exceptions.RayError as error:
            answer = str(error).strip()
            answers[key] = f"failed: {plain(answer) or shortened(answer.splitlines()[-1], 160)}"
    return answers


def _node(node: dict[str, Any], answers: dict[tuple[str, str], Any], name: str) -> Node:
    key, resources = node["NodeID"], node["Resources"]
    answer, written = answers[key, "said"], answers.get((key, "written"), [None])
    seen = answers.get((key, "gpus"), "in use")
    return Node(
        name,
        float(resources.get("GPU", 0)),
        float(resources.get("object_store_memory", 0)),
        answer if isinstance(answer, str) else answer[0],
        written if isinstance(written, str) else written[0],
        None,
        seen if isinstance(seen, str) else seen[0],
    )


def _read_back(node: dict[str, Any], storage: str, name: str, token: str) -> bool:
    """Return whether the node's file is seen here as it was written; it is removed, there if not here."""
    seen = probe.read_token(storage, name) == token
    probe.remove_token(storage, name)
    if not seen:
        ray.wait([_on(node, probe.remove_token).remote(storage, name)], timeout=CLOCK_TIMEOUT_S)
    return seen


def _skew(node: dict[str, Any]) -> tuple[float | None, float]:
    """Return the node's clock minus this one's, and half the round trip of the best of a few questions."""
    best: tuple[float | None, float] = (None, float("inf"))
    ask = _on(node, probe.clock)
    for _ in range(CLOCK_ASKED):
        sent, started = time.time(), time.monotonic()
        try:
            there = ray.get(ask.remote(), timeout=CLOCK_TIMEOUT_S)
        except (ray.exceptions.RayError, TimeoutError):
            break
        half = (time.monotonic() - started) / 2
        if half < best[1]:
            best = there - sent - half, half
    return best if best[0] is not None else (None, 0.0)
