"""lymphtune robustness: predict a run's patients again under shifts of colour, light and focus."""

import argparse

from lymphtune.cli.options import Commands, add_command, add_moved_data, add_runs
from lymphtune.errors import InputError
from lymphtune.result import Result


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "robustness",
        "predict a run's patients again under shifts of colour, light and focus",
        "lymphtune robustness --run mixed --cells 16",
    )
    parser.add_argument("--run", metavar="NAME", help="run of the ensemble (default: the latest)")
    add_runs(parser)
    parser.add_argument("--ensemble", metavar="NAME", help="saved ensemble to apply (default: the newest)")
    add_moved_data(parser)
    parser.add_argument(
        "--cells", type=int, default=8, metavar="N", help="cells a patient, evenly spaced in the bag (default: 8)"
    )
    parser.set_defaults(call=robustness)


def robustness(arguments: argparse.Namespace) -> Result:
    from lymphtune.ensembling.shift_robustness import measure_robustness
    from lymphtune.reporting.facts import saved_ensemble
    from lymphtune.runs.run import find_run

    run = find_run(arguments.run, arguments.runs)
    ensemble = saved_ensemble(run, arguments.ensemble)
    if ensemble is None:
        raise InputError(f"{run.path}: no ensemble in it yet; make one with `lymphtune ensemble --run {run.name}`")
    return measure_robustness(run, ensemble, arguments.data, arguments.cells)
