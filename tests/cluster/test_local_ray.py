"""Where a local Ray keeps its sockets and its token: wherever TMPDIR and the home folder lie."""

import atexit
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import lymphtune
from lymphtune.cluster import local_ray
from lymphtune.errors import InputError

LENGTHS = (34, 60, 100)  # of a TMPDIR


def folder_of(length: int) -> Path:
    base = tempfile.mkdtemp(prefix="t", dir="/tmp")
    atexit.register(shutil.rmtree, base, ignore_errors=True)  # pytest's own folders have longer paths
    path = Path(base) / ("x" * (length - len(base) - 1))
    path.mkdir()
    return path


@pytest.mark.parametrize("length", LENGTHS)
def test_a_long_temporary_folder_is_passed_over_and_said(
    length: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = folder_of(length)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    local_ray.check_local_ray()
    assert capsys.readouterr().err.startswith(f"Ray's sockets go to /tmp: {long} is longer than")
    with local_ray.local_folders() as folders:
        socket_path = f"{folders.sessions}{'s' * local_ray.IN_A_SESSION}"
        assert len(socket_path) <= local_ray.LONGEST_SOCKET
        assert folders.spill is not None and folders.spill.parent == long
        made = (folders.private, folders.spill)
        assert [stat.S_IMODE(folder.stat().st_mode) for folder in made] == [0o700, 0o700]
    assert not any(folder.exists() for folder in made)


def test_the_longest_temporary_folder_that_fits_is_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fits = folder_of(local_ray.LONGEST_PARENT)
    monkeypatch.setattr(tempfile, "tempdir", str(fits))
    local_ray.check_local_ray()
    assert capsys.readouterr().err == ""
    with local_ray.local_folders() as folders:
        assert folders.private.parent == fits and folders.spill is None
        assert len(f"{folders.sessions}{'s' * local_ray.IN_A_SESSION}") == local_ray.LONGEST_SOCKET


def test_no_folder_for_sockets_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_ray, "supports_sockets", lambda folder, prefix: False)
    with pytest.raises(InputError, match=r"TMPDIR .*: Ray's sockets need a writable folder with a path of at most"):
        local_ray.socket_parent()


def test_a_machine_without_ipv4_loopback_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    local_ray.check_loopback()
    with socket.socket() as given:
        kind = type(given)

    def refuse(self: socket.socket, address: object) -> None:
        raise OSError(99, "Cannot assign requested address")

    monkeypatch.setattr(kind, "bind", refuse)
    with pytest.raises(InputError, match=r"^127.0.0.1: a local Ray cannot listen there \(Cannot assign"):
        local_ray.check_loopback()


def test_a_token_is_private_and_the_environment_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_ray, "_read_settings_again", lambda: None)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "mine")
    path = tmp_path / "token"
    with local_ray.own_token(path):
        assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(path) and os.environ["RAY_AUTH_MODE"] == "token"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600 and len(path.read_text()) == 64
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == "mine" and "RAY_AUTH_MODE" not in os.environ


def test_ray_reads_its_settings_again_with_or_without_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray import _raylet

    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "there is none"))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    for mode, found in (("token", "TOKEN"), ("disabled", "DISABLED")):
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
        local_ray._read_settings_again()
        assert _raylet.get_authentication_mode() == getattr(_raylet.AuthenticationMode, found)


def test_what_fails_while_ray_reads_its_settings_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray import _raylet

    class Loader:
        @staticmethod
        def instance() -> "Loader":
            return Loader()

        def reset_cache(self) -> None:
            raise RuntimeError("another Ray")

    monkeypatch.setattr(_raylet, "AuthenticationTokenLoader", Loader)
    with pytest.raises(RuntimeError, match="another Ray"):
        local_ray._read_settings_again()


RAY = """
import atexit
import os
import shutil
from lymphtune.cluster.runner import ray, ray_cluster
with ray_cluster(None):
    print(os.environ["RAY_AUTH_MODE"], ray.get(ray.remote(lambda: 7).remote()))
print(os.environ.get("RAY_AUTH_MODE"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("home", ["a file", "empty", "with a token"])
@pytest.mark.parametrize("length", LENGTHS)
def test_a_local_ray_runs_without_a_word_in_the_home_folder(home: str, length: int, tmp_path: Path) -> None:
    place = tmp_path / "home"
    if home == "a file":
        place.write_text("")
    else:
        (place / ".ray").mkdir(parents=True)
    if home == "with a token":
        (place / ".ray/auth_token").write_text("the user's own")
    unset = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    root = str(Path(lymphtune.__file__).parents[1])
    environment = unset | {"HOME": str(place), "TMPDIR": str(folder_of(length)), "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", RAY], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.stdout.split() == ["token", "7", "None"], done.stderr
    if home != "a file":
        token = place / ".ray/auth_token"
        assert (token.read_text() if token.exists() else None) == ("the user's own" if "token" in home else None)
