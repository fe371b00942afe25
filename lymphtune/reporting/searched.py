"""What a section says of a search: its networks at one epoch, their choices, the rungs, and what stopping saved.

Shapes: N trials compared, G values or bins of a choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from lymphtune.config import configuration
from lymphtune.reporting.facts import Facts
from lymphtune.runs.description import ProtocolDescription
from lymphtune.searching.choices import Choices, Sampled, sampled_by
from lymphtune.searching.description import space_of
from lymphtune.searching.rungs import smoothed
from lymphtune.statistics.importance import Importance, Points, importance

CONFIGURATIONS = 2000  # drawn from the space
FEWEST_MODELLED = 10  # trials: fewer say nothing of a dozen choices
FAR = 3.0  # interquartile ranges above the third quartile: losses further off count as that far


@dataclass(frozen=True)
class Rung:
    """An epoch at which trials are stopped; the score of each that reached it, by trial, and who was stopped there."""

    epoch: int
    scores: pd.Series
    stopped: pd.Series


@dataclass(frozen=True)
class Searched:
    """The networks of a run. table: their rows of the leaderboard, by number, failed ones included; curves: each
    epoch's log loss, by trial."""

    facts: Facts
    table: pd.DataFrame
    curves: dict[str, list[float]]

    @classmethod
    def of(cls, facts: Facts) -> "Searched":
        board = facts.board
        table = board[~board["baseline"] & (board["kind"] == "network")].sort_values("number", ignore_index=True)
        return cls(facts, table, {trial: _losses(facts, trial) for trial in table["trial"]})

    @property
    def protocol(self) -> ProtocolDescription:
        return self.facts.description.protocol

    @cached_property
    def ended(self) -> pd.DataFrame:
        """Return the trials that are done or were stopped, with curves to be read."""
        known = self.table["trial"].map(lambda trial: bool(self.curves[trial]))
        return self.table[(self.table["status"] != "failed") & known].reset_index(drop=True)

    @cached_property
    def epoch(self) -> int:
        """Return the last epoch that all have reached, the first rung at least: there all are compared alike."""
        reached = min(len(self.curves[trial]) for trial in self.ended["trial"])
        return max([reached, *self.protocol.rungs[:1]])

    @cached_property
    def compared(self) -> pd.DataFrame:
        """Return the trials that reached the epoch of comparison, with their `score` there: as a rung takes it."""
        there = self.ended[[len(self.curves[trial]) >= self.epoch for trial in self.ended["trial"]]]
        scores = [self.score(trial, self.epoch) for trial in there["trial"]]
        return there.assign(score=scores).reset_index(drop=True)

    def score(self, trial: str, epoch: int) -> float:
        """Return the mean log loss of the last epochs up to this one."""
        return smoothed(self.curves[trial][:epoch])

    @cached_property
    def losses_N(self) -> np.ndarray:
        """Return the scores compared; one far beyond the others counts as the fence that it lies behind."""
        scores_N = self.compared["score"].to_numpy(float)
        low, high = np.quantile(scores_N, [0.25, 0.75])
        return np.minimum(scores_N, high + FAR * (high - low)) if high > low else scores_N

    @cached_property
    def sampled(self) -> dict[int, Sampled]:
        """Return what was drawn for the trials compared, by number; those that are not known are left out."""
        return sampled_by(self.facts.run, space_of(self.facts.run), self.compared["number"])

    @cached_property
    def choices(self) -> Choices | None:
        """Return what the space leaves open; None where the run's description does not say what trials chose."""
        given = self.facts.description
        known = given.space.model_fields_set | given.protocol.model_fields_set
        if not {"grid", "rows", "note", "searcher"} <= known:
            return None
        space = space_of(self.facts.run)
        same = len(self.sampled) == len(self.compared)
        if same and self.protocol.searcher == "random":  # drawn anew: is it what was drawn then?
            titles = dict(zip(self.compared["number"], self.compared["title"], strict=True))
            again = {n: configuration(space.sampled(self.protocol.seed, n)[0], space.name).title for n in titles}
            same = titles == again
        return Choices.of(space) if same else None

    @cached_property
    def points(self) -> Points:
        """Return what the trials compared chose."""
        assert self.choices is not None
        return self.choices.points([self.sampled[number] for number in self.compared["number"]])

    @cached_property
    def importance(self) -> Importance | None:
        """Return what each choice accounts for; None where it is not known, or too few or equal trials say nothing."""
        if len(self.compared) < FEWEST_MODELLED or np.ptp(self.losses_N) == 0:
            return None
        if self.choices is None or not self.choices.choices:
            return None
        sampled = self.choices.sampled(CONFIGURATIONS)
        if not (
            np.nanmax(sampled.values_NC, axis=0, initial=-1) > np.nanmin(sampled.values_NC, axis=0, initial=1e9)
        ).any():
            return None  # all networks of the space are alike
        return importance(self.choices.choices, self.points, self.losses_N, sampled)

    @cached_property
    def rungs(self) -> list[Rung]:
        """Return the rungs that any trial reached."""
        found = []
        for epoch in self.protocol.rungs:
            there = self.ended[[len(self.curves[trial]) >= epoch for trial in self.ended["trial"]]]
            if len(there):
                scores = pd.Series({trial: self.score(trial, epoch) for trial in there["trial"]})
                stopped = (there["status"] == "stopped") & (there["epochs"] == epoch)
                found.append(Rung(int(epoch), scores, pd.Series(stopped.to_numpy(), index=scores.index)))
        return found

    @property
    def epochs_planned(self) -> int:
        return len(self.ended) * self.protocol.epochs

    @property
    def epochs_trained(self) -> int:
        return int(self.ended["epochs"].sum())

    @property
    def seconds_saved(self) -> float:
        """Return the seconds of a worker that the epochs not trained would have taken, each trial at its own pace."""
        stopped = self.ended[self.ended["status"] == "stopped"]
        left = self.protocol.epochs - stopped["epochs"]
        return float((left * stopped["seconds"] / stopped["epochs"]).sum())


def _losses(facts: Facts, trial: str) -> list[float]:
    """Return the log loss of each epoch; none where the file is damaged or was never written."""
    curves = facts.curves(trial)
    return [] if curves is None or "log_loss" not in curves else curves["log_loss"].astype(float).tolist()


def shown_value(searched: Searched, choice: int, at: float) -> str:
    """Return a value of a choice as the space's YAML has it."""
    assert searched.choices is not None
    labels: Sequence[str] = searched.choices.choices[choice].labels
    return labels[int(at)] if labels else f"{at:.2g}"
