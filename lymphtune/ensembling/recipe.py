"""Ensemble recipes: kind and number of trials, the metric that selects them, and the combiner."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

from lymphtune.combiners import Combiner
from lymphtune.config import Part, parse_part, shown
from lymphtune.errors import InputError, listed
from lymphtune.files import read_yaml
from lymphtune.registry import combiners
from lymphtune.spaces import find_yaml, shipped

SHIPPED = "ensembles"
SOURCES = ("networks", "clinical", "all")
SEES = ("images", "clinical", "mixed")  # inputs of a trial
METRICS = ("log_loss", "brier", "balanced_accuracy", "auc")
KEYS = ("about", "combiner", "from", "trials", "by", "per_architecture", "include_stopped")


@dataclass(frozen=True)
class Choice:
    """The selection of trials by a recipe.

    source: kind of trials. counts: largest number of trials by their inputs (`images`, `clinical`, `mixed`), or of
    `any` of them. by: metric. per_architecture: largest number of trials of one architecture. include_stopped: whether
    to take trials that were stopped early as well as completed ones.
    """

    source: str = "networks"
    counts: tuple[tuple[str, int], ...] = (("any", 5),)
    by: str = "log_loss"
    per_architecture: int | None = None
    include_stopped: bool = False

    @property
    def most(self) -> int:
        """Return the largest number of trials."""
        return sum(count for _, count in self.counts)

    @property
    def each_kind(self) -> bool:
        """Return whether the trials are counted by their inputs."""
        return self.counts[0][0] != "any"


@dataclass(frozen=True)
class Recipe:
    """The selection of trials and the combiner of an ensemble."""

    name: str
    about: str
    combiner: Part
    choice: Choice

    def build(self) -> Combiner:
        """Return the unfitted combiner."""
        return combiners[self.combiner.word].build(self.combiner.options)

    def as_yaml(self) -> dict[str, Any]:
        """Return the recipe as in a recipe file."""
        trials = dict(self.choice.counts) if self.choice.each_kind else self.choice.most
        return {
            "about": self.about,
            "combiner": self.combiner.as_yaml(),
            "from": self.choice.source,
            "trials": trials,
            "by": self.choice.by,
            "per_architecture": self.choice.per_architecture,
            "include_stopped": self.choice.include_stopped,
        }


def all_recipes(include_stopped: bool | None = None) -> list[Recipe]:
    """Return the shipped recipes; `include_stopped` replaces their own value unless it is None."""
    return [load_recipe(name, include_stopped=include_stopped) for name in shipped(SHIPPED)]


def load_recipe(
    name: str | Path, top: int | None = None, source: str | None = None, include_stopped: bool | None = None
) -> Recipe:
    """Load a shipped recipe or a recipe file; `top`, `source` and `include_stopped` replace its values unless None.

    Raises InputError if the recipe is invalid.
    """
    path = find_yaml(name, SHIPPED)
    if not re.fullmatch(r"\w[\w -]*", path.stem):  # the name becomes that of the ensemble's folder
        raise InputError(f"{name}: rename the file; expected letters, digits, - and _ before .yaml")
    recipe = parse_recipe(read_yaml(path), path.stem, str(path))
    choice = recipe.choice
    if top is not None and top < 1:
        raise InputError(f"--top {top}: expected a whole number from 1")
    if choice.each_kind and (top is not None or source not in (None, "all")):
        raise InputError(f"{path}: sets the number of trials of each kind; change its 'trials', not --top or --from")
    if top is not None:
        choice = replace(choice, counts=(("any", top),))
    stopped = choice.include_stopped if include_stopped is None else include_stopped
    return replace(recipe, choice=replace(choice, source=source or choice.source, include_stopped=stopped))


def parse_recipe(given: object, name: str, where: str) -> Recipe:
    """Parse the content of a recipe file; raises InputError, which starts with `where`."""
    if not isinstance(given, dict):
        raise InputError(f"{where}: expected a mapping with {', '.join(KEYS)}; found {type(given).__name__}")
    if unknown := sorted(map(str, set(given) - set(KEYS))):
        raise InputError(f"{where}: has no '{unknown[0]}'; there are {listed(unknown[0], KEYS)}")
    counts = _counts(given.get("trials", 5), where)
    source = _word(given, "from", "networks" if counts[0][0] == "any" else "all", SOURCES, where)
    if counts[0][0] != "any" and source != "all":
        raise InputError(f"{where}: trials by kind are taken from all; found from: {source}")
    limit = given.get("per_architecture")
    if limit is not None and not _whole(limit):
        raise InputError(f"{where}: per_architecture: expected a whole number from 1; found {shown(limit)}")
    stopped = given.get("include_stopped", False)
    if not isinstance(stopped, bool):
        raise InputError(f"{where}: include_stopped: expected true or false; found {shown(stopped)}")
    choice = Choice(source, counts, _word(given, "by", "log_loss", METRICS, where), limit, stopped)
    combiner = parse_part(combiners, given.get("combiner"), f"{where}: combiner")
    return Recipe(name, str(given.get("about", "")), combiner, choice)


def _counts(trials: object, where: str) -> tuple[tuple[str, int], ...]:
    if _whole(trials):
        return (("any", trials),)
    if isinstance(trials, Mapping) and len(trials) > 1 and all(map(_whole, trials.values())):
        if unknown := sorted(map(str, set(trials) - set(SEES))):
            raise InputError(f"{where}: trials has no '{unknown[0]}'; there are {listed(unknown[0], SEES)}")
        return tuple((str(kind), int(count)) for kind, count in trials.items())
    raise InputError(
        f"{where}: trials: expected a whole number from 1, or numbers for two or more of {', '.join(SEES)}; "
        f"found {shown(trials)}"
    )


def _word(given: Mapping[str, Any], key: str, default: str, words: tuple[str, ...], where: str) -> str:
    found = given.get(key, default)
    if found not in words:
        raise InputError(f"{where}: {key} has no {shown(found)}; there are {listed(found, words)}")
    return str(found)


def _whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
