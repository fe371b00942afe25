"""lymphtune simulate and lymphtune pack: make a cohort, make one file of it."""

import argparse
from pathlib import Path

from lymphtune.cli.options import add_command, add_pseudonymise, add_reference_date
from lymphtune.result import Told


def add(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands, "simulate", "write a simulated cohort in the study's layout",
        "lymphtune simulate cohort/ --patients 200 --cells 20 --seed 1",
    )  # fmt: skip
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    parser.add_argument("--patients", type=int, default=120, metavar="N", help="(120)")
    parser.add_argument("--cells", type=int, default=12, metavar="M", help="a patient, about (12)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="(0)")
    parser.add_argument("--prefix", default="SIM", metavar="P", help="of ids; another one makes other patients (SIM)")
    parser.set_defaults(call=simulate)
    parser = add_command(
        commands, "pack", "make one Parquet file of a cohort, pictures included", "lymphtune pack DIR cohort.parquet"
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="folder in the study's layout")
    parser.add_argument("out", type=Path, metavar="OUT", help=".parquet file to write")
    add_reference_date(parser)
    add_pseudonymise(parser)
    parser.set_defaults(call=pack)


def simulate(arguments: argparse.Namespace) -> Told:
    from lymphtune.cohort.simulation.patients import write_simulated

    write_simulated(arguments.out, arguments.patients, arguments.cells, arguments.seed, prefix=arguments.prefix)
    return Told(str(arguments.out), {"cohort": arguments.out})


def pack(arguments: argparse.Namespace) -> Told:
    from lymphtune.cohort import REFERENCE_DATE
    from lymphtune.cohort.packed import pack as write
    from lymphtune.cohort.pseudonyms import read_pseudonyms

    key = arguments.pseudonymise
    pseudonyms = None if key is None else read_pseudonyms(key, make=True)
    write(arguments.data, arguments.out, arguments.reference_date or REFERENCE_DATE, pseudonyms)
    return Told(str(arguments.out), {"cohort": arguments.out})
