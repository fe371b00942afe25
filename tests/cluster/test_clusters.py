"""A real Ray cluster of three nodes on this host, in processes of its own: the doctor, and a search as a job."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import lymphtune
from lymphtune.runs.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(lymphtune.__file__).parent.parent
START = """
import sys
from ray.cluster_utils import Cluster
dashboard, agent = map(int, sys.argv[1:3])
head = {"num_cpus": 1, "include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": dashboard}
cluster = Cluster(initialize_head=True, head_node_args=head | {"dashboard_agent_listen_port": agent})
cluster.add_node(num_cpus=1, num_gpus=1)
cluster.add_node(num_cpus=0, env_vars={"PYTHONPATH": sys.argv[3]})
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


class Started(NamedTuple):
    address: str  # HOST:PORT
    dashboard: str
    environment: dict[str, str]

    def run(self, *arguments: object, **changed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *map(str, arguments)],
            cwd="/",
            env=self.environment | changed,
            capture_output=True,
            text=True,
            timeout=300,
        )


@pytest.fixture(scope="module")
def cluster() -> Iterator[Started]:
    """Nodes that ask for a token; the second claims a GPU, the third has a lymphtune that cannot be imported.

    Everything of it lies in a folder with a short path.
    """
    folder = Path(tempfile.mkdtemp(prefix="lt-"))
    broken = folder / "broken" / "lymphtune" / "__init__.py"
    broken.parent.mkdir(parents=True)
    broken.write_text("raise ImportError('nothing of ours is needed on a node')\n")
    (folder / "token").write_text("0123456789abcdef" * 4)
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        port, agent = (str(server.getsockname()[1]) for server in (one, other))
    unset = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = unset | {
        "RAY_TMPDIR": str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", START, port, agent, str(folder / "broken")],
        cwd=folder,
        env=environment,
        start_new_session=True,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(folder / "err").open("w"),
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, (folder / "err").read_text()
        yield Started(address, f"http://127.0.0.1:{port}", environment)
        process.communicate(timeout=60)  # its end of input: nodes are stopped one by one
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        _end_what_is_left(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _end_what_is_left(folder: Path) -> None:
    """Kill processes of this cluster alone: those that were started with its folder."""
    import psutil

    mark = f"RAY_TMPDIR={folder}".encode()
    for process in psutil.process_iter():
        environ = Path(f"/proc/{process.pid}/environ")
        try:
            if mark in environ.read_bytes().split(b"\0"):
                process.kill()
        except (OSError, psutil.Error):
            continue


def test_doctor_checks_every_node(cluster: Started, tmp_path: Path, tiny_cohort_folder: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    done = cluster.run(
        "lymphtune",
        "doctor",
        "--address",
        "auto",
        "--runs",
        runs,
        "--data",
        tiny_cohort_folder,
        RAY_ADDRESS=cluster.address,
    )
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    checks = [(line.split()[0], line.split()[2]) for line in lines[: lines.index("")]]
    each = ["versions", "lymphtune", "disk", "storage", "gpus", "memory", "clock"]
    assert [check for _, check in checks] == [*each * 3, "tokens"]
    assert sorted(check for state, check in checks if state != "ok") == ["gpus", "lymphtune"]
    assert "Ray gives 1, torch sees 0" in done.stdout and "--num-gpus" in done.stdout
    assert "another source" in done.stdout and "restart Ray there" in done.stdout
    assert done.returncode == 2 and "2 findings on 2 of 3 nodes" in done.stderr.splitlines()[-1]
    assert list(runs.iterdir()) == []


def test_a_node_that_does_not_answer_in_time_is_a_finding(cluster: Started, tmp_path: Path) -> None:
    done = cluster.run("lymphtune", "doctor", "--address", cluster.address, "--timeout", "0.001s", "--runs", tmp_path)
    assert done.returncode == 2 and done.stdout.count("no answer within 0 s") >= 3
    assert "on 3 of 3 nodes" in done.stderr.splitlines()[-1]


def test_another_token_is_one_line(cluster: Started, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("f" * 64)
    done = cluster.run("lymphtune", "doctor", "--address", cluster.address, RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))
    assert done.returncode == 2 and done.stdout == "", done.stderr
    assert f"lymphtune: address {cluster.address}: no Ray cluster answers there" in done.stderr.splitlines()[-1]
    assert "~/.ray/auth_token" in done.stderr.splitlines()[-1]


def test_a_search_handed_in_as_a_job_uses_the_cluster_it_runs_on(
    cluster: Started, tmp_path: Path, tiny_cohort_folder: Path
) -> None:
    search = (
        "lymphtune",
        "search",
        "--space",
        "tiny",
        "--data",
        tiny_cohort_folder,
        "--runs",
        tmp_path / "runs",
        "--name",
        "job",
        "--trials",
        2,
        "--epochs",
        2,
        "--folds",
        2,
        "--gpus-per-trial",
        0,
        "--address",
        "auto",
    )
    done = cluster.run(
        "ray.scripts.scripts",
        "job",
        "submit",
        "--address",
        cluster.dashboard,
        "--",
        sys.executable,
        "-m",
        *search,
        LYMPHTUNE_CACHE=str(tmp_path / "cache"),
    )
    assert done.returncode == 0 and "succeeded" in done.stdout + done.stderr, done.stdout + done.stderr
    run = Run(tmp_path / "runs" / "job")
    assert run.description.status == "done"
    board = run.leaderboard
    assert (board["status"] == "done").sum() == 6  # the baselines and both networks
    networks = board[board["kind"] == "network"]["trial"]
    assert all(list(run.trial(trial).rglob("*.safetensors")) for trial in networks)


def test_the_batch_script_searches_on_its_own_nodes(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    """The script as it stands, this host as both nodes: `srun` runs its command here, the search is a tiny one."""
    folder = Path(tempfile.mkdtemp(prefix="lt-"))
    port = next(port for port in range(20_000 + os.getpid() % 5000, 30_000) if _is_free(port))
    job = 1_000_000 + port - 20_000
    stand_ins = {
        "activate": f'PATH="{folder}/bin:{Path(sys.executable).parent}:$PATH"\n',
        "srun": '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n',
        "lymphtune": '#!/bin/bash\n[[ $1 == search ]] && set -- "$@" --space tiny --trials 2 --epochs 2 --folds 2\n'
        f'exec {sys.executable} -m lymphtune "$@"\n',
    }
    (folder / "bin").mkdir()
    for name, text in stand_ins.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    unset = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = unset | {
        "HOME": str(folder),
        "LYMPHTUNE_ENV": str(folder),
        "PYTHONPATH": str(ROOT),
        "RAY_TMPDIR": str(folder),
        "SLURM_JOB_ID": str(job),
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_GPUS_ON_NODE": "0",
        "COHORT": str(tiny_cohort_folder),
        "RUNS": str(tmp_path / "runs"),
        "NAME": "batch",
    }
    process = subprocess.Popen(
        ["bash", str(ROOT / "docs" / "slurm" / "lymphtune.sbatch")],
        cwd=folder,
        env=environment,
        text=True,
        stdout=(folder / "out").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        ended = process.wait(timeout=300)
        said = (folder / "out").read_text()
        assert ended == 0, said
        assert "2 of 2 nodes joined" in said and said.count("the same source") == 2
        assert "ok cluster" in said and "every node asks for the token" in said
        run = Run(tmp_path / "runs" / "batch")
        assert run.description.status == "done" and not list((folder / ".ray").glob("slurm-*"))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        _end_what_is_left(folder)
        shutil.rmtree(f"/tmp/ray-{job}", ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0
