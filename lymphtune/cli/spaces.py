"""lymphtune spaces: list the search spaces, or show one."""

import argparse
import textwrap
from typing import TYPE_CHECKING, Any

from lymphtune.cli.options import Commands, add_command
from lymphtune.console import width
from lymphtune.result import Result

if TYPE_CHECKING:
    from lymphtune.spaces import Space


def add(commands: Commands) -> None:
    parser = add_command(commands, "spaces", "list the search spaces, or show one", "lymphtune spaces mixed --sample 5")
    parser.add_argument("space", nargs="?", help="shipped space or .yaml file (default: list all shipped spaces)")
    parser.add_argument("--sample", type=int, metavar="N", help="print the first N configurations of the space")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the sample (default: 0)")
    parser.set_defaults(call=spaces)


def spaces(arguments: argparse.Namespace) -> Result:
    import yaml

    from lymphtune.errors import InputError
    from lymphtune.spaces import SHIPPED, load_space, shipped

    if arguments.space is None:
        found = [load_space(name) for name in shipped(SHIPPED)]
        return Result("\n".join(map(_line, found)), [_values(space) for space in found])
    space = load_space(arguments.space)
    if arguments.sample is not None and arguments.sample < 1:
        raise InputError(f"--sample: {arguments.sample}; expected 1 or more")
    if arguments.sample is None:
        text = yaml.safe_dump(space.tree, sort_keys=False).removesuffix("\n")
        return Result(text, _values(space) | {"space": space.tree})
    sample = [space.sample(arguments.seed, number) for number in range(arguments.sample)]
    text = "\n".join(
        f"# {number}: {configuration.title}\n{yaml.safe_dump(configuration.as_yaml(), sort_keys=False)}"
        for number, configuration in enumerate(sample)
    )
    return Result(text, [{"title": one.title, "configuration": one.as_yaml()} for one in sample])


def _line(space: "Space") -> str:
    kind = f"{space.n_points} fixed configurations" if space.grid else "sampled"
    return textwrap.fill(f"{space.name:10} {space.about} ({kind})", width(), subsequent_indent=" " * 11)


def _values(space: "Space") -> dict[str, Any]:
    return {"name": space.name, "about": space.about, "n_points": space.n_points if space.grid else None}
