"""What surrounds the code: the cluster file is one, the shipped YAML travels, the project speaks of itself alone."""

import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tomllib
from copy import deepcopy
from importlib import metadata
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
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


# glibc and Python of Ubuntu's releases: libc6 and python3.N at packages.ubuntu.com
UBUNTU = {
    "18.04": ((2, 27), {"3.6", "3.7", "3.8"}),
    "20.04": ((2, 31), {"3.8", "3.9"}),
    "22.04": ((2, 35), {"3.10", "3.11"}),
    "24.04": ((2, 39), {"3.12"}),
}


def misfits(cluster: dict[str, Any]) -> list[str]:
    """Return what of images, Python and wheels does not go together."""
    images = {str(kind["node_config"].get("ImageId")) for kind in cluster["available_node_types"].values()}
    releases = {release for image in images for release in UBUNTU if f"ubuntu-{release}/" in image}
    if len(images) != 1 or len(releases) != 1:
        return [f"images {sorted(images)}: expected the same Ubuntu for all nodes"]
    libc, packages = UBUNTU[releases.pop()]
    commands = " ".join(cluster["setup_commands"])
    pythons = set(re.findall(r"python(3\.\d+)", commands))
    wanted = SpecifierSet(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"])
    wrong = [f"python{python}: not in that Ubuntu" for python in sorted(pythons - packages)]
    wrong += [f"python{python}: requires-python is {wanted}" for python in pythons if python not in wanted]
    if len(pythons) != 1 or f"python{min(pythons)}-venv" not in commands:
        wrong.append(f"{sorted(pythons)}: expected one Python, with its venv")
    for name, needed in glibc_of_wheels().items():
        if needed > libc:
            wrong.append(f"{name}: its wheel wants glibc {needed}, the image has {libc}")
    return wrong


def glibc_of_wheels() -> dict[str, tuple[int, int]]:
    """Return the oldest glibc that each pinned package's installed wheel takes, where it names one."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        try:
            wheel = distribution(name)
        except (PackageNotFoundError, ValueError):
            continue
        tags = re.findall(r"manylinux_2_(\d+)_x86_64", wheel.read_text("WHEEL") or "")
        if tags and wheel.version.partition("+")[0] == version.strip():
            found[name] = (2, min(map(int, tags)))
    return found


def test_the_cluster_s_image_has_the_python_and_glibc_that_the_wheels_want(cluster: dict[str, Any]) -> None:
    assert glibc_of_wheels()["torch"] >= (2, 27)
    assert misfits(cluster) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("ubuntu-24.04", "ubuntu-18.04"), "torch: its wheel wants glibc"),
        (("ubuntu-24.04", "ubuntu-22.04"), "python3.12: not in that Ubuntu"),
        (("python3.12", "python3.10"), "python3.10: requires-python is >=3.11"),
        (("3.12 python3.12-venv", "3.12"), "expected one Python, with its venv"),
        (("&image resolve", "&image none:resolve"), None),
        (("      ImageId: *image\n", ""), "expected the same Ubuntu"),
    ],
)
def test_an_image_that_does_not_fit_is_noticed(change: tuple[str, str], said: str | None) -> None:
    text = (ROOT / "cluster.yaml").read_text()
    assert change[0] in text
    wrong = "; ".join(misfits(yaml.safe_load(text.replace(*change))))
    assert said in wrong if said else wrong == ""


def test_another_ubuntu_with_its_own_python_fits_too() -> None:
    text = (ROOT / "cluster.yaml").read_text().replace("ubuntu-24.04", "ubuntu-22.04").replace("thon3.12", "thon3.11")
    assert misfits(yaml.safe_load(text)) == []


def test_workers_get_the_head_s_image_by_its_id(cluster: dict[str, Any], tmp_path: Path) -> None:
    """The commands that put it into the head's file, a stand-in for the machine's metadata service beside them."""
    curl = tmp_path / "curl"
    curl.write_text('#!/bin/sh\ncase "$*" in *meta-data/ami-id*) echo ami-0123456789abcdef0;; *) echo token;; esac\n')
    curl.chmod(0o755)
    given = tmp_path / "ray_bootstrap_config.yaml"
    given.write_text(json.dumps(cluster))
    command = next(command for command in cluster["head_start_ray_commands"] if "ami-id" in command)
    run = ["bash", "-c", command]
    for _ in range(2):  # `ray up` runs it again
        subprocess.run(run, check=True, env={"HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    kinds = json.loads(given.read_text())["available_node_types"].values()
    assert {kind["node_config"]["ImageId"] for kind in kinds} == {"ami-0123456789abcdef0"}


def test_ray_hands_the_image_s_parameter_on_as_it_stands(cluster: dict[str, Any]) -> None:
    config = pytest.importorskip("ray.autoscaler._private.aws.config", exc_type=ImportError)  # wants boto3
    given = deepcopy(cluster)
    config._check_ami(given)
    assert given["available_node_types"] == cluster["available_node_types"]


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
    assert built["force-include"] == {"search_spaces": "lymphtune/search_spaces", "ensembles": "lymphtune/ensembles"}


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
