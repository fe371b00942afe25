"""What surrounds the code: the cluster file is one, the shipped YAML travels, the project speaks of itself alone."""

import os
import shlex
import subprocess
import sys
import sysconfig
import tomllib
from copy import deepcopy
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from lymphtune.cli import parser

ROOT = Path(__file__).parent.parent


@pytest.fixture
def cluster() -> dict[str, Any]:
    given: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    return given


def validate(given: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(deepcopy(given)))


def test_the_cluster_file_fits_rays_own_schema(cluster: dict[str, Any]) -> None:
    validate(cluster)
    with pytest.raises(ValidationError, match="idle_timeout_minute'"):
        validate(cluster | {"idle_timeout_minute": 5})
    worker = cluster["available_node_types"]["gpu_worker"]
    with pytest.raises(ValidationError, match="max_worker'"):
        validate(
            cluster | {"available_node_types": cluster["available_node_types"] | {"w": worker | {"max_worker": 1}}}
        )


def test_the_cluster_file_asks_for_tokens_and_opens_nothing(cluster: dict[str, Any]) -> None:
    commands = cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]
    starts = [command for command in commands if "ray start" in command]
    assert len(starts) == 2 and all("RAY_AUTH_MODE=token ray start" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0] and "0.0.0.0" not in " ".join(commands)
    assert any("export" in command and "RAY_AUTH_MODE=token" in command for command in cluster["setup_commands"])
    assert cluster["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("chmod 600 ~/.ray/auth_token" in command for command in cluster["setup_commands"])
    assert cluster["provider"]["security_group"]["IpPermissions"] == []  # beside SSH and the group's own nodes


def test_the_cluster_file_starts_workers_on_demand_and_ends_them(cluster: dict[str, Any]) -> None:
    workers = [kind for name, kind in cluster["available_node_types"].items() if name != cluster["head_node_type"]]
    assert workers and all(0 <= kind["min_workers"] <= kind["max_workers"] for kind in workers)
    assert sum(kind["min_workers"] for kind in workers) <= cluster["max_workers"]
    assert 0 < cluster["idle_timeout_minutes"] <= 60


def test_the_cluster_file_installs_what_was_tested(cluster: dict[str, Any]) -> None:
    folder = next(there for there, here in cluster["file_mounts"].items() if here == ".")
    assert (ROOT / "constraints.txt").is_file()
    assert any(f"-c {folder}/constraints.txt -e {folder}" in command for command in cluster["setup_commands"])


def test_the_ray_job_is_one_of_lymphtune_with_a_token() -> None:
    job = yaml.safe_load((ROOT / "docs" / "kubernetes" / "rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]["rayClusterSpec"]
    assert spec["authOptions"] == {"mode": "token", "secretName": "lymphtune-token"}
    assert f"ray=={spec['rayVersion']}" in (ROOT / "constraints.txt").read_text().splitlines()
    program, *words = shlex.split(job["spec"]["entrypoint"])
    arguments = parser().parse_args(words)
    assert program == "lymphtune" and arguments.command == "search" and arguments.address == "auto"
    assert (ROOT / "search_spaces" / f"{arguments.space}.yaml").is_file()
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounts == {"shared": "/shared", "shm": "/dev/shm"} and set(mounts) == {v["name"] for v in pod["volumes"]}
        assert str(arguments.runs).startswith("/shared/") and arguments.data.startswith("/shared/")
        store = pod["volumes"][1]["emptyDir"]
        assert store["medium"] == "Memory" and int(store["sizeLimit"].removesuffix("Gi")) >= 4


def test_the_batch_script_is_one() -> None:
    script = ROOT / "docs" / "slurm" / "lymphtune.sbatch"
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    assert text.startswith("#!/bin/bash\n") and text.index("#SBATCH") < text.index("set -euo pipefail")
    assert text.index("RAY_AUTH_MODE=token") < text.index("ray start")


@pytest.mark.parametrize(("doctor", "searches"), [(0, True), (3, True), (2, False), (1, False)])
def test_the_batch_script_searches_in_spite_of_warnings_within_the_jobs_limit(
    doctor: int, searches: bool, tmp_path: Path
) -> None:
    """Its last part as it stands, with a stand-in for lymphtune that notes what it is called with."""
    text = (ROOT / "docs" / "slurm" / "lymphtune.sbatch").read_text()
    stand_in = f'lymphtune() {{ echo "$@" >> {tmp_path}/calls; [[ $1 != doctor ]] || return {doctor}; }}\n'
    given = "set -euo pipefail\nRUNS=r COHORT=c NAME=n SLURM_JOB_END_TIME=$(($(date +%s) + 3600))\n"
    script = given + stand_in + text[text.index("# 3: warnings") :]
    done = subprocess.run(["bash", "-c", script], check=False)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert done.returncode == (0 if searches else doctor) and len(calls) == (2 if searches else 1)
    if searches:
        budget = int(calls[1].rpartition("--time-budget ")[2].removesuffix("s"))
        assert 3600 * 0.85 < budget <= 3600 * 0.9 + 1


def test_spaces_and_recipes_are_put_into_the_wheel() -> None:
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert built["force-include"] == {
        "search_spaces": "lymphtune/search_spaces",
        "ensembles": "lymphtune/ensembles",
    }


@pytest.mark.slow
def test_an_installed_wheel_finds_its_spaces_in_an_empty_folder(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)], check=True
    )
    target, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    wheel = next(tmp_path.glob("*.whl"))
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel], check=True)
    code = "import lymphtune.cli; print(lymphtune.__file__); raise SystemExit(lymphtune.cli.main(['spaces', 'mixed']))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=empty,
        env={"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and str(target) in done.stdout and "configuration" not in done.stderr


def requirements() -> list[Requirement]:
    """Return all dependencies, those of extras too, lymphtune's own extras apart."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    return [one for one in map(Requirement, lines) if one.name != "lymphtune"]


def lowest(requirement: Requirement) -> Version:
    """Return the lower bound; raises ValueError where there is none, or more than one."""
    (bound,) = [one.version for one in requirement.specifier if one.operator == ">="]
    return Version(bound)


@pytest.mark.parametrize("requirement", requirements(), ids=lambda one: one.name)
def test_a_dependency_has_a_lower_bound_and_a_tested_version_at_or_above_it(requirement: Requirement) -> None:
    lines = (line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    tested = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines if line)}
    version = Version(tested[canonicalize_name(requirement.name)])
    assert version >= lowest(requirement) and version in requirement.specifier


@pytest.mark.skipif("EXPECT_LOWEST" not in os.environ, reason="for make test-oldest")
@pytest.mark.parametrize("requirement", requirements(), ids=lambda one: one.name)
def test_the_lowest_version_is_the_one_that_runs(requirement: Requirement) -> None:
    """A bound that the resolver cannot choose is a bound that nobody has run."""
    here = [sysconfig.get_path("purelib")]  # nowhere else: Ray brings a psutil of its own
    (found,) = metadata.distributions(name=requirement.name, path=here)
    assert Version(found.version) == lowest(requirement)
