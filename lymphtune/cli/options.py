"""Options that several commands share, and what their values may be."""

import argparse
from contextlib import AbstractContextManager, nullcontext
from datetime import date
from pathlib import Path
from typing import NoReturn

from lymphtune.storage import is_uri

DATA = "folder in the study's layout, packed .parquet file, or the word simulated (default: ./data, else simulated)"


class Parser(argparse.ArgumentParser):
    """A parser that refuses in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def add_command(
    commands: argparse._SubParsersAction, name: str, about: str, example: str, json: bool = True
) -> argparse.ArgumentParser:
    """Return a command's parser, with an example under its help; json: its result can be had as values."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=about, epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(json=False)
    if json:
        parser.add_argument("--json", action="store_true", help="print one JSON document, numbers unrounded")
    return parser


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="D", help=DATA)


def add_pseudonymise(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pseudonymise", type=Path, metavar="FILE", help="write keyed hashes for ids; file of the key, made if missing"
    )


def add_include_stopped(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--include-stopped",
        action="store_true",
        default=None,
        help="take trials that were stopped early beside those that ran to their end (default: the recipe's)",
    )


def add_reference_date(parser: argparse.ArgumentParser, default: str = "2020-01-01") -> None:
    parser.add_argument(
        "--reference-date", type=a_date, metavar="YYYY-MM-DD",
        help=f"day to which ages are counted, of a cohort without dates of examination (default: {default})",
    )  # fmt: skip


def add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs",
        type=_runs,
        default=Path("runs"),
        metavar="DIR",
        help="folder of all runs, or a URI: s3://... (./runs)",
    )
    parser.set_defaults(storage=None)


def _runs(text: str) -> Path | str:
    return text if is_uri(text) else Path(text)


def at_hand(arguments: argparse.Namespace) -> AbstractContextManager[None]:
    """Have the runs that the arguments mean in a folder here where `--runs` is a URI."""
    if not isinstance(getattr(arguments, "runs", None), str) or "storage" not in arguments:
        return nullcontext()
    from lymphtune.cli.remote import brought

    return brought(arguments)


def a_date(text: str) -> date:
    """Return a date written YYYY-MM-DD."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date; expected YYYY-MM-DD") from error


def gpus(text: str) -> float | str:
    """Return a number of GPUs, or the word auto."""
    try:
        return text if text == "auto" else float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of GPUs; expected 0, 0.25, 1 or auto") from error


def seconds(text: str) -> float:
    """Return seconds of 90, 90s, 30m or 2h."""
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    try:
        return float(number) * unit
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; expected 90s, 30m or 2h") from error
