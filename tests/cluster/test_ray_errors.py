"""An error of Ray's is told in words of ours; one of a trial's own stays as it is."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from ray import exceptions
from ray._private import worker
from ray.core.generated.common_pb2 import ActorDiedErrorContext

from lymphtune.cluster.ray_errors import NODE_DIED, OUT_OF_MEMORY, WORKER_DIED, errors_in_a_line, latest_reason, plain

ACTOR = b"0123456789abcdef"
UNAVAILABLE = "RpcError: RPC Error message: Socket closed; RPC Error details:  rpc_code: 14"


def died(message: str) -> exceptions.ActorDiedError:
    return exceptions.ActorDiedError(
        ActorDiedErrorContext(error_message=message, actor_id=ACTOR, class_name="ImplicitFunc", pid=7)
    )


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (exceptions.ActorUnavailableError(UNAVAILABLE, ACTOR), NODE_DIED),
        (exceptions.ActorDiedError(), WORKER_DIED),
        (died("The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"), WORKER_DIED),
        (died("The actor died because its node has died. Node Id: 7f\n\tthe actor's node was terminated"), NODE_DIED),
        (exceptions.NodeDiedError("Task failed because the node it was running on is dead or unavailable."), NODE_DIED),
        (exceptions.LocalRayletDiedError(), NODE_DIED),
        (exceptions.WorkerCrashedError(), WORKER_DIED),
        (exceptions.OutOfMemoryError("Task was killed due to the node running low on memory.\nTop 10"), OUT_OF_MEMORY),
        (exceptions.OutOfDiskError("OutOfDiskError"), "no room on its node's disk for Ray's objects"),
        (exceptions.ObjectStoreFullError("no room"), "its node's object store is full"),
        (exceptions.ObjectLostError("f" * 56, "", ""), "what it needs was lost with another node"),
        (exceptions.OwnerDiedError("f" * 56, "", ""), "what it needs was lost with another node"),
        (exceptions.RuntimeEnvSetupError("pip failed"), "Ray could not set its worker up on that node"),
        (exceptions.TaskUnschedulableError("no such node"), "no node of the cluster can run it"),
        (exceptions.ActorUnschedulableError("no such node"), "no node of the cluster can run it"),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, Exception) else "",
)
def test_an_error_of_rays_is_one_plain_sentence(error: Exception, sentence: str) -> None:
    assert plain(str(error)) == sentence
    assert latest_reason(f"Failure # 1 (occurred at 2026-11-27_10-00-00)\n{error}\n") == sentence


@pytest.mark.parametrize(
    "line",
    [
        "ValueError: too few",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",  # no machine killed anybody
        "lymphtune.errors.InputError: annotations.csv: the disk is full",
        "RuntimeError: rpc_code: 140",
    ],
)
def test_an_error_of_the_trials_own_is_its_last_line(line: str) -> None:
    assert plain(line) is None
    assert latest_reason(f"Failure # 1 (occurred at now)\nTraceback\n  File x\n{line}\n\n") == line


def test_the_latest_failure_counts_not_an_earlier_one() -> None:
    both = (
        f"Failure # 1 (occurred at now)\n{exceptions.ActorDiedError()}\nFailure # 2 (occurred at now)\nValueError: x\n"
    )
    assert latest_reason(both) == "ValueError: x"
    assert latest_reason("") == WORKER_DIED


DUMP = (
    "Raylet is terminated. Termination is unexpected. Last 20 lines of the Raylet logs:\n" + 20 * "    [state-dump] x\n"
)
MARKED = "The node with node id: 7f and address: 10.0.0.2 has been marked dead because the detector has missed too many"


def listened(*messages: str) -> None:
    """Run Ray's own listener of a driver until it has heard the messages."""
    over, waiting = threading.Event(), list(messages)

    def poll() -> tuple[None, dict[str, Any] | None]:
        if not waiting:
            over.set()
            return None, None
        return None, {"job_id": b"1", "error_message": waiting.pop(0)}

    job: Any = SimpleNamespace(binary=lambda: b"1")
    driver: Any = SimpleNamespace(
        gcs_error_subscriber=SimpleNamespace(subscribe=lambda: None, poll=poll), current_job_id=job
    )
    worker.listen_error_messages(driver, over)


def test_a_dead_node_is_one_line_and_other_reports_keep_theirs(capfd: pytest.CaptureFixture[str]) -> None:
    before = worker.print_to_stdstream
    with errors_in_a_line():
        listened(DUMP, MARKED, DUMP, "No available node types can fulfill the request {'GPU': 1}.\nAdd some.")
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "Ray: a node is dead or out of reach; its log stands in Ray's folder there",
        "Ray: No available node types can fulfill the request {'GPU': 1}.",
    ]
    assert worker.print_to_stdstream is before
