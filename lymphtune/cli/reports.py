"""lymphtune report: a run as a page to look at."""

import argparse

from lymphtune.cli.options import add_command, add_runs
from lymphtune.result import Told


def add(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands, "report", "write a run's report.html, with its figures and tables", "lymphtune report --run mixed"
    )
    parser.add_argument("--run", metavar="NAME", help="run to report on (the latest)")
    add_runs(parser)
    parser.add_argument("--data", metavar="D", help="the run's cohort where it has moved (as then)")
    parser.add_argument("--ensemble", metavar="NAME", help="saved ensemble to judge (the newest; else the best five)")
    parser.add_argument("--no-pictures", dest="pictures", action="store_false", help="leave the patients' cells out")
    parser.set_defaults(call=report)


def report(arguments: argparse.Namespace) -> Told:
    from lymphtune.reporting.report import write_report
    from lymphtune.runs.run import find_run

    run = find_run(arguments.run, arguments.runs)
    path = write_report(run, arguments.data, arguments.ensemble, arguments.pictures)
    return Told(str(path), {"report": path})
