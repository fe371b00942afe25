"""Ensemble recipes: which trials may enter, how many, by which metric, and how their probabilities are joined."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lymphtune.config import Part, parse_part, shown
from lymphtune.errors import InputError, listed
from lymphtune.files import read_yaml
from lymphtune.registry import combiners
from lymphtune.spaces import find_yaml, shipped

SHIPPED = "ensembles"
SOURCES = ("networks", "clinical", "all")
SEES = ("images", "clinical", "mixed")  # what a trial looks at
METRICS = ("log_loss", "brier", "balanced_accuracy", "auc")
KEYS = ("about", "combiner", "from", "trials", "by", "per_architecture", "include_stopped")


@dataclass(frozen=True)
class Choice:
    """Which trials a recipe takes.

    counts: how many at most of those that see `images`, `clinical` or `mixed`, or of `any` of them. include_stopped:
    whether trials that were stopped early are taken beside those that ran to their end.
    """

    source: str = "networks"
    counts: tuple[tuple[str, int], ...] = (("any", 5),)
    by: str = "log_loss"
    per_architecture: int | None = None
    include_stopped: bool = False

    @property
    def most(self) -> int:
        """Return how many trials at most."""
        return sum(count for _, count in self.counts)

    @property
    def each_kind(self) -> bool:
        """Return whether the trials are counted by what they see."""
        return self.counts[0][0] != "any"


@dataclass(frozen=True)
class Recipe:
    """What `ensemble` does with a run's trials."""

    name: str
    about: str
    combiner: Part
    choice: Choice

    def build(self) -> Any:
        """Return the unfitted combiner."""
        return combiners[self.combiner.word].build(self.combiner.options)

    def as_yaml(self) -> dict[str, Any]:
        """Return what a recipe's file would say."""
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
    """Return the shipped recipes, with `include_stopped` in place of their own where given."""
    return [load_recipe(name, include_stopped=include_stopped) for name in shipped(SHIPPED)]


def load_recipe(
    name: str | Path, top: int | None = None, source: str | None = None, include_stopped: bool | None = None
) -> Recipe:
    """Return a shipped recipe or a file's, with `top`, `source`, `include_stopped` in place of its own where given.

    Raises InputError: file, what was found, what would do.
    """
    path = find_yaml(name, SHIPPED)
    if not re.fullmatch(r"\w[\w -]*", path.stem):  # it names the ensemble's folder
        raise InputError(f"{name}: rename the file; expected letters, digits, - and _ before .yaml")
    recipe = parse_recipe(read_yaml(path), path.stem, str(path))
    choice = recipe.choice
    if top is not None and top < 1:
        raise InputError(f"--top {top}: an ensemble has at least 1 trial")
    if choice.each_kind and (top is not None or source not in (None, "all")):
        raise InputError(f"{path}: says how many trials of each kind; change its 'trials' rather than --top or --from")
    if top is not None:
        choice = replace(choice, counts=(("any", top),))
    stopped = choice.include_stopped if include_stopped is None else include_stopped
    return replace(recipe, choice=replace(choice, source=source or choice.source, include_stopped=stopped))


def parse_recipe(given: Any, name: str, where: str) -> Recipe:
    """Return the recipe that a YAML file gave; raises InputError that starts with `where`."""
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


def _counts(trials: Any, where: str) -> tuple[tuple[str, int], ...]:
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


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
