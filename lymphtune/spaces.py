"""Search spaces: YAML in which any value may be a choice or a range, checked whole before anything starts."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from lymphtune.config import Configuration, configuration, digest, mishap, shown
from lymphtune.errors import InputError, listed, suggestion
from lymphtune.files import read_yaml

BASELINES = ("logistic", "svm", "random_forest", "mlp")  # clinical models that every search trains
MOST_REPEATED = 1000  # draws in a row that were there before; then a space has no other configuration
RANGES = ("uniform", "log_uniform", "integer")
SHIPPED = "search_spaces"
MOST_ENTRIES = 1000  # of one list to choose from
KEYS = {"about", "grid", "suggested", "configuration", "rows", "note"}


class Suggested(BaseModel):
    """What a search takes when the command line does not say."""

    model_config = ConfigDict(extra="forbid", strict=True)
    trials: int = Field(20, ge=1, le=1_000_000)
    epochs: int = Field(30, ge=1, le=100_000)
    folds: int = Field(5, ge=1, le=10_000)
    repeats: int = Field(1, ge=1, le=1000)


class Published(BaseModel):
    """Figures that were published for a grid's point, as fractions; None where a figure was not published."""

    model_config = ConfigDict(extra="forbid", strict=True)
    balanced_accuracy: float | None = Field(None, ge=0, le=1)
    recall: float | None = Field(None, ge=0, le=1)
    auc: float | None = Field(None, ge=0, le=1)
    kaggle: float | None = Field(None, ge=0, le=1)  # balanced accuracy on the contest's public part

    @model_validator(mode="before")
    @classmethod
    def _of_number(cls, given: Any) -> Any:
        """Take a bare number for the balanced accuracy: `published: 0.85`."""
        is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
        return {"balanced_accuracy": given} if is_number else given


class Row(BaseModel):
    """A grid point's name in the table, and the figures that were published for it, if any."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    published: Published | None = None


class Draws(Protocol):
    """What decides at each choice and range of a tree; `path` names the place."""

    def choice(self, path: str, n: int) -> int:
        """Return which of n entries, counted from 0."""

    def number(self, path: str, kind: str, low: float, high: float) -> float:
        """Return a number of a range of this kind, both ends included; a whole one of `integer`."""


@dataclass(frozen=True)
class _Even:
    """Every entry of a list, and every part of a range, as often as the others."""

    rng: np.random.Generator

    def choice(self, path: str, n: int) -> int:
        return int(self.rng.integers(n))

    def number(self, path: str, kind: str, low: float, high: float) -> float:
        if kind == "integer":
            return int(self.rng.integers(int(low), int(high), endpoint=True))
        if kind == "uniform":
            return self.rng.uniform(low, high)
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))


@dataclass
class _Distinct:
    """The numbers of the draws of one seed that gave a configuration which was not there before."""

    numbers: list[int] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    tried: int = 0
    exhausted: bool = False


@dataclass(frozen=True)
class Space:
    """A tree of mappings whose leaves are values, `choose` lists and ranges; all of it already checked."""

    name: str
    about: str
    grid: bool
    suggested: Suggested
    tree: Any
    rows: tuple[Row, ...] = ()  # names of a grid's points, where the search prints them as a table
    note: str = ""  # a line under that table
    distinct: bool = True  # draws equal to an earlier one or to a baseline are passed over; not so in earlier versions
    _by_seed: dict[int, _Distinct] = field(default_factory=dict, repr=False, compare=False)

    def sample(self, seed: int, number: int) -> Configuration:
        """Return trial `number`'s configuration: a function of space, seed and number alone."""
        return configuration(self.sampled(seed, number)[0], self.name)

    def sampled(self, seed: int, number: int) -> tuple[Any, dict[str, int | float]]:
        """Return trial `number`'s plain values, and what was drawn for them by its path; for a grid, its point's.

        Beyond the last configuration that a space has, they begin again.
        """
        if self.grid:
            values: dict[str, int | float] = {}
            return _point(self.tree, number % _points(self.tree), "", values), values
        if not self.distinct:
            return self._draw(seed, number)
        known = self._distinct(seed, number + 1)
        if not known:
            raise InputError(f"{self.name}: every configuration is a baseline, which each search trains anyway")
        return self._draw(seed, known[number % len(known)])

    def count(self, seed: int, wanted: int) -> int:
        """Return how many of the wanted trials have configurations of their own."""
        if self.grid:
            return min(wanted, _points(self.tree))
        return len(self._distinct(seed, wanted)[:wanted]) if self.distinct else wanted

    def _draw(self, seed: int, number: int) -> tuple[Any, dict[str, int | float]]:
        return draw(self.tree, _Even(np.random.default_rng([seed, number])))

    def _distinct(self, seed: int, wanted: int) -> list[int]:
        """Return the numbers of the first draws, as many as wanted or as there are, whose configurations differ."""
        known = self._by_seed.setdefault(seed, _Distinct())
        known.seen |= {_identity({"clinical": word}, self.name) for word in BASELINES} if not known.tried else set()
        while len(known.numbers) < wanted and not known.exhausted:
            repeated = 0
            while (own := _identity(self._draw(seed, known.tried)[0], self.name)) in known.seen:
                known.tried, repeated = known.tried + 1, repeated + 1
                if repeated == MOST_REPEATED:
                    known.exhausted = True
                    return known.numbers
            known.seen.add(own)
            known.numbers.append(known.tried)
            known.tried += 1
        return known.numbers

    @property
    def n_points(self) -> int | None:
        """Return how many configurations a grid has; None where configurations are drawn."""
        return _points(self.tree) if self.grid else None


