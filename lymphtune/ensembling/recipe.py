"""Ensemble recipes: which trials may enter, how many, and how their probabilities are joined."""

from dataclasses import dataclass
from typing import Any

from lymphtune.config import Part, parse_part
from lymphtune.errors import InputError
from lymphtune.files import read_yaml
from lymphtune.registry import combiners
from lymphtune.spaces import find_yaml

SHIPPED = "ensembles"
SOURCES = ("networks", "clinical", "all")
KEYS = ("about", "combiner", "from", "trials")


@dataclass(frozen=True)
class Recipe:
    """What `ensemble` does with a run's trials."""

    name: str
    about: str
    combiner: Part
    source: str  # which kinds of trial may enter
    trials: int

    def build(self) -> Any:
        """Return the unfitted combiner."""
        return combiners[self.combiner.word].build(self.combiner.options)


def load_recipe(name: str, top: int | None = None, source: str | None = None) -> Recipe:
    """Return a shipped recipe or a file's, with `top` and `source` in place of its own where given.

    Raises InputError: file, what was found, what would do.
    """
    path = find_yaml(name, SHIPPED)
    given = read_yaml(path)
    if not isinstance(given, dict):
        raise InputError(f"{path}: expected a mapping with {', '.join(KEYS)}; found {type(given).__name__}")
    if unknown := sorted(map(str, set(given) - set(KEYS))):
        raise InputError(f"{path}: has no '{unknown[0]}'; there are {', '.join(KEYS)}")
    chosen, trials = source or given.get("from", "networks"), given.get("trials", 5)
    if chosen not in SOURCES:
        raise InputError(f"{path}: from has no {chosen!r}; there are {', '.join(SOURCES)}")
    if not isinstance(trials, int) or isinstance(trials, bool) or trials < 1:
        raise InputError(f"{path}: trials: expected a whole number from 1; found {trials!r}")
    if top is not None and top < 1:
        raise InputError(f"--top {top}: an ensemble has at least 1 trial")
    combiner = parse_part(combiners, given.get("combiner"), f"{path}: combiner")
    return Recipe(path.stem, str(given.get("about", "")), combiner, chosen, top or trials)
