"""Trackers are looked at before anything is trained: what cannot take a search's trials is refused in one line."""

import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lymphtune.errors import InputError
from lymphtune.searching.prepare import prepare
from lymphtune.searching.settings import Settings
from lymphtune.searching.trackers import checks
from lymphtune.searching.trackers.checks import check_trackers
from tests.searching.trackers.mlflow_server import served


@pytest.mark.parametrize("package", ["mlflow", "wandb"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    monkeypatch.setattr(checks, "missing", lambda given: True)
    with pytest.raises(InputError, match=rf"--{package}: needs another package: pip install 'lymphtune\[{package}\]'"):
        Settings(**{package: "somewhere"})


def test_trackers_are_checked_before_the_cohort_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: name)
    monkeypatch.setattr("lymphtune.searching.prepare.load_cohort", pytest.fail)
    (tmp_path / "file").write_text("")
    settings = Settings(mlflow=str(tmp_path / "file" / "inside"))
    with pytest.raises(InputError, match=r"file.*cannot be written"):
        prepare("tiny", "nowhere", settings)
    monkeypatch.undo()
    with pytest.raises(InputError, match="nowhere"):  # a dry run reports nothing, and asks nobody
        prepare("tiny", tmp_path / "nowhere", settings, dry=True)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("a letter, and not a database")
    with pytest.raises(InputError, match=r"mlflow\.db: not a SQLite database; name another folder with --mlflow"):
        check_trackers(str(tmp_path), None, None)


def test_a_folder_passes_and_a_deleted_experiment_in_it_does_not(mlflow_folder: Path) -> None:
    given = str(mlflow_folder)
    check_trackers(given, None, "mine")
    client = checks.client(given)
    client.delete_experiment(client.create_experiment("mine"))
    with pytest.raises(InputError, match=r"experiment 'mine' was deleted there; restore it .* or take another --name"):
        check_trackers(given, None, "mine")
    check_trackers(given, None, "another")


@pytest.mark.parametrize("given", ["ftp://host/x", "nosuch://x"])
def test_what_mlflow_does_not_know_is_refused(given: str) -> None:
    pytest.importorskip("mlflow")
    with pytest.raises(
        InputError, match=f"--mlflow {given}: MLflow cannot use it .* expected a folder, sqlite:///FILE"
    ):
        check_trackers(given, None, None)


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_is_not_there_is_refused() -> None:
    pytest.importorskip("mlflow")
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"http://user:hunter2@127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=r"answers there \(Connection refused\); start it") as refused:
            check_trackers(address, None, None)
    assert "hunter2" not in str(refused.value) and "\n" not in str(refused.value)


def test_a_server_that_answers_passes_and_another_kind_of_server_does_not() -> None:
    pytest.importorskip("mlflow")
    with served() as server:
        check_trackers(server.address, None, "mine")
        with pytest.raises(InputError, match="no MLflow server answers there"):
            check_trackers(f"{server.address}/elsewhere?", None, None)


def test_a_server_that_does_not_answer_is_refused(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setattr(checks, "ANSWER_S", 1.0)
    with pytest.raises(InputError, match=r"no MLflow server answers there \(no answer within 1 s\); start it, name"):
        check_trackers(silent, None, None)


def wandb_of(mode: str, login: Callable[[], bool]) -> Any:
    """Stand in for the package: settings of a mode, and a login."""
    settings = SimpleNamespace(mode=mode, base_url="https://api.wandb.ai")
    return SimpleNamespace(
        Settings=lambda **given: given,
        setup=lambda settings=None, own=settings: SimpleNamespace(settings=own),
        login=lambda prompt, verify: login(),
    )


def never() -> bool:
    raise AssertionError("asked the server in offline mode")


def test_wandb_without_a_login_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", wandb_of("online", lambda: False))
    with pytest.raises(InputError, match=r"--wandb: not logged in; run `wandb login`, .* or set WANDB_MODE=offline"):
        check_trackers(None, "project", None)


@pytest.mark.parametrize(("mode", "login"), [("offline", never), ("disabled", never), ("online", lambda: True)])
def test_wandb_passes_offline_or_with_a_login(
    mode: str, login: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", wandb_of(mode, login))
    check_trackers(None, "project", None)


def test_the_installed_wandb_is_asked_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb").teardown()
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(InputError, match="--wandb: not logged in"):
        check_trackers(None, "project", None)
    pytest.importorskip("wandb").teardown()
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_trackers(None, "project", None)
