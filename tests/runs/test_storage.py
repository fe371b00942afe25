"""Runs on a real S3 server: URIs, keys, the lock that the storage keeps, and commands that only read."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lymphtune.cli import main
from lymphtune.errors import InputError
from lymphtune.platforms import machine_id
from lymphtune.runs import driver_lock
from lymphtune.runs.driver_lock import LOCK, DriverLock, only_driver
from lymphtune.runs.mirror import Mirror, StorageError, check_writable
from lymphtune.runs.run import Run, resume_command
from lymphtune.runs.storage import S3, join, opened
from tests.s3 import KEY, SECRET, Server


@pytest.fixture
def uri(s3_server: Server, bucket: str) -> str:
    return s3_server.uri(bucket)


@pytest.fixture
def kept(uri: str, searched: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of runs, one of which is `searched`; the cache is this test's own, as another machine's is."""
    mirror = Mirror(join(uri, searched.name), searched.path)
    mirror._known = {}
    mirror.push("")
    (searched.path / ".mirror.json").unlink()
    monkeypatch.setenv("LYMPHTUNE_CACHE", str(tmp_path / "another machine"))
    return uri


def test_a_name_is_joined_before_the_query() -> None:
    assert join("s3://b/runs?scheme=http&endpoint_override=h:1", "w3") == (
        "s3://b/runs/w3?scheme=http&endpoint_override=h:1"
    )
    assert join("s3://k:s@b", "w3") == "s3://k:s@b/w3" and join("file:///a/b/", "c/d") == "file:///a/b/c/d"
    assert join("s3://b/runs/", "") == "s3://b/runs"


def test_a_command_to_resume_can_be_typed(tmp_path: Path) -> None:
    run = Run(tmp_path / "w3")
    uri = "s3://b/runs?scheme=http&endpoint_override=h:1"
    assert resume_command(run, uri) == f"lymphtune search --resume w3 --runs '{uri}'"
    assert resume_command(run) == f"lymphtune search --resume w3 --runs {tmp_path}"
    assert resume_command(Run(Path("runs/w3"))) == "lymphtune search --resume w3"


def test_a_folder_travels_without_markers(s3_server: Server, bucket: str, uri: str, tmp_path: Path) -> None:
    (tmp_path / "run" / "weights-epoch-3").mkdir(parents=True)
    (tmp_path / "run" / "weights-epoch-3" / "fold-0.txt").write_text("weights")
    (tmp_path / "run" / "run.yaml").write_text("name: run")
    mirror = Mirror(join(uri, "run"), tmp_path / "run")
    mirror.push("")
    assert s3_server.keys(bucket) == {"runs/run/weights-epoch-3/fold-0.txt", "runs/run/run.yaml"}
    mirror.remove("", ["weights-epoch-*"])
    assert s3_server.keys(bucket) == {"runs/run/run.yaml"}
    assert opened(uri).folders() == ["run"]


def test_markers_of_other_tools_are_no_files(s3_server: Server, bucket: str, uri: str, tmp_path: Path) -> None:
    import pyarrow.fs

    files, base = pyarrow.fs.FileSystem.from_uri(join(uri, "run"))
    files.create_dir(f"{base}/weights-epoch-3", recursive=True)
    assert any(key.endswith("weights-epoch-3") for key in s3_server.keys(bucket))
    Mirror(join(uri, "run"), tmp_path / "run").pull()
    assert not (tmp_path / "run").exists()


