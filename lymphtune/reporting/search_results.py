"""Results of a search for its report section: networks at one epoch, their choices, rungs, savings by stopping.

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

CONFIGURATIONS = 2000  # sampled from the space
FEWEST_MODELLED = 10  # trials; fewer cannot explain a dozen choices
FAR = 3.0  # losses are clipped at this many interquartile ranges above the third quartile


@dataclass(frozen=True)
class Rung:
    """An epoch at which trials can be stopped; scores of the trials that reached it, and whether each was stopped."""

    epoch: int
    scores: pd.Series
    stopped: pd.Series


@dataclass(frozen=True)
class SearchResults:
    """The networks of a run.

    table: their rows of the leaderboard, by number, including failed ones; curves: log loss of each epoch, by trial.
    """

    facts: Facts
    table: pd.DataFrame
    curves: dict[str, list[float]]

    @classmethod
    def of(cls, facts: Facts) -> "SearchResults":
        leaderboard = facts.leaderboard
        table = leaderboard[~leaderboard["baseline"] & (leaderboard["kind"] == "network")].sort_values(
            "number", ignore_index=True
        )
        return cls(facts, table, {trial: _losses(facts, trial) for trial in table["trial"]})

    @property
    def protocol(self) -> ProtocolDescription:
        return self.facts.description.protocol

    @cached_property
    def ended(self) -> pd.DataFrame:
        """The trials that are done or stopped and have readable curves."""
        known = self.table["trial"].map(lambda trial: bool(self.curves[trial]))
        return self.table[(self.table["status"] != "failed") & known].reset_index(drop=True)

    @cached_property
    def epoch(self) -> int:
        """The epoch of comparison: the last that all trials reached, but at least the first rung."""
        reached = min(len(self.curves[trial]) for trial in self.ended["trial"])
        return max([reached, *self.protocol.rungs[:1]])

    @cached_property
    def compared(self) -> pd.DataFrame:
        """The trials that reached the epoch of comparison, with their `score` there as at a rung."""
        reached = self.ended[[len(self.curves[trial]) >= self.epoch for trial in self.ended["trial"]]]
        scores = [self.score(trial, self.epoch) for trial in reached["trial"]]
        return reached.assign(score=scores).reset_index(drop=True)

    def score(self, trial: str, epoch: int) -> float:
        """Return the mean log loss of the last epochs up to this one."""
        return smoothed(self.curves[trial][:epoch])

    @cached_property
    def losses_N(self) -> np.ndarray:
        """The compared scores; those far above the others are clipped."""
        scores_N = self.compared["score"].to_numpy(float)
        low, high = np.quantile(scores_N, [0.25, 0.75])
        return np.minimum(scores_N, high + FAR * (high - low)) if high > low else scores_N

    @cached_property
    def samples_by_number(self) -> dict[int, Sampled]:
        """The samples of the compared trials, by number, without unknown ones."""
        return sampled_by(self.facts.run, space_of(self.facts.run), self.compared["number"])

    @cached_property
    def choices(self) -> Choices | None:
        """The choices of the space; None where the run's description does not tell which values the trials have."""
        given = self.facts.description
        known = given.space.model_fields_set | given.protocol.model_fields_set
        if not {"grid", "rows", "note", "searcher"} <= known:
            return None
        space = space_of(self.facts.run)
        same = len(self.samples_by_number) == len(self.compared)
        if same and self.protocol.searcher == "random":  # sampled again: the titles must be the same
            titles = dict(zip(self.compared["number"], self.compared["title"], strict=True))
            again = {n: configuration(space.sampled(self.protocol.seed, n)[0], space.name).title for n in titles}
            same = titles == again
        return Choices.of(space) if same else None

    @cached_property
    def points(self) -> Points:
        """The values that the compared trials have for each choice."""
        assert self.choices is not None
        return self.choices.points([self.samples_by_number[number] for number in self.compared["number"]])

    @cached_property
    def importance(self) -> Importance | None:
        """The importance of each choice; None where choices are unknown, or trials are too few or all equal."""
        if len(self.compared) < FEWEST_MODELLED or np.ptp(self.losses_N) == 0:
            return None
        if self.choices is None or not self.choices.choices:
            return None
        sampled = self.choices.sampled(CONFIGURATIONS)
        if not (
            np.nanmax(sampled.values_NC, axis=0, initial=-1) > np.nanmin(sampled.values_NC, axis=0, initial=1e9)
        ).any():
            return None  # all networks of the space are the same
        return importance(self.choices.choices, self.points, self.losses_N, sampled)

    @cached_property
    def rungs(self) -> list[Rung]:
        """The rungs that any trial reached."""
        rungs = []
        for epoch in self.protocol.rungs:
            reached = self.ended[[len(self.curves[trial]) >= epoch for trial in self.ended["trial"]]]
            if len(reached):
                scores = pd.Series({trial: self.score(trial, epoch) for trial in reached["trial"]})
                stopped = (reached["status"] == "stopped") & (reached["epochs"] == epoch)
                rungs.append(Rung(int(epoch), scores, pd.Series(stopped.to_numpy(), index=scores.index)))
        return rungs

    @property
    def epochs_planned(self) -> int:
        return len(self.ended) * self.protocol.epochs

    @property
    def epochs_trained(self) -> int:
        return int(self.ended["epochs"].sum())

    @property
    def seconds_saved(self) -> float:
        """The worker seconds that stopping saved, with each trial's mean time per epoch."""
        stopped = self.ended[self.ended["status"] == "stopped"]
        left = self.protocol.epochs - stopped["epochs"]
        return float((left * stopped["seconds"] / stopped["epochs"]).sum())


def _losses(facts: Facts, trial: str) -> list[float]:
    """Return the log loss of each epoch; empty where the file is damaged or missing."""
    curves = facts.curves(trial)
    return [] if curves is None or "log_loss" not in curves else curves["log_loss"].astype(float).tolist()


def shown_value(searched: SearchResults, choice: int, at: float) -> str:
    """Return a value of a choice as in the space's YAML."""
    assert searched.choices is not None
    labels: Sequence[str] = searched.choices.choices[choice].labels
    return labels[int(at)] if labels else f"{at:.2g}"
