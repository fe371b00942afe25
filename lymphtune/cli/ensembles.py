"""lymphtune ensemble, predict, export and submit: average the best, apply the average, hand it over."""

import argparse
from pathlib import Path

from lymphtune.cli.options import (
    add_command,
    add_data,
    add_include_stopped,
    add_pseudonymise,
    add_reference_date,
    add_runs,
)
from lymphtune.console import hanging
from lymphtune.errors import Unfit
from lymphtune.result import Told


def add(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands, "ensemble", "average a run's best trials, score it honestly, write the submission",
        "lymphtune ensemble --top 5",
    )  # fmt: skip
    parser.add_argument("--top", type=int, metavar="N", help="trials to average (the recipe's)")
    parser.add_argument("--recipe", default="top", metavar="R", help="shipped recipe or .yaml file (top)")
    parser.add_argument("--from", dest="source", choices=("networks", "clinical", "all"), help="(the recipe's)")
    add_include_stopped(parser)
    parser.add_argument("--threshold", default="0.5", metavar="T", help="0.5, tuned, recall=0.95 or cost=FN:FP (0.5)")
    parser.add_argument("--calibration", default="none", metavar="C", help="none, temperature, platt, isotonic (none)")
    parser.add_argument("--refer", type=float, default=0.0, metavar="X", help="share of patients not to call (0)")
    parser.add_argument("--error-rate", type=float, default=0.1, metavar="X", help="of the prediction sets (0.1)")
    parser.add_argument("--run", metavar="NAME", help="run to average (the latest)")
    add_runs(parser)
    add_data(parser, "the cohort that the run was trained on")
    parser.add_argument("--name", metavar="NAME", help="folder under ensembles/ to write (default: the recipe's name)")
    parser.set_defaults(call=ensemble)
    parser = add_command(
        commands, "predict", "apply a saved ensemble to new patients",
        "lymphtune predict --ensemble runs/mixed/ensembles/top --data DIR",
    )  # fmt: skip
    parser.add_argument("--ensemble", type=Path, required=True, metavar="DIR", help="folder that `ensemble` wrote")
    parser.add_argument("--data", required=True, metavar="D", help="folder or packed .parquet file of new patients")
    parser.add_argument("--out", type=Path, default=Path("predictions"), metavar="DIR", help="(./predictions)")
    parser.add_argument("--cells", action="store_true", help="write cells.parquet: probability and weight of each cell")
    parser.add_argument("--allow-seen", action="store_true", help="predict patients seen in training too, marked so")
    add_reference_date(parser, "the ensemble's")
    add_pseudonymise(parser)
    parser.set_defaults(call=predict)
    parser = add_command(
        commands, "export", "write a saved ensemble as one ONNX file, and check what it says",
        "lymphtune export --onnx top.onnx --ensemble runs/mixed/ensembles/top",
    )  # fmt: skip
    parser.add_argument("--onnx", type=Path, required=True, metavar="OUT", help=".onnx file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the file where it exists")
    parser.add_argument("--ensemble", type=Path, required=True, metavar="DIR", help="folder that `ensemble` wrote")
    parser.set_defaults(call=export)
    parser = add_command(
        commands, "submit", "look a submission over before it is handed in",
        "lymphtune submit --check runs/mixed/ensembles/top/submission.csv",
    )  # fmt: skip
    parser.add_argument("--check", type=Path, required=True, metavar="FILE", help="submission.csv to look over")
    parser.add_argument("--data", metavar="D", help="cohort of its patients (the run's)")
    parser.add_argument("--run", metavar="NAME", help="run whose cohort it is for (the latest)")
    add_runs(parser)
    parser.add_argument(
        "--pseudonymise", type=Path, metavar="FILE", help="key of the pseudonyms, with --data (the run's)"
    )
    parser.add_argument("--real-ids", type=Path, metavar="OUT", help="write it with the ids that pseudonyms stand for")
    parser.set_defaults(call=submit)


def ensemble(arguments: argparse.Namespace) -> Told:
    from lymphtune.ensembling.build import build_ensemble
    from lymphtune.ensembling.procedure import asked

    procedure = asked(
        arguments.recipe, top=arguments.top, source=arguments.source, threshold=arguments.threshold,
        include_stopped=arguments.include_stopped,
        calibration=arguments.calibration, refer=arguments.refer, error_rate=arguments.error_rate,
    )  # fmt: skip
    built = build_ensemble(procedure, arguments.run, arguments.runs, arguments.data, arguments.name)
    submission = built.path / "submission.csv"
    values = {"ensemble": built.path, "submission": submission, **built.summary.values}
    told = [str(built.summary), str(submission)]
    if built.description["cohort"].get("pseudonyms"):
        own = f"lymphtune submit --check {submission} --run {built.description['run']} --real-ids OUT"
        told += hanging(f"pseudonyms; the ids come back with `{own}`")
    return Told("\n".join(told), values)


def predict(arguments: argparse.Namespace) -> Told:
    from lymphtune.ensembling.apply import predict_to

    given = (arguments.ensemble, arguments.data, arguments.out)
    options = {"cells": arguments.cells, "allow_seen": arguments.allow_seen, "key": arguments.pseudonymise}
    return predict_to(*given, **options, reference_date=arguments.reference_date)


def export(arguments: argparse.Namespace) -> Told:
    from lymphtune.ensembling.export import export_onnx

    return export_onnx(arguments.ensemble, arguments.onnx, arguments.overwrite)


def submit(arguments: argparse.Namespace) -> Told:
    from lymphtune.ensembling.submission import submission_report, write_real_ids

    whose = {"data": arguments.data, "run": arguments.run, "runs": arguments.runs, "key": arguments.pseudonymise}
    report = submission_report(arguments.check, **whose)
    lines = [row for line in report.lines for row in hanging(line)]
    if report.n_errors:
        raise Unfit(f"{report.summary}; correct the errors and check again", Told("\n".join(lines), report.values))
    values = report.values
    if arguments.real_ids is not None:
        write_real_ids(arguments.check, arguments.real_ids, **whose)
        lines, values = [*lines, str(arguments.real_ids)], values | {"real_ids": arguments.real_ids}
    return Told("\n".join([*lines, *hanging(report.summary)]), values)
