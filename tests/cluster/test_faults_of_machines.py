"""Real searches on machines that fail: full and read-only disks, lost nodes, no memory. Each can be gone on with."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lymphtune.cluster.ray_errors import WORKER_DIED
from lymphtune.runs.run import Run
from tests.cluster.processes import Ended, Search, assert_same

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


# ---- disks


def mounted(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode == 0


@pytest.fixture
def disk(search: Search) -> Iterator[Path]:
    """A disk of its own for the search's runs, 50 MB large."""
    search.runs.mkdir()
    if not mounted("-t", "tmpfs", "-o", "size=50m", "lymphtune-test", str(search.runs)):
        pytest.skip("only root may mount a small disk")
    try:
        yield search.runs
    finally:
        search.clear()
        subprocess.run(["umount", "--lazy", str(search.runs)], check=True)


def paused(search: Search) -> Ended:
    ended = search.end(60)
    assert ended.code == 2, ended.err
    line = ended.only_line()
    assert line.startswith("lymphtune: paused: ") and "`lymphtune search --resume harmed --runs" in line
    return ended


def test_a_disk_that_turns_read_only_pauses_the_search(search: Search, undisturbed: Search, disk: Path) -> None:
    search.start().until_trained(10)
    assert mounted("--bind", str(disk), str(disk))  # what is open stays writable: the kernel insists
    assert mounted("-o", "remount,bind,ro", str(disk))
    assert "Read-only file system" in paused(search).err
    subprocess.run(["umount", str(disk)], check=True)
    assert_same(search.finish(), undisturbed)


def test_a_disk_that_fills_pauses_the_search(search: Search, undisturbed: Search, disk: Path) -> None:
    search.start().until_trained(10)
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - 15_000_000)
    assert "the disk is almost full" in paused(search).only_line()
    assert search.run.description.status == "paused"
    ballast.unlink()
    assert_same(search.finish(), undisturbed)


@pytest.mark.parametrize("left", [0, 4096, 300_000])
def test_a_disk_without_a_byte_left_harms_nothing(search: Search, undisturbed: Search, disk: Path, left: int) -> None:
    """Filled faster than anybody looks: whatever is being written finds no room for itself."""
    search.start().until_trained(10)
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        while (free := shutil.disk_usage(disk).free) > left:
            try:
                file.write(bytes(min(free - left, 1_000_000)))
                file.flush()
            except OSError:
                break
    line = paused(search).only_line()
    assert "the disk is almost full" in line or "No space left on device" in line
    assert Run(search.run.path).status in ("paused", "broken off")  # the word may have found no room
    ballast.unlink()
    assert_same(search.finish(), undisturbed)


# ---- nodes


CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
node = cluster.add_node(num_cpus=1, env_vars={"LYMPHTUNE_TEST_NODE": "second"})
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(node, allow_graceful=False)
print("removed", flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


@contextmanager
def two_nodes(search: Search) -> Iterator["subprocess.Popen[str]"]:
    """A Ray cluster of one processor here and one there; a line to its input ends the second node."""
    with (search.scratch / "cluster-err").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER],
            cwd=search.scratch,
            start_new_session=True,
            text=True,
            stderr=err,
            env=search.environment | {"RAY_TMPDIR": str(search.scratch), "RAY_USAGE_STATS_ENABLED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    try:
        yield process
        process.communicate("\n", timeout=60)
    finally:
        search.clear()
        process.wait()


def workers(search: Search, second: bool) -> list[int]:
    """Return the trials' processes of the one or the other node."""
    found = []
    for pid in search.named("ray::ImplicitFunc"):
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        if (b"LYMPHTUNE_TEST_NODE=second" in environ) == second:
            found.append(pid)
    return found


def test_a_lost_node_costs_no_trial(search: Search, undisturbed: Search) -> None:
    with two_nodes(search) as cluster:
        assert cluster.stdin is not None and cluster.stdout is not None
        address = cluster.stdout.readline().strip()
        assert address, (search.scratch / "cluster-err").read_text()
        search.start("--address", address).until_trained(10)
        assert len(workers(search, second=False)) == len(workers(search, second=True)) == 1
        cluster.stdin.write("\n")
        cluster.stdin.flush()
        assert cluster.stdout.readline() == "removed\n"
        search.process.wait(300)
        ended = search.said()
        assert ended.code == 0 and "Traceback" not in ended.err, ended.err
        ledger = (search.run.path / "ledger.jsonl").read_text()
        assert "tried_again" in ledger and WORKER_DIED in ledger and "rpc_code" not in ledger
        assert "state-dump" not in ended.out + ended.err and "Raylet logs" not in ended.out + ended.err
    assert_same(search, undisturbed)


# ---- memory


GREEDY = """
import sys, time
from pathlib import Path
import lymphtune
from lymphtune.cluster import driver as module

class Greedy(module.Shared):
    def train(self, trial, start=None):
        if trial.number == 1:
            held = b"1" * 4_000_000_000
            time.sleep(30)
        yield from super().train(trial, start)

module.Shared = Greedy
settings = {"trials": 3, "epochs": 20, "folds": 2, "max_failures": 0, "max_concurrent": 1}
lymphtune.search("tiny", Path(sys.argv[1]), runs=Path(sys.argv[2]), name="harmed", **settings)
"""


def test_a_trial_that_takes_all_memory_fails_alone(search: Search) -> None:
    import psutil

    memory = psutil.virtual_memory()
    share = (memory.total - memory.available + 2.5e9) / memory.total
    if share > 0.9:
        pytest.skip("too little memory is free to be filled")
    limits = {"RAY_memory_usage_threshold": f"{share:.3f}", "RAY_memory_monitor_refresh_ms": "100"}
    ended = search.drive("-c", GREEDY, search.data, search.runs, **limits).end()
    assert ended.code == 0 and "Traceback" not in ended.err, ended.err
    networks = search.run.leaderboard.query("kind == 'network'").set_index("number")
    if networks.loc[1, "status"] != "failed":
        pytest.skip("Ray's memory monitor did not act")
    assert networks.loc[1, "reason"] == "out of memory: the machine killed its worker"
    assert not (networks.loc[[0, 2], "status"] == "failed").any()
