"""What a search will do, fixed before anything starts: settings, folds, and every trial with its own seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lymphtune import console
from lymphtune.config import Configuration, configuration, digest
from lymphtune.errors import InputError
from lymphtune.files import sha256
from lymphtune.registry import stopping_rules
from lymphtune.searching.racing import Racing
from lymphtune.searching.rungs import deciding
from lymphtune.searching.settings import Settings
from lymphtune.searching.stopping import Options, Rule
from lymphtune.spaces import BASELINES, Space

LEAST_GRACE = 3  # epochs


@dataclass(frozen=True)
class Trial:
    """One configuration with its own seed; `hash` names its folder, and changes with all that defines it.

    cycles: the epochs after which it ends, or ended before the search was extended. base: those it has behind it from
    an earlier ending, whose weights' least log loss was `lowest`.
    """

    number: int  # negative for the clinical baselines
    configuration: Configuration
    cycles: tuple[int, ...]
    seed: int
    hash: str
    base: int = 0
    lowest: float = math.inf

    @property
    def baseline(self) -> bool:
        return self.number < 0

    @property
    def epochs(self) -> int:
        return self.cycles[-1]

    def as_config(self) -> dict[str, Any]:
        """Return it as plain values, for a worker and for what is tracked."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        if not self.base:
            del plain["base"], plain["lowest"]
        return plain | {"cycles": list(self.cycles), "configuration": self.configuration.as_yaml()}

    @classmethod
    def of_config(cls, given: dict[str, Any]) -> "Trial":
        """Return the trial that `as_config` gave the plain values of."""
        chosen = configuration(given["configuration"], given["hash"])
        own = {field.name: given[field.name] for field in fields(cls) if field.name in given}
        return cls(**own | {"cycles": tuple(given["cycles"]), "configuration": chosen})


class Stage(NamedTuple):
    """How far a search was to go: at first, and each time it was extended."""

    trials: int
    epochs: int


