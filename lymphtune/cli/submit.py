"""lymphtune submit: check a submission before it is handed in."""

import argparse
from pathlib import Path

from lymphtune.cli.options import Commands, add_command, add_runs
from lymphtune.console import hanging
from lymphtune.errors import InputError
from lymphtune.result import Result


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "submit",
        "check a submission before it is handed in",
        "lymphtune submit --check runs/mixed/ensembles/top/submission.csv",
    )
    parser.add_argument("--check", type=Path, required=True, metavar="FILE", help="submission.csv to check")
    parser.add_argument("--data", metavar="D", help="cohort of its patients (default: the run's)")
    parser.add_argument("--run", metavar="NAME", help="run whose cohort it belongs to (default: the latest)")
    add_runs(parser)
    parser.add_argument(
        "--pseudonymise",
        type=Path,
        metavar="FILE",
        help="key file of the pseudonyms, together with --data (default: the run's)",
    )
    parser.add_argument(
        "--real-ids", type=Path, metavar="OUT", help="write the submission with real ids in place of pseudonyms"
    )
    parser.set_defaults(call=submit)


def submit(arguments: argparse.Namespace) -> Result:
    from lymphtune.ensembling.submission import submission_report, write_real_ids

    whose = {"data": arguments.data, "run": arguments.run, "runs": arguments.runs, "key": arguments.pseudonymise}
    report = submission_report(arguments.check, **whose)
    lines = [row for line in report.lines for row in hanging(line)]
    if report.n_errors:
        fault = f"{report.summary}; correct the errors and check again"
        return Result("\n".join(lines), report.values, fault, InputError.code)
    values = report.values
    if arguments.real_ids is not None:
        write_real_ids(arguments.check, arguments.real_ids, **whose)
        lines, values = [*lines, str(arguments.real_ids)], values | {"real_ids": arguments.real_ids}
    return Result("\n".join([*lines, *hanging(report.summary)]), values)
