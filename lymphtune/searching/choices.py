"""What each trial of a run chose, by names and labels that a person recognises from the space's YAML."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lymphtune.runs.ledger import Ledger
from lymphtune.runs.run import Run
from lymphtune.searching.past import LEDGER
from lymphtune.spaces import Place, Space, places
from lymphtune.statistics.importance import Choice, Points

LONGEST = 28  # characters of a label
Sampled = Mapping[str, int | float]


@dataclass(frozen=True)
class Choices:
    """The choices that a space leaves open to networks, and where in it each of them is made.

    Places that differ in the branch taken alone are one choice: a learning rate is one, whatever encoder it trains.
    """

    space: Space
    choices: tuple[Choice, ...]
    places: tuple[tuple[Place, ...], ...]  # of each choice; its branches, in order

    @classmethod
    def of(cls, space: Space) -> "Choices":
        """Return the choices of a space, in its order; what cannot come out differently is none."""
        by_keys: defaultdict[tuple[str, ...], list[Place]] = defaultdict(list)
        for place in places(space.tree):
            if place.keys[:1] != ("clinical",):
                by_keys[place.keys].append(place)
        names = short_names(list(by_keys))
        found = [(_choice(names[keys], of), tuple(of)) for keys, of in by_keys.items()]
        open_ones = [(choice, of) for choice, of in found if len(choice.labels) != 1]
        return cls(space, tuple(choice for choice, _ in open_ones), tuple(of for _, of in open_ones))

    def points(self, sampled: Sequence[Sampled]) -> Points:
        """Return configurations as an analysis takes them; drawn: of each, what was drawn by its path."""
        values_NC = np.full((len(sampled), len(self.choices)), np.nan)
        branches_NC = np.full(values_NC.shape, -1)
        for c, (choice, of) in enumerate(zip(self.choices, self.places, strict=True)):
            for branch, place in enumerate(of):
                codes = _codes(choice, of, place)
                for n, values in enumerate(sampled):
                    if place.path in values:
                        value = values[place.path]
                        values_NC[n, c] = codes[int(value)] if codes else float(value)
                        branches_NC[n, c] = branch
        return Points(values_NC, branches_NC)

    def sampled(self, count: int, seed: int = 0) -> Points:
        """Return so many networks drawn from the space; of a grid, its points in turn, at random where it has more."""
        n_points = self.space.n_points
        numbers: Iterable[int] = range(count)
        if n_points is not None and n_points > count:
            numbers = (int(number) for number in np.random.default_rng(seed).integers(n_points, size=count))
        sampled = (self.space.sampled(seed, number) for number in numbers)
        return self.points([values for chosen, values in sampled if "model" in chosen])


def sampled_by(run: Run, space: Space, numbers: Iterable[int]) -> dict[int, Sampled]:
    """Return what was drawn for each of the run's trials, by number; those that are not known are left out.

    Random search and grids follow from space, seed and number; what a searcher that learns chose is in the ledger.
    """
    protocol = run.description.protocol
    if protocol.searcher == "random":
        return {number: space.sampled(protocol.seed, number)[1] for number in numbers}
    facts = Ledger(run.path / LEDGER).read()
    parameters = {fact["number"]: fact["parameters"] for fact in facts if "parameters" in fact}
    return {number: parameters[number] for number in numbers if number in parameters}


def short_names(all_keys: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Return for each place in a configuration the fewest of its last keys that name no other one."""
    names = {}
    for keys in all_keys:
        ends = (keys[-length:] for length in range(1, len(keys) + 1))
        own = (end for end in ends if sum(other[-len(end) :] == end for other in all_keys) == 1)
        names[keys] = ".".join(next(own, keys)) or "branch"
    return names


def labels_of(entries: Sequence[Any]) -> list[str]:
    """Return a label for each entry of a list; equal entries have the same, different ones never."""
    words = [_word(entry) for entry in entries]
    found = []
    for entry, word in zip(entries, words, strict=True):
        rivals = [other for other, its in zip(entries, words, strict=True) if its == word and other != entry]
        label = f"{word} {_apart(entry, rivals)}" if rivals else word
        found.append(_cut(label.strip() or next(iter(_leaves("", entry)), "{}")))
    taken: dict[str, list[Any]] = {}
    for index, (entry, label) in enumerate(zip(entries, found, strict=True)):
        same = taken.setdefault(label, [])
        if entry not in same:
            same.append(entry)
        if (place := same.index(entry)) > 0:
            found[index] = f"{label[: LONGEST - 4]} ({place + 1})"
    return found


def _choice(name: str, of: Sequence[Place]) -> Choice:
    if all(place.kind != "choose" for place in of):
        return Choice(name, log=any(place.kind == "log_uniform" for place in of))
    labels = _all_labels(of)
    numbers = [entry for place in of for entry in place.entries if place.kind == "choose"]
    ordered = all(isinstance(entry, int | float) and not isinstance(entry, bool) for entry in numbers)
    if all(place.kind == "choose" for place in of) and ordered:
        return Choice(name, tuple(sorted(labels, key=float)), ordered=True)
    return Choice(name, tuple(labels))


def _all_labels(of: Sequence[Place]) -> list[str]:
    """Return the labels of all the places' entries, each once; a range beside lists is one label."""
    every = [label for place in of for label in _labels(place)]
    return list(dict.fromkeys(every))


def _labels(place: Place) -> list[str]:
    if place.kind == "choose":
        return labels_of(place.entries)
    low, high = place.entries
    return [f"{low:g} to {high:g}"]


def _codes(choice: Choice, of: Sequence[Place], place: Place) -> list[int]:
    """Return for each entry of the place the index of its label; [] where values are numbers."""
    if not choice.labels:
        return []
    return [choice.labels.index(label) for label in _labels(place)]


def _word(entry: Any) -> str:
    if isinstance(entry, dict):
        return str(next(iter(entry), "{}")) if len(entry) == 1 else ""
    if isinstance(entry, list):
        return f"[{', '.join(map(_word, entry))}]"
    if entry is None or isinstance(entry, bool):
        return {None: "null", True: "true", False: "false"}[entry]
    return f"{entry:g}" if isinstance(entry, float) else str(entry)


def _apart(entry: Any, rivals: Sequence[Any]) -> str:
    """Return what this entry alone has among those of the same word."""
    theirs = {leaf for rival in rivals for leaf in _leaves("", rival)}
    return next((leaf for leaf in _leaves("", entry) if leaf not in theirs), "")


def _leaves(key: str, node: Any) -> list[str]:
    if isinstance(node, dict) and set(node) != {"choose"}:
        return [leaf for name, value in node.items() for leaf in _leaves(str(name), value)]
    if isinstance(node, dict):
        return [f"{key} {'/'.join(dict.fromkeys(map(_word, node['choose'])))}"]
    return [f"{key} {_word(node)}"]


def _cut(text: str) -> str:
    text = text.strip()
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
