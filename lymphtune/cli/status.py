"""lymphtune status: show the progress of a search."""

import argparse
import sys
import time

from lymphtune.cli.options import Commands, add_command, add_runs
from lymphtune.result import Result

WATCHED_EVERY_S = 2.0


def add(commands: Commands) -> None:
    parser = add_command(commands, "status", "show the progress of a search", "lymphtune status mixed --watch")
    parser.add_argument("name", nargs="?", metavar="NAME", help="run name (default: the latest)")
    parser.add_argument(
        "--watch",
        action="store_true",
        help=f"show it again every {WATCHED_EVERY_S:.0f} s until the search ends (with --json: only once it has ended)",
    )
    add_runs(parser)
    parser.set_defaults(call=status)


def status(arguments: argparse.Namespace) -> Result:
    from lymphtune.runs.run import find_run
    from lymphtune.searching.progress import status_text, status_values

    run = find_run(arguments.name, arguments.runs)
    start, shown = "\x1b[2J\x1b[H" if arguments.watch and sys.stdout.isatty() else "", ""
    while arguments.watch and run.status == "running":
        text = status_text(run)
        if text != shown and not arguments.json:
            print(f"{start}{text}", flush=True)
            shown = text
        time.sleep(WATCHED_EVERY_S)
    return Result(f"{start}{status_text(run, arguments.storage)}", status_values(run))
