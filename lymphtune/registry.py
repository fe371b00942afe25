"""Families of interchangeable parts: a family is a folder, a member a file, its YAML word the file's name."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ConfigDict

from lymphtune.errors import listed

Built = TypeVar("Built")


@dataclass(frozen=True)
class Member:
    """One word of a family: the class or function that builds it, and the dataclass of its options."""

    word: str
    build: Callable[..., Any]
    options: type


class Family(Generic[Built]):
    """The words of one kind of part; its folder is imported when a word is first asked for."""

    def __init__(self, name: str, package: str) -> None:
        self.name, self.package = name, package
        self._members: dict[str, Member] = {}
        self._loaded = False

    def register(self, word: str, options: type) -> Callable[[Built], Built]:
        """Return a decorator that makes a class or function the member `word`, configured by `options`."""
        options.__pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)  # type: ignore[attr-defined]

        def keep(build: Built) -> Built:
            self._members[word] = Member(word, build, options)  # type: ignore[arg-type]
            return build

        return keep

    def words(self) -> list[str]:
        """Return all words of the family, sorted."""
        if not self._loaded:
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self.package}.{module.name}")
            self._loaded = True
        return sorted(self._members)

    def __getitem__(self, word: str) -> Member:
        """Return the member; raises KeyError with the words there are."""
        if word not in self.words():
            raise KeyError(f"{self.name} has no '{word}'; there are {listed(word, self.words())}")
        return self._members[word]


encoders: Family[type] = Family("encoder", "lymphtune.models.encoders")
heads: Family[type] = Family("head", "lymphtune.models.heads")
aggregators: Family[type] = Family("aggregator", "lymphtune.models.aggregators")
fusions: Family[type] = Family("fusion", "lymphtune.models.fusions")
clinical_models: Family[Callable[..., Any]] = Family("clinical", "lymphtune.models.clinical")
schedules: Family[Callable[..., Any]] = Family("schedule", "lymphtune.training.schedules")
combiners: Family[type] = Family("combiner", "lymphtune.combiners")
calibrations: Family[type] = Family("calibration", "lymphtune.calibrations")
stopping_rules: Family[type] = Family("scheduler", "lymphtune.searching.stopping")
