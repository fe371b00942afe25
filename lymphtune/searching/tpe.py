"""Tree-structured Parzen estimators (TPE): what to try next, learnt from the trials so far; Optuna's, told by us.

Source: Bergstra, Bardenet, Bengio and Kégl 2011, Algorithms for Hyper-Parameter Optimization, section 4 (NeurIPS 24).
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lymphtune.config import Configuration, configuration, shown
from lymphtune.errors import InputError
from lymphtune.spaces import Space, draw

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import BaseTrial, FrozenTrial

N_RANDOM = 10  # trials done or stopped before anything is learnt from them; Optuna's own default

Fate = Literal["done", "stopped", "failed"]
STATES = {"done": "COMPLETE", "stopped": "PRUNED", "failed": "FAIL"}


class Tpe:
    """Suggestions for a space: each follows from space, seed, its number and what is known of the other trials alone.

    Nothing but the trials is kept, by number: who puts them back with `again` and `tell`, in whatever order, gets the
    suggestion that would have come next.

    Until 10 trials are done or stopped, suggestions are random. Then the parameters that occur together are drawn
    together, those of a branch apart from the others' (Optuna's `multivariate` and `group`; Falkner, Klein and Hutter
    2018, section 3, arXiv:1807.01774), and trials that still run count as bad ones (`constant_liar`), so that workers
    side by side try different things. Failed trials teach nothing.
    """

    def __init__(self, space: Space, seed: int) -> None:
        """Raise InputError for a grid, and where Optuna is not installed."""
        if space.grid:
            raise InputError(f"{space.name}: a grid has fixed points, nothing is left to suggest: --searcher random")
        _optuna()
        self.space, self.seed = space, seed
        self.trials: dict[int, FrozenTrial] = {}

    def suggest(self, number: int) -> Configuration:
        """Return what to try as trial `number`; it counts as running from here on."""
        asked = _Asked(self._study(number).ask())
        chosen, values = draw(self.space.tree, asked)
        return self._start(number, chosen, values, asked.trial)

    def again(self, number: int, parameters: Mapping[str, int | float]) -> Configuration:
        """Return what was suggested with these parameters; it counts as running from here on.

        Raises InputError naming a parameter that the space does not have, lacks, or has with another range.
        """
        where = f"{self.space.name}, parameters of trial {number}"
        recalled = _Recalled(parameters, where)
        chosen, values = draw(self.space.tree, recalled)
        if unknown := sorted(set(parameters) - set(values)):
            raise InputError(f"{where}: the space has no {unknown[0]} beside the others")
        return self._start(number, chosen, values, recalled.trial)

    def parameters(self, number: int) -> dict[str, int | float]:
        """Return what was drawn for the trial, by its path in the space: plain values for JSON, and for `again`."""
        return dict(self.trials[number].params)

    def tell(self, number: int, value: float | None, fate: Fate, curve: Sequence[float] = ()) -> None:
        """Say how a suggested trial ended.

        value: class-balanced log loss, of a trial that is done; curve: the same of each epoch from the first. Stopped
        trials rank behind all that are done, those that got further first, then by their last epoch's value.
        """
        done = fate == "done"
        if done and (value is None or not math.isfinite(value)):
            raise ValueError(f"trial {number} is done with a log loss of {value}")
        optuna, running = _optuna(), self.trials[number]
        self.trials[number] = optuna.trial.create_trial(
            state=optuna.trial.TrialState[STATES[fate]],
            value=value if done else None,
            params=running.params,
            distributions=running.distributions,
            intermediate_values=dict(enumerate(curve, start=1)),
        )

    @property
    def study(self) -> "Study":
        """Return the trials as Optuna sees them, in the order of their numbers."""
        return self._study(0)

    def _start(self, number: int, chosen: Any, values: dict[str, int | float], trial: "BaseTrial") -> Configuration:
        if number in self.trials:
            raise ValueError(f"trial {number} has been suggested before")
        optuna = _optuna()
        self.trials[number] = optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING, params=values, distributions=trial.distributions
        )
        return configuration(chosen, self.space.name)

    def _study(self, number: int) -> "Study":
        """Return a fresh study, so that no sampler's memory of earlier questions has a say in this one."""
        optuna = _optuna()
        own_seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                n_startup_trials=N_RANDOM, multivariate=True, group=True, constant_liar=True, seed=own_seed
            )
        study: Study = optuna.create_study(sampler=sampler, direction="minimize")
        study.add_trials([self.trials[known] for known in sorted(self.trials)])
        return study


class _Asked:
    """Draws what an Optuna trial says, place by place; only the branches taken are asked for."""

    def __init__(self, trial: "BaseTrial") -> None:
        self.trial = trial

    def choice(self, path: str, n: int) -> int:
        return self.trial.suggest_categorical(path, range(n))

    def number(self, path: str, kind: str, low: float, high: float) -> float:
        if kind == "integer":
            return self.trial.suggest_int(path, int(low), int(high))
        return self.trial.suggest_float(path, low, high, log=kind == "log_uniform")


class _Recalled(_Asked):
    """Draws what was recorded, once it is found to lie in the place's range."""

    def __init__(self, parameters: Mapping[str, int | float], where: str) -> None:
        super().__init__(_optuna().trial.FixedTrial(dict(parameters)))
        self.parameters, self.where = parameters, where

    def choice(self, path: str, n: int) -> int:
        self._check(path, int, 0, n - 1)
        return super().choice(path, n)

    def number(self, path: str, kind: str, low: float, high: float) -> float:
        self._check(path, int if kind == "integer" else float, low, high)
        return super().number(path, kind, low, high)

    def _check(self, path: str, kind: type, low: float, high: float) -> None:
        noun = "a whole number" if kind is int else "a number"
        if path not in self.parameters:
            raise InputError(f"{self.where}: {path} is missing; expected {noun} from {low} to {high}")
        value = self.parameters[path]
        if type(value) not in (int, kind) or not low <= value <= high:
            raise InputError(f"{self.where}: {path}: expected {noun} from {low} to {high}; found {shown(value)}")


def _optuna() -> Any:
    """Return the package, told to be quiet; raises InputError where it is not installed."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise InputError("--searcher tpe needs optuna: pip install 'lymphtune[tpe]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
