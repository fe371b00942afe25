"""lymphtune doctor: check a cohort or a Ray cluster before a search."""

import argparse
from pathlib import Path

from lymphtune.cli.options import Commands, add_command, add_reference_date, seconds
from lymphtune.errors import InputError
from lymphtune.result import Result

CODES = "exit codes:\n  0  nothing worse than notes\n  3  warnings\n  2  errors, or findings of a cluster"


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "doctor",
        "check a cohort, or every node of a Ray cluster, before a search",
        f"lymphtune doctor --data mycohort --fix corrected\n\n{CODES}",
    )
    parser.add_argument(
        "--data", metavar="D", help="cohort to check: folder, packed .parquet file, or the word simulated"
    )
    parser.add_argument(
        "--fix",
        type=Path,
        metavar="OUT",
        help="write a corrected copy of --data and a log of every change to this folder",
    )
    add_reference_date(parser)
    parser.add_argument(
        "--address",
        metavar="A",
        help="Ray cluster to check: auto or HOST:PORT; with --data also whether the cohort fits",
    )
    parser.add_argument("--runs", metavar="DIR", help="folder or URI of the runs, to which every node tries to write")
    parser.add_argument(
        "--timeout", type=seconds, default=60.0, metavar="T", help="time to wait for the nodes (default: 60s)"
    )
    parser.set_defaults(call=doctor)


def doctor(arguments: argparse.Namespace) -> Result:
    if arguments.address is None and arguments.data is None:
        raise InputError(
            "doctor: nothing to check; name a cohort with --data, or a Ray cluster with --address auto or HOST:PORT"
        )
    if not 0 < arguments.timeout <= 3600:
        raise InputError(f"--timeout: {arguments.timeout:g} s; expected more than 0 s and at most 1h")
    if arguments.fix is not None and arguments.data is None:
        raise InputError("--fix: goes with --data, the folder to correct")
    if arguments.address is None:
        return _cohort(arguments)
    if arguments.data is None:
        return _cluster(arguments)
    return _both(arguments)


def _cohort(arguments: argparse.Namespace) -> Result:
    from lymphtune.cohort import REFERENCE_DATE
    from lymphtune.doctor.verdict import check_cohort, fix_cohort

    reference_date = arguments.reference_date or REFERENCE_DATE
    if arguments.fix is not None:
        return fix_cohort(arguments.data, arguments.fix, reference_date)
    from lymphtune.shortcuts.audit import shortcut_findings

    return check_cohort(arguments.data, reference_date, shortcut_findings)


def _cluster(arguments: argparse.Namespace) -> Result:
    from lymphtune.cluster.doctor import check_cluster

    return check_cluster(arguments.address, arguments.runs, arguments.data, arguments.timeout)


def _both(arguments: argparse.Namespace) -> Result:
    """Return both results as one, with the faults of either."""
    cluster, cohort = _cluster(arguments), _cohort(arguments)
    faulty = [result for result in (cluster, cohort) if result.fault]
    return Result(
        f"{cluster.text}\n\n{cohort.text}",
        cluster.values | {"cohort": cohort.values},
        ". ".join(result.fault for result in faulty),
        min((result.code for result in faulty), default=0),
    )
