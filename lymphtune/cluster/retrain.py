"""A run's best configurations trained again, from new seeds on the same folds, none of them stopped early."""

import time
from pathlib import Path

from lymphtune.cluster.driver import check_cluster, run_plan
from lymphtune.cohort import Cohort
from lymphtune.cohort.folds import folds_table
from lymphtune.errors import InputError
from lymphtune.runs.run import Run
from lymphtune.searching.description import settings_of
from lymphtune.searching.plan import Plan
from lymphtune.searching.prepare import prepare
from lymphtune.searching.settings import Settings
from lymphtune.spaces import Row, Space, Suggested

SUFFIX = "-retrained"
# settings of the run that a grid of fixed configurations does not take over: what samples and stops, and who follows it
NOT_KEPT = ("searcher", "scheduler", "racing", "grace", "reduction", "mlflow", "wandb", "report")


def retrain(
    run: Run,
    trials: list[str],
    seeds: int,
    data: str | Path | None = None,
    address: str | None = None,
    storage: str | None = None,
) -> Run:
    """Return the finished run <name>-retrained, beside the given one. storage: URI of the runs, where it has one.

    Raises InputError before anything is trained: where it is there already, where the cohort is another one,
    and where its folds would not be the same.
    """
    started = time.monotonic()
    again = run.path.with_name(run.name + SUFFIX)
    if again.exists():
        raise InputError(
            f"{again}: is there already; `lymphtune stability --run {again.name}` reads it, or move it away"
        )
    data = data or run.description.cohort.data
    cohort, plan = plan_again(run, trials, seeds, data, address, storage)
    return run_plan(cohort, plan, data, started)


def plan_again(
    run: Run, trials: list[str], seeds: int, data: str | Path, address: str | None = None, storage: str | None = None
) -> tuple[Cohort, Plan]:
    """Return the cohort and the plan of exactly these trials' configurations, on the folds of the run."""
    described = run.description
    given, protocol = described.cohort, described.protocol
    changes = {name: getattr(Settings(), name) for name in NOT_KEPT} | {
        "epochs": protocol.epochs,
        "repeats": seeds,
        "seed": protocol.seed + 1,
        "fold_seed": protocol.seed_of_folds,
        "name": run.name + SUFFIX,
        "address": address,
        "storage": storage,
    }
    settings = settings_of(run, changes)
    check_cluster(settings)
    cohort, plan = prepare(_space(run, trials, seeds), data, settings)
    if cohort.hash != given.hash:
        raise InputError(
            f"{data}: not the cohort that the run {run.name} was trained on "
            f"(hash {cohort.hash}, expected {given.hash}); name that one with --data"
        )
    folds = run.folds
    first = folds[folds["repeat"] == 0].reset_index(drop=True)
    if not folds_table(cohort, plan.folds_RP[:1]).equals(first):
        raise InputError(
            f"{run.path / 'folds.parquet'}: not the split that seed {settings.fold_seed} gives with the installed "
            f"scikit-learn; install the version that run.yaml names ({described.versions.get('scikit-learn')})"
        )
    return cohort, plan


def _space(run: Run, trials: list[str], seeds: int) -> Space:
    """Return a grid whose points are these trials' configurations; named rows are never stopped early."""
    configurations = [run.configuration(trial) for trial in trials]
    names = [f"{trial[:6]} {chosen.title}" for trial, chosen in zip(trials, configurations, strict=True)]
    rows = tuple(Row(name=name, published=None) for name in names)
    about = f"the {len(trials)} best configurations of {run.name} again, from {seeds} new seeds each"
    tree = {"choose": [chosen.as_yaml() for chosen in configurations]}
    return Space("retrained", about, True, Suggested(), tree, rows)
