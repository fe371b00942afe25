"""Options that several commands share, and what their values may be."""

import argparse
from datetime import date
from pathlib import Path

DATA = "folder in the study's layout, packed .parquet file, or the word simulated (default: ./data, else simulated)"


def add_command(commands: argparse._SubParsersAction, name: str, about: str, example: str) -> argparse.ArgumentParser:
    """Return a command's parser, with an example under its help."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=about, epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    return parser


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="D", help=DATA)


def add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of all runs (./runs)")


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