def test_the_environment_names_server_and_keys(
    s3_server: Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3_server.port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    check_writable(f"s3://{bucket}/runs")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "credentials").write_text(f"[mine]\naws_access_key_id={KEY}\naws_secret_access_key={SECRET}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    check_writable(f"s3://{bucket}/runs")
    assert s3_server.keys(bucket) == set()  # what it wrote is gone again


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda uri, bucket: uri.replace(bucket, "no-such-bucket"), "the bucket does not exist"),
        (lambda uri, bucket: uri.rpartition(":")[0] + ":9", "the server does not answer"),
        (lambda uri, bucket: f"{uri}&endpiont=x", "unknown option 'endpiont'; there are endpoint_override"),
    ],
)
def test_a_storage_that_cannot_be_used_is_named_before_anything_is_made(
    change, said: str, bucket: str, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("LYMPHTUNE_CACHE", str(tmp_path / "cache"))
    given = change(uri, bucket)
    with pytest.raises(StorageError, match=said):
        check_writable(given)
    for command in (["search", "--space", "tiny", "--name", "w3"], ["status", "w3"], ["runs"]):
        assert main([*command, "--runs", given]) == 2
        told = capsys.readouterr().err
        assert said in told and SECRET not in told and told.count("\n") == 1
    assert not (tmp_path / "cache").exists()


def test_commands_that_read_write_nothing_there(kept: str, s3_server: Server, bucket: str, capsys) -> None:
    before = _tags(s3_server, bucket)
    for command in (["status", "searched"], ["status"], ["runs"], ["compare", "searched", "searched"]):
        assert main([*command, "--runs", kept]) in (0, 2), capsys.readouterr().err
    assert _tags(s3_server, bucket) == before
    assert "lymphtune search --resume" not in capsys.readouterr().out


def test_a_run_that_is_not_there_is_named_by_its_uri(kept: str, s3_server: Server, tmp_path: Path, capsys) -> None:
    for command in (["status", "w9"], ["report", "--run", "w9"], ["search", "--resume", "w9"], ["stop", "w9"]):
        assert main([*command, "--runs", kept]) == 2
        told = capsys.readouterr().err
        assert "/runs/w9?scheme=http" in told and "no such run; there are: searched" in told
        assert SECRET not in told and str(tmp_path) not in told and told.count("\n") == 1
    empty = kept.replace("/runs?", "/none?")
    assert main(["status", "--runs", empty]) == 2
    told = capsys.readouterr().err
    assert "/none?scheme=http" in told and "no run in it" in told and str(tmp_path) not in told


def test_a_key_that_may_only_read_is_enough_to_look_and_no_search_starts_with_it(
    kept: str, searched: Run, s3_server: Server, bucket: str, tiny_cohort_folder: Path, tmp_path: Path, capsys
) -> None:
    Mirror(join(kept, "twin"), Path(shutil.copytree(searched.path, tmp_path / "twin"))).push("")
    before = _tags(s3_server, bucket)
    with s3_server.checking_keys() as reader:
        uri = s3_server.uri(bucket, keys=reader)
        for command in (["status", "searched"], ["runs"], ["compare", "searched", "twin"]):
            code, told = main([*command, "--runs", uri]), capsys.readouterr()
            assert code == 0, told.err
        new = ["--space", "tiny", "--trials", "2", "--epochs", "2", "--data", str(tiny_cohort_folder), "--name", "w3"]
        for command in (["search", *new], ["search", "--resume", "searched"]):
            code, told = main([*command, "--runs", uri]), capsys.readouterr()
            assert code == 2 and "Traceback" not in told.err
            assert f"{bucket}/runs" in told.err.splitlines()[-1] and "access denied" in told.err.splitlines()[-1]
            assert reader not in told.err
    assert _tags(s3_server, bucket) == before
    assert not list((tmp_path / "another machine").rglob("w3"))


@pytest.mark.parametrize(
    ("keys", "said"), [("AKIDWRONG:nothing", "the access key is not known there"), ("{}x", "does not belong to")]
)
def test_a_wrong_key_is_named_as_such(
    keys: str, said: str, s3_server: Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("LYMPHTUNE_CACHE", str(tmp_path / "cache"))
    with s3_server.checking_keys() as reader:
        uri = s3_server.uri(bucket, keys=keys.format(reader))
        for command in (["status"], ["search", "--space", "tiny", "--name", "w3"], ["search", "--resume", "w3"]):
            assert main([*command, "--runs", uri]) == 2
            told = capsys.readouterr().err
            assert said in told and told.count("\n") == 1 and keys.format(reader).partition(":")[2] not in told
    assert not (tmp_path / "cache").exists()


def test_a_command_leaves_alone_what_was_written_while_it_ran(
    kept: str, bucket: str, s3_server: Server, searched: Run
) -> None:
    """Between its pull and its end a search writes: a trial's files are in the bucket, and in no other cache."""
    from argparse import Namespace

    from lymphtune.cli.options import at_hand

    for command in ("status", "report", "ensemble", "stability", "robustness"):
        arguments = Namespace(command=command, runs=kept, storage=None, run="searched", name=None)
        with at_hand(arguments):
            s3_server.store(bucket).put(f"runs/searched/trials/{command}/weights/fold-0.safetensors", b"meanwhile")
            s3_server.store(bucket).put("runs/searched/ensembles/another/ensemble.yaml", command.encode())
            (arguments.runs / "searched" / "trials" / "stray.txt").parent.mkdir(exist_ok=True, parents=True)
            (arguments.runs / "searched" / "trials" / "stray.txt").write_text("not for the bucket")
            (arguments.runs / "searched" / "ensembles" / "top").mkdir(exist_ok=True, parents=True)
            (arguments.runs / "searched" / "ensembles" / "top" / "ensemble.yaml").write_text(command)
        keys = s3_server.keys(bucket)
        assert f"runs/searched/trials/{command}/weights/fold-0.safetensors" in keys
        assert "runs/searched/ensembles/another/ensemble.yaml" in keys and "runs/searched/trials/stray.txt" not in keys
    top = s3_server.store(bucket).get("runs/searched/ensembles/top/ensemble.yaml").bytes()
    assert bytes(top) == b"ensemble"  # sent by the one command that writes ensembles


def _tags(server: Server, bucket: str) -> dict[str, str]:
    return {meta["path"]: meta["e_tag"] for batch in server.store(bucket).list() for meta in batch}


def _lock(uri: str) -> DriverLock:
    return DriverLock(uri, S3(uri))


def test_a_living_search_is_not_joined_by_another(uri: str) -> None:
    first, second = _lock(uri), _lock(uri)
    first.acquire()
    with pytest.raises(InputError, match=rf"another search drives this run \(process {os.getpid()} of .* on .*, since"):
        second.acquire()
    first.release()
    second.acquire()
    first.renew()
    assert "process" in first.lost
    with pytest.raises(StorageError, match="taken over by another search"):
        first.check()
    second.check()
    first.release()  # which is no longer its to give back
    with pytest.raises(InputError, match="drives this run"):
        _lock(uri).acquire()


def _write_lock(uri: str, **owner: object) -> None:
    given = {"id": "other", "pid": 1, "host": "elsewhere", "machine": "elsewhere", "user": "ann", "since": "noon"}
    S3(uri).write(LOCK, json.dumps(given | owner).encode())


def test_a_lock_of_another_machine_is_waited_for_until_it_expires(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_lock(uri)
    with pytest.raises(InputError, match=r"process 1 of ann on elsewhere, since noon, heard of \d+ s ago"):
        _lock(uri).acquire()
    monkeypatch.setattr(driver_lock, "EXPIRES_S", 0.0)
    _lock(uri).acquire()


def test_a_lock_of_a_process_of_this_machine_that_has_ended_is_taken_at_once(uri: str) -> None:
    _write_lock(uri, machine=machine_id(), pid=os.getpid())
    with pytest.raises(InputError, match="drives this run"):
        _lock(uri).acquire()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    _write_lock(uri, machine=machine_id(), pid=ended.pid)
    _lock(uri).acquire()


def test_a_lock_that_holds_anything_is_waited_for(uri: str) -> None:
    for text in (b"", b"[1]", b"\xff", b'{"pid": "x"}'):
        S3(uri).write(LOCK, text)
        with pytest.raises(InputError, match="drives this run"):
            _lock(uri).acquire()


def test_of_many_at_once_one_gets_the_lock(uri: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def acquired(_: int) -> bool:
        try:
            _lock(uri).acquire()
        except StorageError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(acquired, range(8))) == 1


def test_the_lock_is_renewed_while_it_is_held_and_given_back(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_lock, "BEAT_EVERY_S", 0.05)
    with only_driver(uri) as may_write:
        first = S3(uri).read(LOCK)
        deadline = time.monotonic() + 60
        while S3(uri).read(LOCK) == first and time.monotonic() < deadline:
            time.sleep(0.05)
        assert S3(uri).read(LOCK) != first
        may_write()
    with only_driver(uri):
        pass


def test_a_folder_by_uri_is_locked_too(tmp_path: Path) -> None:
    with (
        only_driver(f"file://{tmp_path}/w3"),
        pytest.raises(InputError, match="held by another process"),
        only_driver(f"file://{tmp_path}/w3"),
    ):
        raise AssertionError("never begun")
    with only_driver(f"file://{tmp_path}/w3"):
        pass
