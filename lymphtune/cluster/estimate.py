"""What a search would cost, from a step that is really taken: time, memory, disk."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lymphtune import console
from lymphtune.cluster.cost import MEASURED, Cost, kinds, measure
from lymphtune.cohort import Cohort
from lymphtune.console import counted
from lymphtune.platforms import usable_cpus
from lymphtune.result import Result
from lymphtune.searching.plan import Plan, Trial, concurrency
from lymphtune.searching.prepare import prepare
from lymphtune.searching.settings import Settings
from lymphtune.searching.time_left import share_trained

CHECKPOINT_WEIGHTS = 8  # times the weights: they, their average and two moments, in the last one and the next
START_S = 12.0  # Ray and the first workers


def dry_run(space: str, data: str | Path | None, settings: Settings) -> Result:
    """Return what the search would do and take; trains two steps of a few configurations, writes no run."""
    import torch

    from lymphtune.training.frozen import distinct_frozen, missing_cost
    from lymphtune.training.precision import fastest_precision

    cohort, plan = prepare(space, data, settings, dry=True)
    networks = plan.networks
    some = kinds(plan)
    slots, gpus = concurrency(settings, usable_cpus(), torch.cuda.device_count())
    device = torch.device("cuda" if gpus else "cpu")
    torch.set_num_threads(usable_cpus())
    bills = [
        missing_cost(chosen, cohort, device) for chosen in distinct_frozen([trial.configuration for trial in networks])
    ]
    features_s, features_bytes = sum(bill[0] for bill in bills), sum(bill[1] for bill in bills)
    precision = fastest_precision(device, settings.cpus_per_trial) if networks else None
    tried = list(some.items())[:MEASURED]
    known = {kind: measure(cohort, plan, trial, device, precision) for kind, trial in tried}
    costs = [known[kind] for kind in (trial.configuration.title.split()[0] for trial in networks) if kind in known]
    lines = _plan_lines(space, cohort, plan, slots, gpus)
    bill = CostEstimate.of(plan, costs, slots, cohort.pictures_CSS3.nbytes, features_s) if costs else None
    if bill is not None:
        lines += bill.lines(slots)
        if features_s:
            lines.append(
                f"frozen features, once: {console.duration(features_s)}, {console.size(features_bytes)} of disk"
            )
        lines.append(f"(two steps of {len(known)} of {len(some)} encoders measured)")
    values = {
        "space": plan.space.name,
        "trials": [_values(trial) for trial in plan.trials],
        "n_folds": plan.n_folds,
        "n_repeats": len(plan.folds_RP),
        "n_networks": _n_networks(plan),
        "n_baselines": len(plan.baselines),
        "epochs": plan.epochs,
        "stops_at_epochs": plan.rungs(),
        "cohort": cohort.name,
        "simulated": bool(cohort.simulated),
        "n_labelled": len(cohort.labelled),
        "n_to_predict": len(cohort.to_predict),
        "n_pictures": len(cohort.pictures_CSS3),
        "trials_at_once": slots,
        "cpus_per_trial": settings.cpus_per_trial,
        "gpus_per_trial": gpus,
        "bill": bill,
        "features": {"seconds": features_s, "n_bytes": features_bytes},
    }
    return Result("\n".join(lines), values)


def _n_networks(plan: Plan) -> int:
    return len(plan.networks) * plan.n_folds * len(plan.folds_RP)


def _plan_lines(space: str, cohort: Cohort, plan: Plan, slots: int, gpus: float) -> list[str]:
    lines = [
        f"space {plan.space.name}: {counted(len(plan.trials), 'trial')} x {counted(plan.n_folds, 'fold')} x "
        f"{counted(len(plan.folds_RP), 'seed')} = {counted(_n_networks(plan), 'network')}, at most "
        f"{counted(plan.epochs, 'epoch')} each, and {len(plan.baselines)} clinical baselines",
        f"cohort {cohort.title}: {len(cohort.labelled)} labelled patients, "
        f"{len(cohort.to_predict)} to predict, {len(cohort.pictures_CSS3)} pictures",
        f"{counted(slots, 'trial')} at once, each with {plan.settings.cpus_per_trial} CPUs and {gpus:g} GPUs; "
        f"stops at epochs {plan.rungs() or 'none'}",
        *[f"  {trial.hash[:6]} {trial.configuration.title}" for trial in plan.trials[:5]],
    ]
    if len(plan.trials) > 5:
        lines.append(f"  ... and {len(plan.trials) - 5} more: lymphtune spaces {space} --sample N")
    return lines


def _values(trial: Trial) -> dict[str, Any]:
    return {"trial": trial.hash, "title": trial.configuration.title, "configuration": trial.configuration.as_yaml()}


@dataclass(frozen=True)
class CostEstimate:
    """Time, memory and disk of all networks; seconds: of the whole search, with early stopping and without."""

    seconds: float
    seconds_at_most: float
    memory_bytes: float
    pictures_bytes: int
    weights_bytes: float
    checkpoints_bytes: float  # while it runs
    free_bytes: int

    @classmethod
    def of(cls, plan: Plan, costs: list[Cost], slots: int, pictures_bytes: int, before_s: float) -> "CostEstimate":
        """Return the bill of a plan whose networks each cost one of `costs`."""
        before_s += START_S
        n_networks = len(plan.networks)
        seconds = float(np.mean([cost.seconds for cost in costs])) * n_networks / slots
        weights = float(np.mean([cost.weights_bytes for cost in costs]))
        kept = min(plan.settings.keep_weights, n_networks) + slots * (len(plan.rungs()) + 1)
        folders = [plan.settings.runs.resolve(), *plan.settings.runs.resolve().parents]
        return cls(
            before_s + seconds * share_trained(plan),
            before_s + seconds,
            max(cost.memory_bytes for cost in costs) * slots,
            pictures_bytes,
            weights * kept,
            CHECKPOINT_WEIGHTS * weights * slots,
            shutil.disk_usage(next(folder for folder in folders if folder.exists())).free,
        )

    def lines(self, slots: int) -> list[str]:
        """Return it as a person reads it."""
        pictures = console.size(self.pictures_bytes)
        return [
            f"time: {console.duration(self.seconds)} with early stopping, "
            f"at most {console.duration(self.seconds_at_most)}",
            f"memory: about {console.size(self.memory_bytes)} for {slots} trials, pictures mapped once: {pictures}",
            f"disk: about {console.size(self.weights_bytes)} of weights, {console.size(self.checkpoints_bytes)} of "
            f"checkpoints while it runs ({console.size(self.free_bytes)} are free); pictures cached: {pictures}",
        ]
