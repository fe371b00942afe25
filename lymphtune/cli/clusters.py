"""lymphtune doctor: whether what a search needs is there, before hours are spent on it."""

import argparse

from lymphtune.cli.options import add_command, seconds
from lymphtune.errors import InputError
from lymphtune.result import Told


def add(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands, "doctor", "check every node of a Ray cluster before hours are spent on it",
        "lymphtune doctor --address auto --runs /shared/runs --data /shared/cohort",
    )  # fmt: skip
    parser.add_argument("--address", metavar="A", help="of the Ray cluster: auto or HOST:PORT")
    parser.add_argument("--runs", metavar="DIR", help="storage of the runs, folder or URI: written to by every node")
    parser.add_argument("--data", metavar="D", help="cohort that the nodes' memory must hold")
    parser.add_argument("--timeout", type=seconds, default=60.0, metavar="T", help="for the nodes' answers (60s)")
    parser.set_defaults(call=doctor)


def doctor(arguments: argparse.Namespace) -> Told:
    if arguments.address is None:
        raise InputError("doctor: nothing to check; name a Ray cluster with --address auto or --address HOST:PORT")
    if not 0 < arguments.timeout <= 3600:
        raise InputError(f"--timeout: {arguments.timeout:g} s; expected more than 0 s and at most 1h")
    from lymphtune.searching.doctor import check_cluster

    return check_cluster(arguments.address, arguments.runs, arguments.data, arguments.timeout)
