"""lymphtune runs: list the runs."""

import argparse
from typing import TYPE_CHECKING, Any

from lymphtune.cli.options import Commands, add_command, add_runs
from lymphtune.console import hanging
from lymphtune.result import Result

if TYPE_CHECKING:
    from lymphtune.runs.run import Run


def add(commands: Commands) -> None:
    parser = add_command(commands, "runs", "list the runs", "lymphtune runs")
    add_runs(parser)
    parser.set_defaults(call=runs)


def runs(arguments: argparse.Namespace) -> Result:
    from lymphtune.runs.run import all_runs

    rows = [_values(run) for run in all_runs(arguments.runs)]
    name, status = (max((len(row[column]) for row in rows), default=0) for column in ("name", "status"))
    lines = []
    for row in rows:
        cohort = row["cohort"] + (" (SIMULATED)" if row["simulated"] else "")
        start = f"{row['name']:{name}} {row['created'][:16].replace('T', ' ')} {row['status']:{status}}"
        lines += hanging(f"{start} {row['trials']:4} trials  {cohort}")
    return Result("\n".join(lines), rows)


def _values(run: "Run") -> dict[str, Any]:
    given = run.description
    cohort = given.cohort
    return {
        "name": run.name,
        "run": run.path,
        "created": given.created,
        "status": run.status,
        "trials": given.protocol.trials,
        "cohort": cohort.name,
        "cohort_hash": cohort.hash,
        "simulated": cohort.simulated,
    }
