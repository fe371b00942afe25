"""The command line: parse, call, print, exit code.

A command's function returns its result; only `main` prints it, as text or as JSON.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from importlib import import_module

from lymphtune.cli import completion
from lymphtune.cli.options import Parser, at_hand
from lymphtune.errors import InputError, one_line
from lymphtune.masking import masked
from lymphtune.result import Result

COMMANDS = (
    "search",
    "status",
    "stop",
    "ensemble",
    "predict",
    "export",
    "submit",
    "report",
    "compare",
    "stability",
    "robustness",
    "doctor",
    "simulate",
    "pack",
    "spaces",
    "recipes",
    "runs",
)
ABOUT = """Search many bag-of-cells classifiers, stop the weak ones early, average the best.

  lymphtune search --space mixed --data DIR    train and compare
  lymphtune ensemble --top 5                   average the best, write the submission
"""
EXIT_CODES = """exit codes:
  0    success; `lymphtune` without a command prints this help
  1    an error in lymphtune itself, with its traceback
  2    invalid input: one line on stderr says where, what was found and what is expected
  3    the doctor found warnings, but no errors
  130  interrupted; trained models are kept
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an error in lymphtune itself keeps its traceback."""
    given = sys.argv[1:] if argv is None else argv
    if not given:
        parser().print_help()
        return 0
    arguments = parser().parse_args(given)
    try:
        with at_hand(arguments):
            return _call(arguments)
    except InputError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        print("lymphtune: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
    except OSError as error:  # which a user can correct: permissions, names too long, a full disk
        return _fail(f"{error.filename or 'output'}: {error.strerror or error}")
    return 0


def _fail(message: str, code: int = InputError.code) -> int:
    print(f"lymphtune: {one_line(masked(message))}", file=sys.stderr)
    return code


def _call(arguments: argparse.Namespace) -> int:
    """Run the command, print its result and return the exit code; with --json stdout holds the document alone."""
    with redirect_stdout(sys.stderr) if arguments.json else nullcontext():
        result: Result = arguments.call(arguments)
    if arguments.json or result.text:
        print(masked(result.document if arguments.json else result.text), flush=True)
    return _fail(result.fault, result.code) if result.fault else 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; nothing heavy is imported for it."""
    whole = Parser(
        "lymphtune", description=ABOUT, epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    whole.add_argument("--version", action="version", version=_version())
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        import_module(f"lymphtune.cli.{name}").add(commands)
    completion.add(commands, whole)
    return whole


def _version() -> str:
    from lymphtune.versions import version

    return f"lymphtune {version('lymphtune')}"
