"""lymphtune predict: apply a saved ensemble to new patients."""

import argparse
from pathlib import Path

from lymphtune.cli.options import Commands, add_command, add_pseudonymise, add_reference_date, add_saved_ensemble
from lymphtune.result import Result


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "predict",
        "apply a saved ensemble to new patients",
        "lymphtune predict --ensemble runs/mixed/ensembles/top --data DIR",
    )
    add_saved_ensemble(parser)
    parser.add_argument("--data", required=True, metavar="D", help="folder or packed .parquet file of new patients")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("predictions"),
        metavar="DIR",
        help="folder to write the predictions to (default: ./predictions)",
    )
    parser.add_argument(
        "--cells", action="store_true", help="write cells.parquet too: probability and weight of each cell"
    )
    parser.add_argument(
        "--allow-seen", action="store_true", help="predict patients seen in training too, and mark their rows"
    )
    add_reference_date(parser, "the ensemble's")
    add_pseudonymise(parser)
    parser.set_defaults(call=predict)


def predict(arguments: argparse.Namespace) -> Result:
    from lymphtune.ensembling.apply import predict_to

    given = (arguments.ensemble, arguments.data, arguments.out)
    options = {"cells": arguments.cells, "allow_seen": arguments.allow_seen, "key": arguments.pseudonymise}
    return predict_to(*given, **options, reference_date=arguments.reference_date)
