"""lymphtune search, status and stop."""

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lymphtune.cli.options import add_command, add_data, add_pseudonymise, add_reference_date, add_runs, gpus, seconds
from lymphtune.errors import InputError
from lymphtune.result import Told

if TYPE_CHECKING:
    from lymphtune.runs.run import Run

WATCHED_EVERY_S = 2.0
SETTINGS = (
    "trials", "epochs", "folds", "repeats", "seed", "fold_seed", "name", "runs", "storage", "cpus_per_trial",
    "gpus_per_trial", "max_concurrent", "max_failures", "keep_weights", "address", "time_budget_s", "reference_date",
    "weights", "fused", "mlflow", "wandb", "report", "scheduler", "racing", "searcher", "grace", "reduction",
    "pseudonymise",
)  # fmt: skip


def add(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands, "search", "train and compare many classifiers",
        "lymphtune search --space mixed --data DIR --trials 20 --epochs 30",
    )  # fmt: skip
    parser.add_argument("--space", metavar="S", help="shipped space or .yaml file (mixed)")
    add_data(parser)
    for name, text in (
        ("trials", "configurations to try"),
        ("epochs", "epochs of a trial that is not stopped"),
        ("folds", "patient folds; 1 = one hold-out of 38, the study's protocol"),
        ("repeats", "seeds each configuration is trained from"),
    ):
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"{text} (the space's)")
    parser.add_argument(
        "--resume", nargs="?", const="", metavar="NAME",
        help="go on with a run (the latest) that was interrupted, or with more --trials or --epochs",
    )  # fmt: skip
    parser.add_argument("--retry-failed", action="store_true", help="with --resume: try failed trials again")
    parser.add_argument("--seed", type=int, metavar="N", help="of folds, configurations and training (0)")
    parser.add_argument("--fold-seed", type=int, metavar="N", help="of folds alone (--seed)")
    parser.add_argument("--name", metavar="NAME", help="of the run (space and time); one that is there is gone on with")
    add_runs(parser)
    parser.add_argument("--cpus-per-trial", type=int, metavar="N", help="threads a trial trains with (1)")
    parser.add_argument("--gpus-per-trial", type=gpus, metavar="X", help="a fraction, or auto: measured (1)")
    parser.add_argument("--max-concurrent", type=int, metavar="N", help="trials at once (as many as fit)")
    parser.add_argument("--max-failures", type=int, metavar="N", help="times a trial goes on after its worker died (3)")
    parser.add_argument("--keep-weights", type=int, metavar="N", help="trials whose weights are kept (20)")
    parser.add_argument("--address", metavar="A", help="of a Ray cluster: auto or HOST:PORT (this machine alone)")
    parser.add_argument("--time-budget", dest="time_budget_s", type=seconds, metavar="T", help="90s, 30m or 2h")
    add_reference_date(parser)
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="pretrained weights, <name>.safetensors each (timm's hub)"
    )
    parser.add_argument(
        "--report", action=argparse.BooleanOptionalAction, default=None,
        help="write report.html anew every minute, and at the end (no)",
    )  # fmt: skip
    parser.add_argument(
        "--mlflow", metavar="URI",
        help="report trials to MLflow: a folder, sqlite:///FILE or the address of a server (default: off)",
    )  # fmt: skip
    parser.add_argument(
        "--wandb", nargs="?", const="lymphtune", metavar="PROJECT",
        help="report trials to a Weights & Biases project (default: off; without PROJECT: lymphtune)",
    )  # fmt: skip
    parser.add_argument(
        "--fused", action=argparse.BooleanOptionalAction, default=None,
        help="fold models' steps as one (where measured faster, on GPUs only)",
    )  # fmt: skip
    parser.add_argument("--searcher", metavar="S", help="what is tried: random, or tpe, which learns (random)")
    parser.add_argument("--grace", type=int, metavar="N", help="epochs before a trial can be stopped (a third of all)")
    parser.add_argument("--reduction", type=int, metavar="N", help="one in so many goes on at a rung of asha (3)")
    parser.add_argument("--scheduler", metavar="S", help="who is stopped: asha, median or none (asha)")
    parser.add_argument(
        "--racing", action=argparse.BooleanOptionalAction, default=None,
        help="stop also who is very probably worse than the best on the same patients (no)",
    )  # fmt: skip
    add_pseudonymise(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would run at what cost; train nothing")
    parser.set_defaults(call=run)
    parser = add_command(commands, "status", "show how far a search is", "lymphtune status mixed --watch")
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the run (the latest)")
    parser.add_argument(
        "--watch",
        action="store_true",
        help="show it again every few seconds until the search ends (with --json: once it has)",
    )
    add_runs(parser)
    parser.set_defaults(call=status)
    parser = add_command(
        commands, "stop", "ask a search to stop cleanly, from another terminal or machine", "lymphtune stop mixed"
    )
    parser.add_argument("name", metavar="NAME", help="of the run")
    add_runs(parser)
    parser.set_defaults(call=stop)


def run(arguments: argparse.Namespace) -> Told:
    given = {name: getattr(arguments, name) for name in SETTINGS if getattr(arguments, name) is not None}
    if arguments.resume is not None:
        return _ended(_resume(arguments, given))
    if arguments.retry_failed:
        raise InputError("--retry-failed: goes with --resume NAME")
    from lymphtune.searching.plan import Settings

    settings, space = Settings(**given), arguments.space or "mixed"
    if arguments.dry_run:
        from lymphtune.cluster.driver import check_address
        from lymphtune.cluster.estimate import dry_run

        check_address(settings)
        return dry_run(space, arguments.data, settings)
    from lymphtune.cluster.driver import search
    from lymphtune.searching.budget import process_started

    return _ended(search(space, arguments.data, settings, process_started()))


def _ended(run: "Run") -> Told:
    """Return how a search ended; its text was shown when it did."""
    from lymphtune.searching.progress import status_values

    return Told("", status_values(run))


def _resume(arguments: argparse.Namespace, given: dict[str, Any]) -> "Run":
    for name in ("space", "dry_run", "name"):
        if getattr(arguments, name):
            option = name.replace("_", "-")
            raise InputError(f"--{option}: does not go with --resume, which takes what the run was started with")
    from lymphtune.cluster.driver import resume
    from lymphtune.searching.budget import process_started

    runs = given.pop("runs")
    return resume(arguments.resume or None, runs, arguments.data, arguments.retry_failed, process_started(), **given)


def status(arguments: argparse.Namespace) -> Told:
    from lymphtune.runs.run import find_run
    from lymphtune.searching.progress import status_text, status_values

    run = find_run(arguments.name, arguments.runs)
    start, shown = "\x1b[2J\x1b[H" if arguments.watch and sys.stdout.isatty() else "", ""
    while arguments.watch and run.status == "running":
        text = status_text(run)
        if text != shown and not arguments.json:
            print(f"{start}{text}", flush=True)
            shown = text
        time.sleep(WATCHED_EVERY_S)
    return Told(f"{start}{status_text(run, arguments.storage)}", status_values(run))


def stop(arguments: argparse.Namespace) -> Told:
    from lymphtune.cli.remote import refresh, send_now
    from lymphtune.runs.run import find_run, resume_command
    from lymphtune.searching.progress import wait_until_stopped
    from lymphtune.searching.stop_watcher import STOP, ask_to_stop

    run = find_run(arguments.name, arguments.runs)
    if run.status != "running":
        raise InputError(f"{run.path}: no search to stop, it is {run.status}")
    ask_to_stop(run)
    send_now(arguments, run.name, STOP)
    wait_until_stopped(run, partial(refresh, arguments, run.name) if arguments.storage else None)
    text = f"{run.name}: {run.status}; `{resume_command(run, arguments.storage)}` goes on"
    return Told(text, {"run": run.path, "name": run.name, "status": run.status})
