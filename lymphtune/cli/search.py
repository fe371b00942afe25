"""lymphtune search: train and compare many classifiers."""

import argparse
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lymphtune.cli.options import (
    Commands,
    add_command,
    add_data,
    add_pseudonymise,
    add_reference_date,
    add_runs,
    gpus,
    seconds,
)
from lymphtune.errors import InputError
from lymphtune.result import Result
from lymphtune.searching.settings import Settings, option_of

if TYPE_CHECKING:
    from lymphtune.runs.run import Run

READERS: dict[str, Callable[[str], Any]] = {
    "int": int,
    "str": str,
    "Folder": Path,
    "Seconds": seconds,
    "float | Literal['auto']": gpus,
}
FLAGS = {"time_budget_s": "--time-budget"}


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "search",
        "train and compare many classifiers",
        "lymphtune search --space mixed --data DIR --trials 20 --epochs 30",
    )
    parser.add_argument("--space", metavar="S", help="search space: a shipped one or a .yaml file (default: mixed)")
    add_data(parser)
    add_runs(parser)
    parser.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="NAME",
        help="resume an interrupted run, or extend one with more --trials or --epochs (without NAME: the latest run)",
    )
    parser.add_argument("--retry-failed", action="store_true", help="with --resume: train failed trials again")
    for setting in fields(Settings):
        if option_of(setting).help:
            _add_setting(parser, setting)
    add_reference_date(parser)
    add_pseudonymise(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be trained, and its cost; train nothing"
    )
    parser.set_defaults(call=search)


def _add_setting(parser: argparse.ArgumentParser, setting: Field[Any]) -> None:
    """Add the option of one setting; its value is None unless it is given."""
    known = option_of(setting)
    options: dict[str, Any] = {"dest": setting.name, "help": f"{known.help} (default: {known.shown})"}
    kind = str(setting.type).removesuffix(" | None")
    if kind == "bool":
        options |= {"action": argparse.BooleanOptionalAction, "default": None}
    else:
        options |= {"type": READERS[kind], "metavar": known.metavar}
    if setting.name == "wandb":
        options |= {"nargs": "?", "const": "lymphtune"}
    parser.add_argument(FLAGS.get(setting.name, f"--{setting.name.replace('_', '-')}"), **options)


def search(arguments: argparse.Namespace) -> Result:
    names = [setting.name for setting in fields(Settings)]
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    if arguments.resume is not None:
        return _result(_resume(arguments, given))
    if arguments.retry_failed:
        raise InputError("--retry-failed: goes with --resume NAME")
    settings, space = Settings(**given), arguments.space or "mixed"
    if arguments.dry_run:
        from lymphtune.cluster.driver import check_address
        from lymphtune.cluster.estimate import dry_run

        check_address(settings)
        return dry_run(space, arguments.data, settings)
    from lymphtune.cluster.driver import search as run_search
    from lymphtune.searching.budget import process_started

    return _result(run_search(space, arguments.data, settings, process_started()))


def _resume(arguments: argparse.Namespace, given: dict[str, Any]) -> "Run":
    for name in ("space", "dry_run", "name"):
        if getattr(arguments, name):
            option = name.replace("_", "-")
            raise InputError(f"--{option}: does not go with --resume, which takes what the run was started with")
    from lymphtune.cluster.driver import resume
    from lymphtune.searching.budget import process_started

    runs = given.pop("runs")
    return resume(arguments.resume or None, runs, arguments.data, arguments.retry_failed, process_started(), **given)


def _result(run: "Run") -> Result:
    """Return the values of a finished search; its text was printed by the search."""
    from lymphtune.searching.progress import status_values

    return Result("", status_values(run))
