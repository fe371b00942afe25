"""The checks of a cluster, on what nodes might say; no Ray. What a real one says: test_clusters.py."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import lymphtune
from lymphtune.cli import main
from lymphtune.cluster import probe
from lymphtune.cluster.doctor import check_node, check_tokens, checked_storage, pictures_bytes, report
from lymphtune.cluster.node import Node
from lymphtune.errors import InputError
from lymphtune.findings import Finding

HERE = {"versions": {"python": "3.11.7", "ray": "2.60.0", "torch": "2.14.1"}, "source": "a" * 64}
SAID = HERE | {"token": True, "free": {"Ray's folder": 50_000_000_000}}
GPU = {"name": "L4", "bytes": 24_000_000_000}
WELL = Node("10.0.0.2", 1.0, 2e9, SAID, None, True, (GPU,), 0.3, 0.01)


def states(node: Node, pictures: int | None = 1_000_000_000, storage: bool = True) -> dict[str, Finding]:
    return {line.check: line for line in check_node(node, HERE, pictures, storage)}


def test_a_node_like_the_driver_has_no_findings() -> None:
    lines = states(WELL)
    assert {line.severity for line in lines.values()} == {"ok"}
    assert set(lines) == {"versions", "lymphtune", "disk", "storage", "gpus", "memory", "clock"}
    assert not any(line.cure for line in lines.values())


@pytest.mark.parametrize(
    ("change", "check", "text"),
    [
        (
            {"answer": SAID | {"versions": HERE["versions"] | {"torch": "2.13.0"}}},
            "versions",
            "torch 2.13.0, here 2.14.1",
        ),
        ({"answer": SAID | {"versions": HERE["versions"] | {"torch": None}}}, "versions", "torch missing, here 2.14.1"),
        ({"answer": SAID | {"source": "b" * 64}}, "lymphtune", "another source: bbbbbbbb, here aaaaaaaa"),
        ({"answer": SAID | {"source": None}}, "lymphtune", "cannot be imported"),
        ({"answer": SAID | {"free": {"Ray's folder": 6e9, "the storage": 4e9}}}, "disk", "4.0 GB free in the storage"),
        ({"answer": "no answer within 60 s"}, "answer", "no answer within 60 s"),
        ({"written": "PermissionError: /runs"}, "storage", "cannot be written: PermissionError: /runs"),
        ({"read_back": False}, "storage", "not seen here"),
        ({"gpus": 2.0}, "gpus", "Ray gives 2, torch sees 1"),
        ({"torch_gpus": ()}, "gpus", "Ray gives 1, torch sees 0"),
        ({"torch_gpus": None}, "gpus", "torch is missing"),
        ({"store_bytes": 1.09e9}, "memory", "object store 1.1 GB for 1.0 GB of pictures"),
        ({"skew_s": 2.5}, "clock", r"+2.50 s from here"),
        ({"skew_s": -2.5}, "clock", r"-2.50 s from here"),
    ],
)
def test_what_does_not_fit_is_a_finding_with_something_to_do(change: dict[str, object], check: str, text: str) -> None:
    found = [line for line in states(replace(WELL, **change)).values() if line.severity != "ok"]  # type: ignore[arg-type]
    assert [(line.check, line.severity) for line in found] == [(check, "error")]
    assert text in found[0].text and found[0].cure


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"torch_gpus": "in use"}, "gpus"),
        ({"skew_s": None}, "clock"),
        ({"answer": SAID | {"free": {"x": None}}}, "disk"),
    ],
)
def test_what_cannot_be_known_is_no_finding(change: dict[str, object], check: str) -> None:
    assert states(replace(WELL, **change))[check].severity == "note"  # type: ignore[arg-type]


def test_without_storage_or_cohort_nothing_is_claimed_of_them() -> None:
    lines = states(WELL, pictures=None, storage=False)
    assert "storage" not in lines and lines["memory"].severity == "note"


def test_a_clock_is_wrong_only_beyond_what_the_round_trip_hides() -> None:
    assert states(replace(WELL, skew_s=2.5, error_s=0.6))["clock"].severity == "ok"
    assert states(replace(WELL, skew_s=2.7, error_s=0.6))["clock"].severity == "error"


def test_tokens_off_is_a_note_unless_the_cluster_is_on_loopback() -> None:
    off = replace(WELL, answer=SAID | {"token": False})
    assert [line.severity for line in check_tokens([WELL, off])] == ["note"]
    assert "RAY_AUTH_MODE=token" in check_tokens([off])[0].cure
    assert [line.severity for line in check_tokens([WELL])] == ["ok"]
    assert [line.severity for line in check_tokens([replace(off, name="127.0.0.1/ab")])] == ["ok"]


def test_the_table_is_80_columns_wide_and_says_each_cure_once() -> None:
    long = "torch 2.13.0, here 2.14.1; timm 1.0.29, here 1.0.31; numpy 2.3.1, here 2.4.6"
    text = report([Finding("error", "versions", long, "Install it.", (f"10.0.0.{n}",)) for n in (2, 3)])
    lines = text.splitlines()
    assert (
        max(map(len, lines)) == 80 and lines[0].startswith("!  10.0.0.2 versions  torch") and lines[0].endswith("...")
    )
    assert text.count("Install it.") == 1 and "numpy 2.3.1, here 2.4.6" in " ".join(text.split())


def test_the_source_hash_is_the_same_for_a_wheel_and_a_checkout(tmp_path: Path) -> None:
    checkout, wheel = tmp_path / "checkout" / "lymphtune", tmp_path / "site-packages" / "lymphtune"
    package = Path(lymphtune.__file__).parent
    for copy in (checkout, wheel):
        shutil.copytree(package, copy, ignore=shutil.ignore_patterns("*.pyc"))
    for folder in probe.SHIPPED:
        shutil.copytree(package.parent / folder, checkout.parent / folder)
        shutil.copytree(package.parent / folder, wheel / folder)
    assert probe.hash_of_package(checkout) == probe.hash_of_package(wheel) == probe.source_hash()
    space = wheel / "search_spaces" / "tiny.yaml"
    space.write_text(space.read_text() + "\n")
    assert probe.hash_of_package(wheel) != probe.source_hash()


def test_a_node_without_lymphtune_says_so(tmp_path: Path) -> None:
    """The probe's text runs alone, as it does on a node where only Ray is installed."""
    shutil.copy(probe.__file__, tmp_path / "probe.py")
    code = "import probe, json; said = probe.describe('/', None); print(said['source'], said['versions']['lymphtune'])"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, env={}, capture_output=True, text=True)
    assert done.stdout.split() == ["None", "None"], done.stderr