def _identity(given: Any, where: str) -> str:
    return digest(configuration(given, where).as_yaml())


def load_space(name: str | Path) -> Space:
    """Return the space of a shipped name or a file's path, every branch of it checked.

    Raises InputError: file, path inside it, what was found, what would do.
    """
    path = find_yaml(name, SHIPPED)
    return checked_space(read_yaml(path), path.stem, str(path))


def checked_space(given: Any, name: str, where: str) -> Space:
    """Return the space that a YAML file gave; raises InputError that starts with `where`."""
    if not isinstance(given, dict):
        raise InputError(f"{where}: expected a mapping with 'configuration'; found {type(given).__name__}")
    if unknown := sorted(map(str, set(given) - KEYS)):
        raise InputError(f"{where}: has no '{unknown[0]}'; there are {listed(unknown[0], sorted(KEYS))}")
    if not isinstance(grid := given.get("grid", False), bool):
        raise InputError(f"{where}: grid: expected true or false; found {shown(grid)}")
    tree = given.get("configuration")
    _check_nodes(tree, f"{where}: configuration")
    space = Space(
        name,
        str(given.get("about", "")),
        grid,
        _suggested(given.get("suggested", {}), where),
        tree,
        _rows(given.get("rows", []), where),
        str(given.get("note", "")),
    )
    for variant in _variants(tree):
        configuration(variant, where)
    if space.grid and any(_ranges(tree)):
        raise InputError(f"{where}: a grid takes no ranges; found {shown(next(_ranges(tree)))}; use choose")
    if space.rows and len(space.rows) != space.n_points:
        raise InputError(f"{where}: rows: expected a name for each of the grid's points; found {len(space.rows)}")
    return space


def draw(tree: Any, draws: Draws) -> tuple[Any, dict[str, int | float]]:
    """Return plain values drawn from a space's tree, and what was drawn by its path.

    A path holds the branches taken, `model.encoder.choose[0].resnet.filters.choose`: one path, one distribution. An
    entry given twice goes by its first place, so that what is drawn below it has one path too. Numbers are rounded.
    """
    values: dict[str, int | float] = {}
    return _draw(tree, draws, "", values), values


@dataclass(frozen=True)
class Place:
    """Where a value is drawn. path: as in `draw`; keys: the same without the branches taken, the place in a
    configuration; kind: `choose` or a range's word; entries: of a list, or the two ends of a range."""

    path: str
    keys: tuple[str, ...]
    kind: str
    entries: tuple[Any, ...]


def places(tree: Any) -> list[Place]:
    """Return every place of a space's tree at which something is drawn, in the tree's order."""
    return list(_places(tree, "", ()))


def find_yaml(name: str | Path, folder: str) -> Path:
    """Return the file of a shipped name (`mixed`) or of a path (`mine.yaml`); raises InputError."""
    if not isinstance(name, str | Path):
        raise InputError(f"{folder}: expected a shipped name or a .yaml file; found {shown(name)}")
    name = str(name)
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = Path(name)
        if not path.is_file():
            there = shipped(folder)
            meant = listed(path.stem, there)
            raise InputError(f"{name}: no such file; a shipped one goes by its name: {meant}")
        return path
    if name not in shipped(folder):
        there = shipped(folder)
        raise InputError(
            f"{folder} has no '{name}'; there are {', '.join(there)}, or give a .yaml file{suggestion(name, there)}"
        )
    return _shipped_folder(folder) / f"{name}.yaml"


def shipped(folder: str) -> list[str]:
    """Return the names of the YAML files that come with the package."""
    return sorted(path.stem for path in _shipped_folder(folder).glob("*.yaml"))


def _shipped_folder(folder: str) -> Path:
    package = Path(__file__).parent
    inside_wheel = package / folder
    return inside_wheel if inside_wheel.is_dir() else package.parent / folder


def _suggested(given: Any, where: str) -> Suggested:
    try:
        return Suggested.model_validate(given)
    except ValidationError as error:
        words = sorted(Suggested.model_fields)
        raise InputError(f"{where}: suggested{mishap(error.errors()[0], words)}") from error


def _rows(given: Any, where: str) -> tuple[Row, ...]:
    try:
        return TypeAdapter(tuple[Row, ...]).validate_python(tuple(given) if isinstance(given, list) else given)
    except ValidationError as error:
        raise InputError(f"{where}: rows{mishap(error.errors()[0], sorted(Row.model_fields))}") from error