@dataclass(frozen=True)
class Plan:
    """All trials of a search and the folds they share; folds_RP as `make_folds` returns them.

    defining: the hashes of cohort and folds, part of every trial's own hash. fewest_cells: of the cohort's smallest
    bag, the size at which bags that are `fixed` are judged. Where the searcher learns, the trials are stand-ins:
    configurations of the space that say what may come.
    """

    space: Space
    settings: Settings
    folds_RP: np.ndarray
    stages: tuple[Stage, ...]
    trials: list[Trial]
    baselines: list[Trial]
    defining: dict[str, Any]
    fewest_cells: int = 1

    @property
    def epochs(self) -> int:
        return self.stages[-1].epochs

    @property
    def grace(self) -> int:
        """Return the epochs before a trial can be stopped; an extended search keeps those it began with."""
        return self.settings.grace or max(LEAST_GRACE, self.stages[0].epochs // 3)

    @property
    def count(self) -> int:
        """Return how many trials there are to be; `trials` are those of a searcher that does not learn."""
        return self.stages[-1].trials

    @property
    def n_folds(self) -> int:
        return int(self.folds_RP.max()) + 1

    @property
    def networks(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.configuration.kind == "network"]

    def chosen(self, number: int, configuration: Configuration) -> Trial:
        """Return the trial of a configuration that a searcher chose for that number."""
        sized = configuration.with_bags_of(self.fewest_cells)
        return self.trial(number, from_folder(sized, self.settings.weights))

    def rules(self) -> list[Rule]:
        """Return the rules by which trials are stopped, with nothing remembered.

        None where the space's points are the rows of a table: all of them are trained alike.
        """
        if self.space.rows:
            return []
        options = Options(grace=self.grace, reduction=self.settings.reduction)
        scheduler: Rule = stopping_rules[self.settings.scheduler].build(options)
        return [scheduler, Racing(options)] if self.settings.racing else [scheduler]

    def rungs(self) -> list[int]:
        """Return the epochs at which a trial can be stopped, by whichever rule."""
        return list(deciding(self.rules(), self.epochs))

    def trial(self, number: int, chosen: Configuration) -> Trial:
        """Return the trial of a configuration; its cycles end where the stages that had such a number ended."""
        network = chosen.kind == "network"
        ends = [stage.epochs for stage in self.stages if number < stage.trials] if network else [1]
        cycles = tuple(sorted({*ends}))
        own_seed = int(np.random.SeedSequence([self.settings.seed, number % 2**32]).generate_state(1)[0])
        described = chosen.as_yaml()
        if weights := encoder_option(chosen, "weights"):  # what is in the file counts, not where it lies
            ((word, options),) = described["model"]["encoder"].items()
            described["model"]["encoder"] = {word: options | {"weights": sha256(Path(weights))}}
        identity = {"configuration": described, "epochs": cycles[0], "seed": own_seed} | self.defining
        return Trial(number, chosen, cycles, own_seed, digest(identity))


def make_plan(
    space: Space,
    settings: Settings,
    folds_RP: np.ndarray,
    defining: dict[str, Any],
    before: Sequence[Stage] = (),
    fewest_cells: int = 1,
) -> Plan:
    """Return the plan; `defining` holds the hashes of cohort and folds, `before` the stages of a resumed run.

    Raises InputError where it would have fewer trials or epochs than before.
    """
    last = before[-1] if before else Stage(space.n_points or space.suggested.trials, space.suggested.epochs)
    wanted = settings.trials or last.trials
    there = wanted if settings.searcher == "tpe" else max(space.count(settings.seed, wanted), 1)
    there = max(there, last.trials) if before else there
    if there < wanted:
        console.say(f"{space.name}: {there} different configurations, {wanted} trials asked for: each is trained once")
    stage = Stage(min(wanted, there), settings.epochs or last.epochs)
    if before and (stage.trials < last.trials or stage.epochs < last.epochs):
        raise InputError(
            f"--trials {stage.trials} --epochs {stage.epochs}: the run has {last.trials} trials of {last.epochs} "
            "epochs already, and none is taken back; ask for as many or more"
        )
    stages = (*before, stage) if not before or stage != last else tuple(before)
    plan = Plan(space, settings, folds_RP, stages, [], [], defining, fewest_cells)
    for number in range(stage.trials):
        plan.trials.append(plan.chosen(number, space.sample(settings.seed, number)))
    for index, word in enumerate(BASELINES, start=1):
        plan.baselines.append(plan.trial(-index, configuration({"clinical": word}, word)))
    return plan


def encoder_option(chosen: Configuration, name: str) -> Any:
    """Return an option of the configuration's encoder, None where it has no such option."""
    return getattr(chosen.model.encoder.options, name, None) if chosen.model else None


def from_folder(chosen: Configuration, folder: Path | None) -> Configuration:
    """Return the configuration with `pretrained` weights taken from the folder's <name>.safetensors.

    Raises InputError where a file that is named is not there.
    """
    if folder is not None and encoder_option(chosen, "pretrained"):
        assert chosen.model is not None
        given = chosen.as_yaml()
        ((word, options),) = chosen.model.encoder.as_yaml().items()
        file = folder.expanduser().resolve() / f"{encoder_option(chosen, 'name')}.safetensors"
        given["model"]["encoder"] = {word: options | {"pretrained": False, "weights": str(file)}}
        chosen = configuration(given, str(folder))
    if (weights := encoder_option(chosen, "weights")) and not Path(weights).is_file():
        raise InputError(f"{weights}: no such file; expected the weights of timm:{encoder_option(chosen, 'name')}")
    return chosen


def concurrency(settings: Settings, cpus: float, gpus: float) -> tuple[int, float]:
    """Return how many trials run at once, and the GPUs each gets, on a cluster of so many CPUs and GPUs."""
    wanted = settings.gpus_per_trial
    gpus_per_trial = (1.0 if gpus else 0.0) if wanted is None or wanted == "auto" else wanted
    if settings.address is not None and settings.max_concurrent:
        return settings.max_concurrent, gpus_per_trial  # the cluster may grow to it
    grows = "" if settings.address is None else "; a cluster that is to grow wants --max-concurrent N"
    if gpus_per_trial > gpus:
        raise InputError(f"gpus_per_trial: {gpus_per_trial:g}, but there are {gpus:g} GPUs; 0 trains on CPUs{grows}")
    if settings.cpus_per_trial > cpus:
        raise InputError(f"cpus_per_trial: {settings.cpus_per_trial}, but there are {cpus:g} CPUs{grows}")
    slots = int(cpus // settings.cpus_per_trial)
    if gpus_per_trial:
        slots = min(slots, int(gpus / gpus_per_trial + 1e-9))
    return min(slots, settings.max_concurrent or slots), gpus_per_trial
