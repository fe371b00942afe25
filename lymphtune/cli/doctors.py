"""lymphtune doctor: whether a cohort, or a Ray cluster, is fit for a search, before hours are spent on it."""

import argparse
from pathlib import Path

from lymphtune.cli.options import add_command, add_reference_date, seconds
from lymphtune.errors import InputError, Unfit
from lymphtune.result import Told

CODES = "exit codes:\n  0  nothing worse than notes\n  3  warnings\n  2  errors, or findings of a cluster"


def add(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands, "doctor", "check a cohort, or every node of a Ray cluster, before hours are spent on it",
        f"lymphtune doctor --data mycohort --fix corrected\n\n{CODES}",
    )  # fmt: skip
    parser.add_argument("--data", metavar="D", help="cohort: folder, packed .parquet file, or the word simulated")
    parser.add_argument(
        "--fix", type=Path, metavar="OUT", help="write a corrected copy of the folder, with a log of every change"
    )
    add_reference_date(parser)
    parser.add_argument("--address", metavar="A", help="of the Ray cluster: auto or HOST:PORT; --data must fit it too")
    parser.add_argument("--runs", metavar="DIR", help="storage of the runs, folder or URI: written to by every node")
    parser.add_argument("--timeout", type=seconds, default=60.0, metavar="T", help="for the nodes' answers (60s)")
    parser.set_defaults(call=doctor)


def doctor(arguments: argparse.Namespace) -> Told:
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


def _cohort(arguments: argparse.Namespace) -> Told:
    from lymphtune.cohort import REFERENCE_DATE
    from lymphtune.doctor.verdict import check_cohort, fix_cohort

    reference_date = arguments.reference_date or REFERENCE_DATE
    if arguments.fix is not None:
        return fix_cohort(arguments.data, arguments.fix, reference_date)
    from lymphtune.shortcuts.audit import shortcut_findings

    return check_cohort(arguments.data, reference_date, shortcut_findings)


def _cluster(arguments: argparse.Namespace) -> Told:
    from lymphtune.cluster.doctor import check_cluster

    return check_cluster(arguments.address, arguments.runs, arguments.data, arguments.timeout)


def _both(arguments: argparse.Namespace) -> Told:
    """Return what both say; what is said against either is raised as one."""
    told, faults = [], []
    for look in (_cluster, _cohort):
        try:
            told.append(look(arguments))
        except Unfit as unfit:
            told.append(unfit.told)
            faults.append(unfit)
    cluster, cohort = told
    both = Told(f"{cluster}\n\n{cohort}", cluster.values | {"cohort": cohort.values})
    if faults:
        raise Unfit(". ".join(map(str, faults)), both, min(fault.code for fault in faults))
    return both
