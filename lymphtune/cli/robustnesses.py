"""lymphtune robustness: whether a saved ensemble keeps its answers under another light, stain or focus."""

import argparse

from lymphtune.cli.options import add_command, add_runs
from lymphtune.errors import InputError
from lymphtune.result import Told


def add(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands, "robustness", "judge a run's patients again under shifts of colour, light and focus",
        "lymphtune robustness --run mixed --cells 16",
    )  # fmt: skip
    parser.add_argument("--run", metavar="NAME", help="run whose ensemble it is (the latest)")
    add_runs(parser)
    parser.add_argument("--ensemble", metavar="NAME", help="saved ensemble to ask (the newest)")
    parser.add_argument("--data", metavar="D", help="the run's cohort where it has moved (as then)")
    parser.add_argument("--cells", type=int, default=8, metavar="N", help="of a patient, evenly spaced in the bag (8)")
    parser.set_defaults(call=robustness)


def robustness(arguments: argparse.Namespace) -> Told:
    from lymphtune.ensembling.robustness import measure_robustness
    from lymphtune.reporting.facts import saved_ensemble
    from lymphtune.runs.run import find_run

    run = find_run(arguments.run, arguments.runs)
    ensemble = saved_ensemble(run, arguments.ensemble)
    if ensemble is None:
        raise InputError(f"{run.path}: no ensemble in it yet; make one with `lymphtune ensemble --run {run.name}`")
    return measure_robustness(run, ensemble, arguments.data, arguments.cells)
