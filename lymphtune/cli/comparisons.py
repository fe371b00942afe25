"""lymphtune compare: several runs on the same patients."""

import argparse

from lymphtune.cli.options import add_command, add_runs
from lymphtune.result import Told


def add(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands, "compare", "compare runs on the same patients, paired, with intervals",
        "lymphtune compare mixed images clinical",
    )  # fmt: skip
    parser.add_argument("compared", nargs="+", metavar="RUN", help="two runs or more; differences are to the first")
    add_runs(parser)
    parser.add_argument("--data", metavar="D", help="the runs' cohort where it has moved (as then)")
    parser.set_defaults(call=compare)


def compare(arguments: argparse.Namespace) -> Told:
    from lymphtune.reporting.compare import compare_runs

    return compare_runs(arguments.compared, arguments.runs, arguments.data)
