"""lymphtune simulate: write a simulated cohort."""

import argparse
from pathlib import Path

from lymphtune.cli.options import Commands, add_command
from lymphtune.result import Result


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "simulate",
        "write a simulated cohort in the study's layout",
        "lymphtune simulate cohort/ --patients 200 --cells 20 --seed 1",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument("--patients", type=int, default=120, metavar="N", help="number of patients (default: 120)")
    parser.add_argument("--cells", type=int, default=12, metavar="M", help="mean cells a patient (default: 12)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the simulation (default: 0)")
    parser.add_argument(
        "--prefix", default="SIM", metavar="P", help="prefix of patient ids; it changes the patients (default: SIM)"
    )
    parser.set_defaults(call=simulate)


def simulate(arguments: argparse.Namespace) -> Result:
    from lymphtune.cohort.simulation.patients import write_simulated

    write_simulated(arguments.out, arguments.patients, arguments.cells, arguments.seed, prefix=arguments.prefix)
    return Result(str(arguments.out), {"cohort": arguments.out})
