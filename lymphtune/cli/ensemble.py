"""lymphtune ensemble: average a run's best trials, score the average, write the submission."""

import argparse

from lymphtune.cli.options import Commands, add_command, add_data, add_include_stopped, add_runs, add_source
from lymphtune.console import hanging
from lymphtune.result import Result


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "ensemble",
        "average a run's best trials, score the average honestly, write the submission",
        "lymphtune ensemble --top 5",
    )
    parser.add_argument("--top", type=int, metavar="N", help="number of trials to average (default: the recipe's)")
    parser.add_argument("--recipe", default="top", metavar="R", help="shipped recipe or .yaml file (default: top)")
    add_source(parser, "the recipe's")
    add_include_stopped(parser)
    parser.add_argument(
        "--threshold",
        default="0.5",
        metavar="T",
        help="threshold of the tumoral call: 0.5, tuned, recall=0.95 or cost=FN:FP (default: 0.5)",
    )
    parser.add_argument(
        "--calibration",
        default="none",
        metavar="C",
        help="calibration of the probabilities: none, temperature, platt, isotonic (default: none)",
    )
    parser.add_argument(
        "--refer",
        type=float,
        default=0.0,
        metavar="X",
        help="fraction of patients to refer without a call, the least certain ones (default: 0)",
    )
    parser.add_argument(
        "--error-rate", type=float, default=0.1, metavar="X", help="error rate of the prediction sets (default: 0.1)"
    )
    parser.add_argument("--run", metavar="NAME", help="run to average (default: the latest)")
    add_runs(parser)
    add_data(parser, "the cohort that the run was trained on")
    parser.add_argument("--name", metavar="NAME", help="folder under ensembles/ to write (default: the recipe's name)")
    parser.set_defaults(call=ensemble)


def ensemble(arguments: argparse.Namespace) -> Result:
    from lymphtune.ensembling.build import build_ensemble
    from lymphtune.ensembling.procedure import asked

    procedure = asked(
        arguments.recipe,
        top=arguments.top,
        source=arguments.source,
        include_stopped=arguments.include_stopped,
        threshold=arguments.threshold,
        calibration=arguments.calibration,
        refer=arguments.refer,
        error_rate=arguments.error_rate,
    )
    built = build_ensemble(procedure, arguments.run, arguments.runs, arguments.data, arguments.name)
    submission = built.path / "submission.csv"
    lines = [built.result.text, str(submission)]
    if built.description["cohort"].get("pseudonyms"):
        command = f"lymphtune submit --check {submission} --run {built.description['run']} --real-ids OUT"
        lines += hanging(f"pseudonyms; `{command}` restores the ids")
    values = {"ensemble": built.path, "submission": submission, **built.result.values}
    return Result("\n".join(lines), values)
