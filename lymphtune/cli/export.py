"""lymphtune export: write a saved ensemble as one ONNX file."""

import argparse
from pathlib import Path

from lymphtune.cli.options import Commands, add_command, add_saved_ensemble
from lymphtune.result import Result


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "export",
        "write a saved ensemble as one ONNX file, and compare its predictions with the ensemble's",
        "lymphtune export --onnx top.onnx --ensemble runs/mixed/ensembles/top",
    )
    parser.add_argument("--onnx", type=Path, required=True, metavar="OUT", help=".onnx file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    add_saved_ensemble(parser)
    parser.set_defaults(call=export)


def export(arguments: argparse.Namespace) -> Result:
    from lymphtune.ensembling.export import export_onnx

    return export_onnx(arguments.ensemble, arguments.onnx, arguments.overwrite)
