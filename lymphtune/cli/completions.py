"""lymphtune completion: what a shell needs to know of the commands."""

import argparse
from functools import partial

from lymphtune.cli.options import add_command
from lymphtune.result import Told

SHELLS = ("bash", "zsh", "fish")
FOLDERS, FILES = {"DIR"}, {"D", "DATA", "FILE", "OUT"}  # what an argument is, by its metavar
OF_RUNS = {"run", "compared", "name", "resume"}  # arguments that name a run
RUNS = "ls runs 2>/dev/null"


def add(commands: argparse._SubParsersAction, whole: argparse.ArgumentParser) -> None:
    """Add the command; whole: the parser of all commands, which the script is made from."""
    parser = add_command(
        commands, "completion", "print a script that completes commands, options, words and files in a shell",
        "lymphtune completion bash  # source <(lymphtune completion bash) takes it at once", json=False,
    )  # fmt: skip
    parser.add_argument("shell", choices=SHELLS, help="shell that the script is for: %(choices)s")
    parser.set_defaults(call=partial(completion, whole))


def completion(whole: argparse.ArgumentParser, arguments: argparse.Namespace) -> Told:
    import shtab

    words = _words()
    for command in _commands(whole):
        for action in command._actions:
            _mark(action, words)
    return Told(shtab.complete(whole, arguments.shell), None)


def _commands(whole: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found = [action for action in whole._actions if isinstance(action, argparse._SubParsersAction)]
    return [parser for action in found for parser in action.choices.values()]


def _mark(action: argparse.Action, words: dict[str, list[str]]) -> None:
    """Say on the action what may stand there: words, files, folders or runs of ./runs."""
    import shtab

    if action.dest in words:
        action.choices = words[action.dest]
    elif action.dest in OF_RUNS:
        action.complete = shtab.cmd(RUNS)  # type: ignore[attr-defined]
    elif action.metavar in FOLDERS:
        action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    elif action.metavar in FILES:
        action.complete = shtab.FILE  # type: ignore[attr-defined]


def _words() -> dict[str, list[str]]:
    """Return the words of arguments that take some beside other things."""
    from lymphtune.ensembling.procedure import NONE
    from lymphtune.ensembling.recipe import SHIPPED as RECIPES
    from lymphtune.registry import calibrations, stopping_rules
    from lymphtune.searching.plan import SEARCHERS
    from lymphtune.spaces import SHIPPED, shipped

    return {
        "space": shipped(SHIPPED), "recipe": shipped(RECIPES), "scheduler": stopping_rules.words(),
        "calibration": [NONE, *calibrations.words()], "searcher": list(SEARCHERS),
    }  # fmt: skip
