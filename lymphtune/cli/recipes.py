"""lymphtune recipes: list the ensemble recipes, or compare them on a run."""

import argparse
import textwrap

from lymphtune.cli.options import Commands, add_command, add_data, add_include_stopped, add_runs
from lymphtune.console import width
from lymphtune.result import Result


def add(commands: Commands) -> None:
    parser = add_command(
        commands, "recipes", "list the ensemble recipes, or compare them on a run", "lymphtune recipes --run mixed"
    )
    parser.add_argument("--run", metavar="NAME", help="run to compare them on (default: list all recipes)")
    add_include_stopped(parser)
    add_runs(parser)
    add_data(parser, "the cohort that the run was trained on")
    parser.set_defaults(call=recipes)


def recipes(arguments: argparse.Namespace) -> Result:
    from lymphtune.ensembling.recipe import all_recipes

    if arguments.run is None:
        found = all_recipes()
        lines = [textwrap.fill(f"{one.name:10} {one.about}", width(), subsequent_indent=" " * 11) for one in found]
        return Result("\n".join(lines), [{"name": one.name, **one.as_yaml()} for one in found])
    from lymphtune.ensembling.build import compare_recipes

    stopped = arguments.include_stopped
    return compare_recipes(arguments.run, runs=arguments.runs, data=arguments.data, include_stopped=stopped)
