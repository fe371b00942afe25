"""Options that several commands share, and how their values are read."""

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import date
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from lymphtune.errors import suggestion
from lymphtune.runs.storage import is_uri
from lymphtune.times import a_day, in_seconds

T = TypeVar("T")
Commands = argparse._SubParsersAction
DATA = "folder in the study's layout, packed .parquet file, or the word simulated (default: {})"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and that takes no abbreviated options: `--run` is not `--runs`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse an unknown option with the nearest known one."""
        parsed, others = super().parse_known_args(args, namespace)
        unknown = [word.partition("=")[0] for word in others if word.startswith("--")]
        if unknown:
            known = [option for action in self._actions for option in action.option_strings]
            self.error(f"unrecognized arguments: {' '.join(others)}{suggestion(unknown[0], known)}")
        return parsed, others

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            there = [str(choice) for choice in action.choices]
            found = f"invalid choice: {value!r} (choose from {', '.join(there)}){suggestion(value, there)}"
            raise argparse.ArgumentError(action, found)


def add_command(commands: Commands, name: str, about: str, example: str, json: bool = True) -> argparse.ArgumentParser:
    """Return a command's parser, with an example under its help; json: whether it has the option --json."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=about,
        description=about,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(json=False)
    if json:
        parser.add_argument("--json", action="store_true", help="print the result as JSON with unrounded numbers")
    return parser


def add_data(parser: argparse.ArgumentParser, default: str = "./data, else simulated") -> None:
    parser.add_argument("--data", metavar="D", help=DATA.format(default))


def add_moved_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="D", help="the run's cohort, if it was moved (default: where it was)")


def add_saved_ensemble(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ensemble", type=Path, required=True, metavar="DIR", help="folder that `lymphtune ensemble` wrote"
    )


def add_source(parser: argparse.ArgumentParser, shown: str, default: str | None = None) -> None:
    parser.add_argument(
        "--from",
        dest="source",
        choices=("networks", "clinical", "all"),
        default=default,
        help=f"kind of trials to take (default: {shown})",
    )


def add_pseudonymise(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pseudonymise",
        type=Path,
        metavar="FILE",
        help="write keyed hashes in place of ids, by the key in FILE, created if missing",
    )


def add_include_stopped(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--include-stopped",
        action="store_true",
        default=None,
        help="also take trials that were stopped early (default: the recipe's)",
    )


def add_reference_date(parser: argparse.ArgumentParser, default: str = "2020-01-01") -> None:
    parser.add_argument(
        "--reference-date",
        type=a_date,
        metavar="YYYY-MM-DD",
        help=f"date at which ages are computed in a cohort without dates of examination (default: {default})",
    )


def add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs",
        type=_runs,
        default=Path("runs"),
        metavar="DIR",
        help="folder of all runs, or a URI such as s3://bucket/runs (default: ./runs)",
    )
    parser.set_defaults(storage=None)


def _runs(text: str) -> Path | str:
    return text if is_uri(text) else Path(text)


def at_hand(arguments: argparse.Namespace) -> AbstractContextManager[None]:
    """Copy the runs that a command needs into a local folder where `--runs` is a URI."""
    if not isinstance(getattr(arguments, "runs", None), str) or "storage" not in arguments:
        return nullcontext()
    from lymphtune.cli.remote import brought

    return brought(arguments)


@contextmanager
def brought(command: str, given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a function's keywords, with `runs` a local folder where it is a URI, as `at_hand` does for a command."""
    if not isinstance(given.get("runs"), str) or not is_uri(given["runs"]):
        yield dict(given)
        return
    arguments = argparse.Namespace(**{"command": command, "storage": None, "resume": None} | dict(given))
    with at_hand(arguments):
        yield {**given, "runs": arguments.runs, "storage": arguments.storage}


def a_date(text: str) -> date:
    """Return a date written YYYY-MM-DD."""
    return _typed(a_day, text)


def gpus(text: str) -> float | str:
    """Return a number of GPUs, or the word auto."""
    try:
        return text if text == "auto" else float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of GPUs; expected 0, 0.25, 1 or auto") from error


def seconds(text: str) -> float:
    """Return seconds of 90, 90s, 30m or 2h."""
    return _typed(in_seconds, text)


def _typed(read: Callable[[str], T], text: str) -> T:
    """Return what a text stands for, read as the Python functions read it."""
    try:
        return read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