def test_a_folder_and_a_uri_of_it_are_the_same_storage(tmp_path: Path) -> None:
    uri = tmp_path.as_uri()
    assert probe.write_token(str(tmp_path), "file", "token") is None
    assert probe.read_token(uri, "file") == "token"
    probe.remove_token(uri, "file")
    assert probe.read_token(str(tmp_path), "file") is None
    assert probe.write_token(uri, "file", "other") is None and (tmp_path / "file").read_text() == "other"
    assert "nowhere" in str(probe.write_token(str(tmp_path / "nowhere"), "file", "token"))


def test_the_size_of_pictures_is_known_without_decoding(tiny_cohort_folder: Path) -> None:
    expected = lymphtune.load_cohort(tiny_cohort_folder).pictures_CSS3.nbytes
    assert pictures_bytes(str(tiny_cohort_folder)) == expected


def test_storage_that_cannot_be_is_refused(tmp_path: Path) -> None:
    assert checked_storage(str(tmp_path / "." / "")) == str(tmp_path)
    with pytest.raises(InputError, match="no such folder; make it"):
        checked_storage(str(tmp_path / "none"))
    with pytest.raises(InputError, match="runs abc://x: cannot be opened"):
        checked_storage("abc://x")


def test_doctor_needs_something_to_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == (
        "lymphtune: doctor: nothing to check; name a cohort with --data, or a Ray cluster with --address auto or "
        "HOST:PORT\n"
    )