def _kind(node: Any) -> str | None:
    """Return 'choose' or the range's word if the node is drawn, None if it is a plain value or mapping."""
    if isinstance(node, dict) and len(node) == 1:
        word = next(iter(node))
        if word == "choose" or word in RANGES:
            return str(word)
    return None


def _check_nodes(node: Any, where: str) -> None:
    kind = _kind(node)
    if kind == "choose":
        if not isinstance(node["choose"], list) or not node["choose"]:
            raise InputError(f"{where}.choose: expected a list with at least one entry; found {shown(node['choose'])}")
        if len(node["choose"]) > MOST_ENTRIES:
            raise InputError(
                f"{where}.choose: {len(node['choose'])} entries; expected {MOST_ENTRIES} at most, or a range"
            )
        for index, entry in enumerate(node["choose"]):
            _check_nodes(entry, f"{where}.choose[{index}]")
    elif kind:
        _check_range(kind, node[kind], f"{where}.{kind}")
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "choose" or key in RANGES:
                others = sorted(str(other) for other in node if other != key)
                raise InputError(f"{where}: '{key}' must stand alone; found beside {others}")
            _check_nodes(value, f"{where}.{key}")


def _check_range(kind: str, bounds: Any, where: str) -> None:
    numbers = (int,) if kind == "integer" else (int, float)
    fits = isinstance(bounds, list) and len(bounds) == 2
    if not fits or not all(isinstance(b, numbers) and not isinstance(b, bool) and math.isfinite(b) for b in bounds):
        noun = "whole numbers" if kind == "integer" else "numbers"
        raise InputError(f"{where}: expected two {noun} [low, high]; found {shown(bounds)}")
    if not bounds[0] < bounds[1]:
        raise InputError(f"{where}: the range is empty; found {bounds!r}, low must be below high")
    if kind == "log_uniform" and bounds[0] <= 0:
        raise InputError(f"{where}: a logarithmic range starts above 0; found {bounds!r}")


def _draw(node: Any, draws: Draws, path: str, values: dict[str, int | float]) -> Any:
    kind = _kind(node)
    if kind == "choose":
        entries, where = node["choose"], _below(path, kind)
        values[where] = index = draws.choice(where, len(entries))
        return _draw(entries[index], draws, f"{where}[{entries.index(entries[index])}]", values)
    if kind:
        (low, high), where = node[kind], _below(path, kind)
        values[where] = value = _rounded(kind, low, high, draws.number(where, kind, low, high))
        return value
    if isinstance(node, dict):
        return {key: _draw(value, draws, _below(path, key), values) for key, value in node.items()}
    return node


def _places(node: Any, path: str, keys: tuple[str, ...]) -> Iterator[Place]:
    kind = _kind(node)
    if kind:
        where = _below(path, kind)
        yield Place(where, keys, kind, tuple(node[kind]))
        for index, entry in enumerate(node["choose"] if kind == "choose" else []):
            if node["choose"].index(entry) == index:
                yield from _places(entry, f"{where}[{index}]", keys)
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _places(value, _below(path, key), (*keys, str(key)))


def _below(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _rounded(kind: str, low: float, high: float, value: float) -> int | float:
    if kind == "integer":
        return int(value)
    return float(np.clip(float(f"{value:.4g}"), low, high))  # short in YAML, the same after a round trip


def _points(node: Any) -> int:
    """Return how many points a grid has."""
    if _kind(node) == "choose":
        return sum(_points(entry) for entry in node["choose"])
    return math.prod(_points(value) for value in node.values()) if isinstance(node, dict) else 1


def _point(node: Any, number: int, path: str, values: dict[str, int | float]) -> Any:
    """Return point `number` of a grid, counted from 0; the last key changes fastest. Chosen indices go to `values`."""
    if _kind(node) == "choose":
        where = _below(path, "choose")
        for index, entry in enumerate(node["choose"]):
            if number < _points(entry):
                values[where] = index
                return _point(entry, number, f"{where}[{node['choose'].index(entry)}]", values)
            number -= _points(entry)
    if not isinstance(node, dict):
        return node
    point = {}
    for key, value in reversed(node.items()):
        number, digit = divmod(number, _points(value))
        point[key] = _point(value, digit, _below(path, key), values)
    return {key: point[key] for key in node}


def _variants(node: Any) -> list[Any]:
    """Return concrete values in which every alternative and both ends of every range occur at least once."""
    kind = _kind(node)
    if kind == "choose":
        return [variant for entry in node["choose"] for variant in _variants(entry)]
    if kind:
        return list(node[kind])
    if not isinstance(node, dict):
        return [node]
    options = {key: _variants(value) for key, value in node.items()}
    first = {key: values[0] for key, values in options.items()}
    return [first] + [first | {key: value} for key, values in options.items() for value in values[1:]]


def _ranges(node: Any) -> Iterator[Any]:
    kind = _kind(node)
    if kind in RANGES:
        yield node
    for child in node["choose"] if kind == "choose" else node.values() if isinstance(node, dict) else []:
        yield from _ranges(child)
