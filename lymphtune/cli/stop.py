"""lymphtune stop: ask a running search to stop."""

import argparse
from functools import partial

from lymphtune.cli.options import Commands, add_command, add_runs
from lymphtune.errors import InputError
from lymphtune.result import Result


def add(commands: Commands) -> None:
    parser = add_command(
        commands,
        "stop",
        "ask a running search to stop, from another terminal or machine; it can be resumed",
        "lymphtune stop mixed",
    )
    parser.add_argument("name", metavar="NAME", help="run name")
    add_runs(parser)
    parser.set_defaults(call=stop)


def stop(arguments: argparse.Namespace) -> Result:
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
    text = f"{run.name}: {run.status}; `{resume_command(run, arguments.storage)}` resumes the search"
    return Result(text, {"run": run.path, "name": run.name, "status": run.status})
