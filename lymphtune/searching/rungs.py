"""Who is stopped early, decided in the order of the trials' numbers, so that it always comes out the same.

At its rungs a rule measures a trial by those with lower numbers that reached the rung. Trials with higher numbers never
matter, however fast they are: the decision is a function of the scores alone, not of which worker was quicker. It
falls when the earlier trials have reached the rung or ended; until then the trial trains on, and if it is then
stopped, what came after the rung is discarded.

Shapes: E epochs so far, R repeats, P patients of the cohort (in a standing: those that are held out).
"""

import math
from collections.abc import Sequence

import numpy as np

from lymphtune.searching.stopping import Rule, RungScores
from lymphtune.statistics.metrics import log_losses

SMOOTHED_EPOCHS = 3  # a score is the mean over this many epochs


def smoothed(scores: Sequence[float]) -> float:
    """Return the mean of the last epochs' scores (lower is better)."""
    last = scores[-SMOOTHED_EPOCHS:]
    return sum(last) / len(last)


def standing(
    trial: str,
    scores: Sequence[float],
    probabilities_ERP: Sequence[np.ndarray],
    labels_P: np.ndarray,
    folds_RP: np.ndarray,
) -> RungScores:
    """Return where a trial stands after its last epoch: score, and each held-out patient's loss, over the last epochs.

    Probabilities are averaged over repeats first; all repeats have the same folds.
    """
    held = folds_RP[0] >= 0
    pooled_EP = np.stack(probabilities_ERP[-SMOOTHED_EPOCHS:])[:, :, held].mean(axis=1)
    losses_P = log_losses(pooled_EP, labels_P[held]).mean(axis=0)
    return RungScores(smoothed(scores), trial, losses_P, labels_P[held], folds_RP[0, held])


def deciding(rules: Sequence[Rule], last: int) -> dict[int, list[Rule]]:
    """Return the epochs before the last at which anything is decided, in order, with the rules that decide there."""
    epochs = sorted({epoch for rule in rules for epoch in rule.epochs(last)})
    return {epoch: [rule for rule in rules if epoch in rule.epochs(last)] for epoch in epochs}


class Rungs:
    """Standings at the rungs, and the stops that follow from them."""

    def __init__(self, rules: Sequence[Rule], last: int, n_trials: int) -> None:
        self.rules, self.n_trials = deciding(rules, last), n_trials
        self.epochs = list(self.rules)
        self.stopped_at: dict[int, int] = {}  # number -> epoch of the rung at which it was stopped
        self.reason: dict[int, str] = {}
        self.decisions = dict.fromkeys(self.epochs, 0)  # epoch of a rung: how many trials were decided there
        self._rung = {epoch: rung for rung, epoch in enumerate(self.epochs)}
        self._waiting: list[dict[int, RungScores]] = [{} for _ in self.epochs]  # of the trials not decided yet
        self._next = [0] * len(self.epochs)  # the first number not decided yet
        self._ended: set[int] = set()
        self._fresh: set[int] = set()  # decided since `newly_decided` was asked last

    def reach(self, number: int, epoch: int, where: RungScores) -> None:
        """Note where a trial stands if the epoch is a rung; what it said first counts."""
        rung = self._rung.get(epoch)
        if rung is not None and number >= self._next[rung]:
            self._waiting[rung].setdefault(number, where)
            self._decide()

    def end(self, number: int) -> None:
        """Note that the trial will report no more."""
        self._ended.add(number)
        self._decide()

    def decided(self, number: int) -> bool:
        """Return whether no later report of any trial can change this trial's fate."""
        return number in self.stopped_at or all(number < following for following in self._next)

    def newly_decided(self) -> set[int]:
        """Return the trials of which `decided` has become true since this was asked last, ended or not."""
        fresh, self._fresh = self._fresh, set()
        return fresh

    def _decide(self) -> None:
        before = min(self._next, default=0)
        for rung in range(len(self.epochs)):
            while self._next[rung] < self.n_trials and self._decide_one(rung, self._next[rung]):
                self._next[rung] += 1
        self._fresh.update(range(before, min(self._next, default=0)))

    def _decide_one(self, rung: int, number: int) -> bool:
        """Decide one trial at one rung if that can be done now."""
        if self.stopped_at.get(number, math.inf) < self.epochs[rung]:
            self._waiting[rung].pop(number, None)
            return True
        if rung and number >= self._next[rung - 1]:
            return False
        where = self._waiting[rung].pop(number, None)
        if where is None:
            return number in self._ended
        epoch = self.epochs[rung]
        self.decisions[epoch] += 1
        reasons = [
            why for rule in self.rules[epoch] if (why := rule.should_stop(epoch, where))
        ]  # all of them remember it
        if reasons:
            self.stopped_at[number], self.reason[number] = epoch, f"{reasons[0]} at epoch {epoch}"
            self._fresh.add(number)
        return True
