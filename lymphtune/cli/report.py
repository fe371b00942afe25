"""lymphtune report: write a run's report."""

import argparse

from lymphtune.cli.options import Commands, add_command, add_moved_data, add_runs
from lymphtune.result import Result


def add(commands: Commands) -> None:
    parser = add_command(
        commands, "report", "write a run's report.html with its figures and tables", "lymphtune report --run mixed"
    )
    parser.add_argument("--run", metavar="NAME", help="run to report on (default: the latest)")
    add_runs(parser)
    add_moved_data(parser)
    parser.add_argument(
        "--ensemble",
        metavar="NAME",
        help="saved ensemble to score (default: the newest, or the best five trials where there is none)",
    )
    parser.add_argument(
        "--no-pictures", dest="pictures", action="store_false", help="leave out the pictures of patients' cells"
    )
    parser.set_defaults(call=report)


def report(arguments: argparse.Namespace) -> Result:
    from lymphtune.reporting.report import write_report
    from lymphtune.runs.run import find_run

    run = find_run(arguments.run, arguments.runs)
    path = write_report(run, arguments.data, arguments.ensemble, arguments.pictures)
    return Result(str(path), {"report": path})
