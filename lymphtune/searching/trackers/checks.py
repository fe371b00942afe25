"""Trackers looked at before anything is trained: packages, folders, servers and logins, each within seconds."""

import os
import re
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lymphtune.errors import InputError, reason
from lymphtune.files import named_write_errors
from lymphtune.masking import masked
from lymphtune.searching.trackers.mlflow_tracker import client, database_of, load, missing

ANSWER_S = 5.0  # for a server
TABLES_S = 60.0  # for a database, whose tables are made the first time
ERRNO = re.compile(r"\[Errno -?\d+\] ([A-Za-z ]+)")
HEAD = b"SQLite format 3\0"


class Silent(Exception):
    """Something did not return in time."""


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """Return what the call returns, or raise what it raises; raises Silent where it takes longer."""
    result = list[Any]()
    failure = list[Exception]()

    def work() -> None:
        try:
            result.append(call())
        except Exception as error:  # noqa: BLE001  (raised again below)
            failure.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not result:
        raise Silent(f"no answer within {seconds:.0f} s")
    return result[0]


def check_packages(mlflow: str | None, wandb: str | None) -> None:
    """Raise InputError where a tracker's package is not installed."""
    for package, lacking in (("mlflow", mlflow and missing(mlflow)), ("wandb", wandb and find_spec("wandb") is None)):
        if lacking:
            raise InputError(f"--{package}: needs another package: pip install 'lymphtune[{package}]'")


def check_trackers(mlflow: str | None, wandb: str | None, search: str | None) -> None:
    """Raise InputError where a tracker cannot take what a search of that name would report."""
    if mlflow:
        _check_mlflow(mlflow, search)
    if wandb:
        _check_wandb()


def _check_mlflow(given: str, search: str | None) -> None:
    database, server = database_of(given), given.startswith(("http:", "https:"))
    if database:
        _check_database(database)
    load()  # which takes seconds that are not the server's

    def ask() -> Any:
        opened = client(given)
        opened.search_experiments(max_results=1)
        return [search and opened.get_experiment_by_name(search)]

    try:
        (there,) = within(ANSWER_S if server else TABLES_S, ask)
    except Exception as error:
        if server:
            raise InputError(
                f"--mlflow {masked(given)}: no MLflow server answers there ({_why(error)}); start it, name another "
                "address, or a folder"
            ) from error
        raise InputError(
            f"--mlflow {masked(given)}: MLflow cannot use it ({_why(error)}); expected a folder, sqlite:///FILE or "
            "http://HOST:PORT"
        ) from error
    if there and there.lifecycle_stage != "active":
        raise InputError(
            f"--mlflow {masked(given)}: the experiment '{search}' was deleted there; restore it (`mlflow experiments "
            f"restore -x {there.experiment_id}`) or take another --name"
        )


def _why(error: Exception) -> str:
    """Return the system's word for what is wrong, where there is one inside a long message."""
    found = ERRNO.search(str(error))
    return masked(found[1] if found else reason(error))


def _check_database(path: Path) -> None:
    """Raise InputError where a SQLite file cannot be written: MLflow would try again for minutes."""
    with named_write_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.parent / f".lymphtune-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    if not path.exists():
        return
    if not path.is_file() or not os.access(path, os.W_OK):
        raise InputError(f"{path}: not a file that can be written; name another folder with --mlflow")
    with path.open("rb") as file:
        head = file.read(len(HEAD))
    if head not in (b"", HEAD):
        raise InputError(f"{path}: not a SQLite database; name another folder with --mlflow")


def _check_wandb() -> None:
    import wandb

    remedy = "run `wandb login`, set WANDB_API_KEY, or set WANDB_MODE=offline to keep the data in the run's folder"
    try:
        settings = wandb.setup(settings=wandb.Settings(silent=True)).settings
        if settings.mode in ("offline", "disabled", "dryrun"):
            return
        logged_in = within(ANSWER_S, lambda: wandb.login(prompt=False, verify=True))
    except Silent as error:
        raise InputError(f"--wandb: {settings.base_url} gives {error}; {remedy}") from error
    except Exception as error:
        raise InputError(f"--wandb: cannot log in ({masked(reason(error))}); {remedy}") from error
    if not logged_in:
        raise InputError(f"--wandb: not logged in; {remedy}")
