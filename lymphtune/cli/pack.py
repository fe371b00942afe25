"""lymphtune pack: write a cohort, pictures included, as one Parquet file."""

import argparse
from pathlib import Path

from lymphtune.cli.options import Commands, add_command, add_pseudonymise, add_reference_date
from lymphtune.result import Result


def add(commands: Commands) -> None:
    parser = add_command(
        commands, "pack", "write a cohort, pictures included, as one Parquet file", "lymphtune pack DIR cohort.parquet"
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="folder in the study's layout")
    parser.add_argument("out", type=Path, metavar="OUT", help=".parquet file to write")
    add_reference_date(parser)
    add_pseudonymise(parser)
    parser.set_defaults(call=pack)


def pack(arguments: argparse.Namespace) -> Result:
    from lymphtune.cohort import REFERENCE_DATE
    from lymphtune.cohort.packed import pack as write
    from lymphtune.cohort.pseudonyms import read_pseudonyms

    key = arguments.pseudonymise
    pseudonyms = None if key is None else read_pseudonyms(key, make=True)
    write(arguments.data, arguments.out, arguments.reference_date or REFERENCE_DATE, pseudonyms)
    return Result(str(arguments.out), {"cohort": arguments.out})
