"""lymphtune spaces, recipes and runs: what there is."""

import argparse
import textwrap
from typing import TYPE_CHECKING, Any

from lymphtune.cli.options import add_command, add_data, add_include_stopped, add_runs
from lymphtune.console import hanging, width
from lymphtune.result import Told

if TYPE_CHECKING:
    from lymphtune.runs.run import Run
    from lymphtune.spaces import Space


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
    add_include_stopped(parser)
    add_runs(parser)
    add_data(parser, "the cohort that the run was trained on")
    parser.set_defaults(call=recipes)
    parser = add_command(commands, "runs", "list the runs", "lymphtune runs")
    add_runs(parser)
    parser.set_defaults(call=runs)


def spaces(arguments: argparse.Namespace) -> Told:
    import yaml

    from lymphtune.errors import InputError
    from lymphtune.spaces import SHIPPED, load_space, shipped

    if arguments.space is None:
        there = {name: load_space(name) for name in shipped(SHIPPED)}
        return Told("\n".join(_listed(space) for space in there.values()), [_about(space) for space in there.values()])
    space = load_space(arguments.space)
    if arguments.sample is not None and arguments.sample < 1:
        raise InputError(f"--sample: {arguments.sample}; expected 1 or more")
    if arguments.sample is None:
        text = yaml.safe_dump(space.tree, sort_keys=False).removesuffix("\n")
        return Told(text, _about(space) | {"space": space.tree})
    drawn = [space.sample(arguments.seed, number) for number in range(arguments.sample)]
    text = "\n".join(
        f"# {number}: {chosen.title}\n{yaml.safe_dump(chosen.as_yaml(), sort_keys=False)}"
        for number, chosen in enumerate(drawn)
    )
    return Told(text, [{"title": chosen.title, "configuration": chosen.as_yaml()} for chosen in drawn])


def _listed(space: "Space") -> str:
    kind = f"{space.n_points} fixed configurations" if space.grid else "drawn"
    return textwrap.fill(f"{space.name:10} {space.about} ({kind})", width(), subsequent_indent=" " * 11)


def _about(space: "Space") -> dict[str, Any]:
    return {"name": space.name, "about": space.about, "n_points": space.n_points if space.grid else None}


def recipes(arguments: argparse.Namespace) -> Told:
    from lymphtune.ensembling.recipe import all_recipes

    if arguments.run is None:
        there = all_recipes()
        lines = [textwrap.fill(f"{one.name:10} {one.about}", width(), subsequent_indent=" " * 11) for one in there]
        return Told("\n".join(lines), [{"name": one.name, **one.as_yaml()} for one in there])
    from lymphtune.ensembling.build import compare_recipes

    stopped = arguments.include_stopped
    return compare_recipes(arguments.run, runs=arguments.runs, data=arguments.data, include_stopped=stopped)


def runs(arguments: argparse.Namespace) -> Told:
    from lymphtune.runs.run import all_runs

    there = [_row(run) for run in all_runs(arguments.runs)]
    name, status = (max((len(row[column]) for row in there), default=0) for column in ("name", "status"))
    lines = []
    for row in there:
        cohort = row["cohort"] + (" (SIMULATED)" if row["simulated"] else "")
        start = f"{row['name']:{name}} {row['created'][:16].replace('T', ' ')} {row['status']:{status}}"
        lines += hanging(f"{start} {row['trials']:4} trials  {cohort}")
    return Told("\n".join(lines), there)


def _row(run: "Run") -> dict[str, Any]:
    """Return what is told of a run in the list of all."""
    given = run.description
    cohort, told = given["cohort"], {"name": run.name, "run": run.path, "created": given["created"]}
    told |= {"status": run.status, "trials": given["protocol"]["trials"], "cohort": cohort["name"]}
    return told | {"cohort_hash": cohort["hash"], "simulated": cohort["simulated"]}
