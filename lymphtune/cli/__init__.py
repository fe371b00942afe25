"""The command line: parse, call, print, exit code.

A command's function returns what it has to say; `main` alone prints it, as text or as JSON.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout

from lymphtune.cli import (
    cohorts,
    comparisons,
    completions,
    doctors,
    ensembles,
    lists,
    reports,
    robustnesses,
    searches,
    stabilities,
)
from lymphtune.cli.options import Parser, at_hand
from lymphtune.errors import InputError, Unfit, one_line
from lymphtune.masking import masked
from lymphtune.result import Told

ABOUT = """Search many bag-of-cells classifiers, stop the weak ones early, average the best.

  lymphtune search --space mixed --data DIR    train and compare
  lymphtune ensemble --top 5                   average the best, write the submission
"""
EXIT_CODES = """exit codes:
  0    done; `lymphtune` alone prints this help
  1    a fault of lymphtune itself, with its traceback
  2    something handed in does not fit: one line on stderr says what and what would do
  3    looked over by doctor, and doubtful: warnings, no error
  130  interrupted; what was trained is kept
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a bug keeps its traceback."""
    given = sys.argv[1:] if argv is None else argv
    if not given:
        parser().print_help()
        return 0
    arguments = parser().parse_args(given)
    try:
        with at_hand(arguments):
            _call(arguments)
    except InputError as error:
        print(f"lymphtune: {one_line(masked(str(error)))}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("lymphtune: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
    except OSError as error:  # what a person can mend: permissions, names too long, a full disk
        said = f"{error.filename or 'output'}: {error.strerror or error}"
        print(f"lymphtune: {one_line(masked(said))}", file=sys.stderr)
        return 2
    return 0


def _call(arguments: argparse.Namespace) -> None:
    """Run the command and print what it found, faults included; with --json stdout is for the document alone."""
    try:
        with redirect_stdout(sys.stderr) if arguments.json else nullcontext():
            told = arguments.call(arguments)
    except Unfit as unfit:
        _print(unfit.told, arguments.json)
        raise
    _print(told, arguments.json)


def _print(told: Told, json: bool) -> None:
    """Print a result; no text where it has been shown while it was made."""
    if json or told:
        print(masked(told.document if json else told), flush=True)


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; nothing heavy is imported for it."""
    whole = Parser(
        "lymphtune", description=ABOUT, epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    whole.add_argument("--version", action="version", version=_version())
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (
        searches,
        ensembles,
        reports,
        comparisons,
        stabilities,
        robustnesses,
        doctors,
        cohorts,
        lists,
    ):
        module.add(commands)
    completions.add(commands, whole)
    return whole


def _version() -> str:
    from lymphtune.versions import version

    return f"lymphtune {version('lymphtune')}"
