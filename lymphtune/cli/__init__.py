"""The command line: parse, call, print, exit code (0 done, 2 bad input, 130 interrupted)."""

import argparse
import sys
from collections.abc import Sequence

from lymphtune.cli import clusters, cohorts, ensembles, lists, reports, searches, stabilities
from lymphtune.cli.options import at_hand
from lymphtune.errors import InputError

ABOUT = """Search many bag-of-cells classifiers, stop the weak ones early, average the best.

  lymphtune search --space mixed --data DIR    train and compare
  lymphtune ensemble --top 5                   average the best, write the submission
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a bug keeps its traceback."""
    arguments = parser().parse_args(argv)
    try:
        with at_hand(arguments):
            arguments.call(arguments)
    except InputError as error:
        print(f"lymphtune: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lymphtune: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
    except OSError as error:  # what a person can mend: permissions, names too long, a full disk
        print(f"lymphtune: {error.filename or 'output'}: {error.strerror or error}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; nothing heavy is imported for it."""
    whole = argparse.ArgumentParser("lymphtune", description=ABOUT, formatter_class=argparse.RawTextHelpFormatter)
    whole.add_argument("--version", action="version", version=_version())
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (searches, ensembles, reports, stabilities, clusters, cohorts, lists):
        module.add(commands)
    return whole


def _version() -> str:
    from importlib.metadata import version

    return f"lymphtune {version('lymphtune')}"
