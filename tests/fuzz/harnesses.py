"""What a person may hand over, as bytes to its reader: only InputError may come out, soon and in little memory.

`tests/fuzz/run.py` feeds the readers with what atheris makes up, the suite with seeds and what once came out wrong.
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import date
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from lymphtune.config import Configuration, Data, Model, Training
from lymphtune.ensembling import recipe as recipes
from lymphtune.errors import InputError
from lymphtune.files import write_yaml
from lymphtune.registry import Family, aggregators, clinical_models, combiners, encoders, fusions, heads, schedules
from lymphtune.spaces import SHIPPED, find_yaml, load_space, places, shipped

SCRATCH = Path(tempfile.mkdtemp(prefix="lymphtune-fuzz-"))
DRAWS = 3  # configurations drawn from a space that was read
YAML = [
    "null",
    "true",
    "&a ",
    "*a",
    "<<: ",
    "!!set",
    "!!omap",
    "!!binary",
    "? ",
    "- ",
    "1e-3",
    "2020-01-01",
    "0x10",
    "1:30",
]


@dataclass(frozen=True)
class Harness:
    """read: takes the bytes; seeds: what is sound, to start from; words: that the reader knows."""

    read: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    words: Callable[[], Sequence[str]]


def read_space(data: bytes) -> None:
    """Read a space; one that is sound can be drawn from."""
    with suppress(InputError):
        space = load_space(str(grown_or("space.yaml", data, space_words())))
        places(space.tree)
        for number in range(min(DRAWS, space.n_points or DRAWS)):
            space.sample(0, number)


def read_recipe(data: bytes) -> None:
    """Read a recipe; one that is sound says the same again."""
    with suppress(InputError):
        recipe = recipes.load_recipe(str(grown_or("recipe.yaml", data, recipe_words())))
        recipe.build()
        assert recipes.parse_recipe(recipe.as_yaml(), recipe.name, "again").as_yaml() == recipe.as_yaml()


def grown_or(name: str, data: bytes, words: Sequence[str]) -> Path:
    """Return a file of the bytes, or, where they begin with a NUL, of the YAML that the rest of them grows into."""
    if not data.startswith(b"\0"):
        return written(name, data)
    write_yaml(SCRATCH / name, grown(data[1:], words))
    return SCRATCH / name


def grown(data: bytes, words: Sequence[str]) -> Any:
    """Return plain values, of mappings and lists, that the bytes are the building plan of: a stack and eight orders."""
    stack: list[Any] = []
    left = iter(data)
    for order in left:
        count, given = order >> 3, next(left, 0)
        if order % 8 == 0:
            stack.append(words[(count * 256 + given) % len(words)])
        elif order % 8 == 1:
            stack.append(given - 128 if count % 2 else given * 10**count)
        elif order % 8 == 2:
            stack.append((given - 128) / 10 ** (count % 16))
        elif order % 8 == 3:
            stack.append((None, True, False, math.inf, math.nan, [], {}, "", date(2020, 1, 1))[given % 9])
        elif order % 8 == 4:
            stack, items = stack[: len(stack) - count], stack[len(stack) - count :]
            stack.append(items)
        elif order % 8 == 5:
            stack, items = stack[: len(stack) - 2 * count], stack[len(stack) - 2 * count :]
            keys = [key if isinstance(key, str | int | float) else "a key" for key in items[::2]]
            stack.append(dict(zip(keys, items[1::2], strict=False)))
        elif order % 8 == 6:
            stack.append(bytes([given, *islice(left, count)]).decode(errors="replace"))
        elif stack:
            stack.append(stack[-1 - given % len(stack)])
    return stack[-1] if stack else None


def plan_of(value: Any, words: Sequence[str]) -> bytes:
    """Return the bytes that grow into the value, as far as they can say it."""
    if isinstance(value, dict):
        inner = b"".join(plan_of(key, words) + plan_of(item, words) for key, item in value.items())
        return inner + bytes([len(value) << 3 | 5, 0])
    if isinstance(value, list):
        return b"".join(plan_of(item, words) for item in value) + bytes([len(value) << 3 | 4, 0])
    if value in words and isinstance(value, str):
        place = words.index(value)
        return bytes([place // 256 << 3, place % 256])
    if value is None or isinstance(value, bool):
        return bytes([3, {None: 0, True: 1, False: 2}[value]])
    if isinstance(value, int) and 0 <= value < 256:
        return bytes([1, value])
    if isinstance(value, float):
        return bytes([3 << 3 | 2, 128 + min(127, round(value * 1000))])
    text = str(value).encode()[:32] or b" "
    return bytes([len(text) - 1 << 3 | 6]) + text


def planned(seeds: Sequence[bytes], words: Sequence[str]) -> list[bytes]:
    """Return the seeds, and the plans of what they hold."""
    return [*seeds, *(b"\0" + plan_of(yaml.safe_load(seed), words) for seed in seeds)]


def written(name: str, data: bytes) -> Path:
    path = SCRATCH / name
    path.write_bytes(data)
    return path


def shipped_files(folder: str) -> list[bytes]:
    return [find_yaml(name, folder).read_bytes() for name in shipped(folder)]


@cache
def space_words() -> list[str]:
    families = (encoders, heads, aggregators, fusions, clinical_models, schedules)
    sections = [name for section in (Configuration, Model, Data, Training) for name in section.model_fields]
    keys = [
        "choose",
        "uniform",
        "log_uniform",
        "integer",
        "about",
        "grid",
        "suggested",
        "rows",
        "note",
        "configuration",
    ]
    return [*YAML, *keys, *sections, *(word for family in families for word in _with_options(family))]


@cache
def recipe_words() -> list[str]:
    return [*YAML, *recipes.KEYS, *recipes.SOURCES, *recipes.SEES, *recipes.METRICS, *_with_options(combiners)]


def _with_options(family: Family) -> list[str]:
    return [word for name in family.words() for word in (name, *(field.name for field in fields(family[name].options)))]


HARNESSES = {
    "space": Harness(read_space, lambda: planned(shipped_files(SHIPPED), space_words()), space_words),
    "recipe": Harness(read_recipe, lambda: planned(shipped_files(recipes.SHIPPED), recipe_words()), recipe_words),
}
