"""lymphtune spaces, recipes and runs: what there is."""

import argparse
import textwrap

from lymphtune.cli.options import add_command, add_data, add_runs
from lymphtune.console import WIDTH


def add(commands: argparse._SubParsersAction) -> None:
    parser = add_command(
        commands, "spaces", "list the search spaces, or look into one", "lymphtune spaces mixed --sample 5"
    )
    parser.add_argument("space", nargs="?", help="shipped space or .yaml file; without it, all are listed")
    parser.add_argument("--sample", type=int, metavar="N", help="print the first N configurations it gives")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the sample (0)")
    parser.set_defaults(call=spaces)
    parser = add_command(commands, "recipes", "list the ensemble recipes, or compare them on a run",
                         "lymphtune recipes --run mixed")  # fmt: skip
    parser.add_argument("--run", metavar="NAME", help="run to compare them on; without it, they are listed")
    add_runs(parser)
    add_data(parser)
    parser.set_defaults(call=recipes)
    parser = add_command(commands, "runs", "list the runs", "lymphtune runs")
    add_runs(parser)
    parser.set_defaults(call=runs)


def spaces(arguments: argparse.Namespace) -> None:
    import yaml

    from lymphtune.errors import InputError
    from lymphtune.spaces import SHIPPED, load_space, shipped

    if arguments.space is None:
        for name in shipped(SHIPPED):
            space = load_space(name)
            kind = f"{space.n_points} fixed configurations" if space.grid else "drawn"
            print(f"{name:10} {space.about} ({kind})")
        return
    space = load_space(arguments.space)
    if arguments.sample is not None and arguments.sample < 1:
        raise InputError(f"--sample: {arguments.sample}; expected 1 or more")
    if arguments.sample is None:
        print(yaml.safe_dump(space.tree, sort_keys=False), end="")
    for number in range(arguments.sample or 0):
        print(f"# {number}: {space.sample(arguments.seed, number).title}")
        print(yaml.safe_dump(space.sample(arguments.seed, number).as_yaml(), sort_keys=False))


def recipes(arguments: argparse.Namespace) -> None:
    from lymphtune.ensembling.recipe import all_recipes

    if arguments.run is None:
        for recipe in all_recipes():
            print(textwrap.fill(f"{recipe.name:10} {recipe.about}", WIDTH, subsequent_indent=" " * 11))
        return
    from lymphtune.ensembling.build import compare_recipes

    print(compare_recipes(arguments.run, runs=arguments.runs, data=arguments.data))


def runs(arguments: argparse.Namespace) -> None:
    from lymphtune.runs import all_runs

    for run in all_runs(arguments.runs):
        given = run.description
        cohort = given["cohort"]["name"] + (" (SIMULATED)" if given["cohort"]["simulated"] else "")
        created = given["created"][:16].replace("T", " ")
        print(f"{run.name:30} {created}  {run.status:11} {given['protocol']['trials']:4} trials  {cohort}")
