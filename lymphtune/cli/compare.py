"""lymphtune compare: compare runs on the same patients."""

import argparse

from lymphtune.cli.options import Commands, add_command, add_moved_data, add_runs
from lymphtune.result import Result


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "compare",
        "compare runs on the same patients: paired differences with intervals",
        "lymphtune compare mixed images clinical",
    )
    parser.add_argument("compared", nargs="+", metavar="RUN", help="two or more runs; each is compared with the first")
    add_runs(parser)
    add_moved_data(parser)
    parser.set_defaults(call=compare)


def compare(arguments: argparse.Namespace) -> Result:
    from lymphtune.reporting.compare import compare_runs

    return compare_runs(arguments.compared, arguments.runs, arguments.data)
