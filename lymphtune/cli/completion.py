"""lymphtune completion: print a completion script for a shell."""

import argparse
from functools import partial

from lymphtune.cli.options import Commands, add_command
from lymphtune.result import Result

SHELLS = ("bash", "zsh", "fish")
FOLDERS, FILES = {"DIR"}, {"D", "DATA", "FILE", "OUT"}  # what an argument is, by its metavar
OF_RUNS = {"run", "compared", "name", "resume"}  # arguments that name a run
RUNS = "ls runs 2>/dev/null"


def add(commands: Commands, whole: argparse.ArgumentParser) -> None:
    """Add the command; whole: the parser of all commands, which the script is made from."""
    parser = add_command(
        commands,
        "completion",
        "print a completion script for a shell: commands, options, words and files",
        "lymphtune completion bash  # source <(lymphtune completion bash) loads it in this shell",
        json=False,
    )
    parser.add_argument("shell", choices=SHELLS, help="shell to write the script for: %(choices)s")
    parser.set_defaults(call=partial(completion, whole))


def completion(whole: argparse.ArgumentParser, arguments: argparse.Namespace) -> Result:
    import shtab

    words = _words()
    for command in _commands(whole):
        for action in command._actions:
            _mark(action, words)
    return Result(shtab.complete(whole, arguments.shell), None)


def _commands(whole: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found = [action for action in whole._actions if isinstance(action, argparse._SubParsersAction)]
    return [parser for action in found for parser in action.choices.values()]


def _mark(action: argparse.Action, words: dict[str, list[str]]) -> None:
    """Tell shtab how to complete an argument: by words, files, folders or the runs in ./runs."""
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
    """Return the words that an argument takes beside other values."""
    from lymphtune.ensembling.procedure import NONE
    from lymphtune.ensembling.recipe import SHIPPED as RECIPES
    from lymphtune.registry import calibrations, stopping_rules
    from lymphtune.searching.settings import SEARCHERS
    from lymphtune.spaces import SHIPPED, shipped

    return {
        "space": shipped(SHIPPED),
        "recipe": shipped(RECIPES),
        "scheduler": stopping_rules.words(),
        "calibration": [NONE, *calibrations.words()],
        "searcher": list(SEARCHERS),
    }
