"""One search from its words to its leaderboard: plan, describe, train, report."""

import platform
import shlex
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from lymphtune import console
from lymphtune.cohort import SIMULATED, Cohort, check_trainable, default_data, load_cohort
from lymphtune.cohort.folds import check_roles, folds_hash, folds_table, make_folds, roles_table
from lymphtune.config import Part
from lymphtune.errors import InputError
from lymphtune.files import write_table, write_yaml
from lymphtune.registry import encoders
from lymphtune.runs import Run
from lymphtune.searching.board import WEIGHTS_AT, Board
from lymphtune.searching.display import Display, leaderboard_text
from lymphtune.searching.plan import Plan, Settings, Trial, concurrency, encoder_option, local_cpus, make_plan
from lymphtune.searching.table import table_text
from lymphtune.searching.trial import CURVE, Shared
from lymphtune.spaces import Space, load_space

PACKAGES = ("lymphtune", "torch", "torchvision", "timm", "ray", "scikit-learn", "numpy", "pandas", "pillow")


def search(space: str = "mixed", data: str | Path | None = None, settings: Settings | None = None) -> Run:
    """Return the finished run of a search of `space` on the cohort `data`.

    Raises InputError on anything a person can mend, before anything is written or started.
    """
    started = time.monotonic()
    settings = settings or Settings()
    data = default_data() if data is None else data
    cohort, plan = prepare(space, data, settings)
    return run_plan(cohort, plan, data, started)


def prepare(space: str | Space, data: str | Path | None, settings: Settings) -> tuple[Cohort, Plan]:
    """Return the cohort and everything that would be done with it; writes nothing but the picture cache."""
    chosen = space if isinstance(space, Space) else load_space(space)
    folds = settings.folds or chosen.suggested.folds
    cohort = load_cohort(data, settings.reference_date)
    for note in cohort.notes:
        console.say(f"{cohort.name}: {note}")
    check_trainable(cohort, folds)
    if note := check_roles(cohort):
        console.say(f"{cohort.name}: {note}")
    repeats = settings.repeats or chosen.suggested.repeats
    folds_RP = make_folds(cohort.labels, folds, repeats, settings.seed_of_folds)
    defining = {"cohort": cohort.hash, "folds": folds_hash(folds_table(cohort, folds_RP))}
    plan = make_plan(chosen, settings, folds_RP, defining)
    _check_encoders(plan)
    return cohort, plan


def _check_encoders(plan: Plan) -> None:
    """Build every encoder that takes weights from elsewhere once; raises InputError where one cannot be."""
    asked: dict[tuple[Part, int], None] = {}  # in the trials' order
    for chosen in (trial.configuration for trial in plan.networks):
        if chosen.model is not None and encoder_option(chosen, "state"):
            asked[chosen.model.encoder, chosen.data.crop_px] = None
    for encoder, crop_px in asked:
        encoder.options.state()
        encoders[encoder.word].build(crop_px, encoder.options)


def run_plan(cohort: Cohort, plan: Plan, data: str | Path, started: float) -> Run:
    """Return the finished run of a plan; `started` is when the work on it began (time.monotonic)."""
    run = _new_run(plan.settings, plan.space.name)
    description = _describe(run, cohort, plan, data)
    _write_description(run, description)
    write_table(run.path / "folds.parquet", folds_table(cohort, plan.folds_RP), cohort.about)
    write_table(run.path / "roles.parquet", roles_table(cohort, plan.folds_RP), cohort.about)
    console.say(_opening(run, cohort, plan))
    board, display = Board(run, cohort, plan), Display()
    status, slots = "failed", 1
    try:
        status, slots = _train(board, cohort, plan, display, description)
    except KeyboardInterrupt:
        status = "interrupted"
    finally:
        board.close("interrupted", "never started" if status == "done" else "")
        display(board)
        display.close()
        seconds = time.monotonic() - started
        busy = board.trained_s / (seconds * slots)
        ending = {"status": status, "seconds": round(seconds, 1), "busy": round(busy, 3)}
        _write_description(run, description | ending)
    if board.settled:
        print(leaderboard_text(board.leaderboard()))
        if plan.space.rows:
            print(table_text(board))
    console.say(_closing(run, cohort, busy, slots, seconds))
    if status == "interrupted":
        raise KeyboardInterrupt
    return run


def _train(
    board: Board, cohort: Cohort, plan: Plan, show: Callable[[Board], None], description: dict[str, Any]
) -> tuple[str, int]:
    """Train baselines (while Ray starts) and trials; return how it ended, and the worker slots."""
    if plan.settings.address is None:
        _compute_features(cohort, plan)
    with ThreadPoolExecutor(1) as beside:
        baselines = beside.submit(_train_baselines, board, cohort, plan)
        from lymphtune.searching.on_ray import measured_arithmetic, ray_cluster, run_trials

        with ray_cluster(plan.settings.address) as resources:
            slots, gpus = concurrency(plan.settings, resources.get("CPU", 1), resources.get("GPU", 0))
            baselines.result()
            show(board)
            if plan.settings.address is not None:  # other hosts cannot map this one's cache
                cohort = replace(cohort, pictures_CSS3=np.asarray(cohort.pictures_CSS3))
            device = "cuda" if gpus else "cpu"
            arithmetic = measured_arithmetic(plan.settings, device, gpus)
            description["arithmetic"] = arithmetic._asdict() | {"device": device}
            _write_description(board.run, description)
            shared = Shared(cohort, plan, board.run.path, device, arithmetic)
            return "done" if run_trials(board, shared, slots, gpus, show) else "interrupted", slots


def _compute_features(cohort: Cohort, plan: Plan) -> None:
    """Have every frozen encoder's features in the cache before the trials start, on all processors."""
    import torch

    from lymphtune.training.frozen import all_frozen, features

    torch.set_num_threads(local_cpus())
    on_gpu = torch.cuda.is_available() and plan.settings.gpus_per_trial != 0
    for chosen in all_frozen([trial.configuration for trial in plan.networks]):
        features(chosen, cohort, torch.device("cuda" if on_gpu else "cpu"))
    if on_gpu:
        torch.cuda.empty_cache()  # the trials are other processes


def _train_baselines(board: Board, cohort: Cohort, plan: Plan) -> None:
    from lymphtune.training.lockstep import Protocol, train

    for trial in plan.baselines:
        try:
            for result in train(trial.configuration, cohort, Protocol(plan.folds_RP, 1, trial.seed)):
                _save_baseline(board, trial, result)
            board.end(trial.number)
        except ValueError as error:  # scikit-learn's word for too few patients
            board.end(trial.number, str(error).splitlines()[0])


def _save_baseline(board: Board, trial: Trial, result: Any) -> None:
    result.save(board.run.trial(trial.hash) / WEIGHTS_AT.format(result.epoch))
    curve = {name: getattr(result, name) for name in CURVE}
    board.report(trial.number, result.epoch, result.probabilities_RP, curve, result.gates_RP)


def _new_run(settings: Settings, space: str) -> Run:
    name = settings.name or f"{space}-{datetime.now():%Y%m%d-%H%M%S}"
    path = settings.runs.resolve() / name
    if settings.name is None:
        tries = iter(range(2, 1000))
        while path.exists():
            path = settings.runs.resolve() / f"{name}-{next(tries)}"
    if path.exists():
        raise InputError(f"{path}: a run of that name is there already; take another --name")
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be made ({error.strerror}); name another folder with --runs") from error
    return Run(path)


def _describe(run: Run, cohort: Cohort, plan: Plan, data: str | Path) -> dict[str, Any]:
    settings = plan.settings
    source = SIMULATED if str(data) == SIMULATED else str(Path(data).resolve())
    return {
        "name": run.name,
        "created": datetime.now(UTC).isoformat(),
        "status": "running",
        "command": shlex.join(["lymphtune", *sys.argv[1:]]) if sys.argv[0].endswith("lymphtune") else "Python",
        "cohort": {
            "name": cohort.name, "simulated": cohort.simulated, "data": source, "hash": cohort.hash,
            "reference_date": str(cohort.reference_date), "n_patients": len(cohort.patients),
            "n_labelled": len(cohort.labelled), "n_to_predict": len(cohort.to_predict),
            "n_cells": len(cohort.pictures_CSS3),
        },
        "protocol": {
            "folds": plan.n_folds, "repeats": len(plan.folds_RP), "epochs": plan.epochs,
            "trials": len(plan.trials), "seed": settings.seed, "fold_seed": settings.seed_of_folds,
            "grace": settings.grace, "reduction": settings.reduction, "rungs": plan.rungs(),
            "cpus_per_trial": settings.cpus_per_trial, "keep_weights": settings.keep_weights,
            "gpus_per_trial": settings.gpus_per_trial,
            "weights": str(settings.weights.resolve()) if settings.weights else None, "fused": settings.fused,
        },
        "space": {"name": plan.space.name, "about": plan.space.about, "grid": plan.space.grid,
                  "configuration": plan.space.tree},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }  # fmt: skip


def _write_description(run: Run, description: dict[str, Any]) -> None:
    write_yaml(run.path / "run.yaml", description)


def _opening(run: Run, cohort: Cohort, plan: Plan) -> str:
    n_folds, n_repeats = plan.n_folds, len(plan.folds_RP)
    held_out = int((plan.folds_RP[0] >= 0).sum())
    lines = [
        f"{cohort.name}{' (SIMULATED)' if cohort.simulated else ''}: {len(cohort.labelled)} labelled patients, "
        f"{len(cohort.to_predict)} to predict, {len(cohort.pictures_CSS3)} pictures",
        f"{run.path}: {len(plan.trials)} trials of '{plan.space.name}', at most {plan.epochs} epochs, "
        f"{n_folds} {'folds' if n_folds > 1 else 'hold-out'} x {n_repeats} seeds, stops at epochs {plan.rungs()}",
    ]
    if n_folds == 1:
        lines.append(
            f"One hold-out of {held_out} patients: a balanced accuracy from it is good to about ±11 points, and "
            "choosing among many on it is mostly luck. --folds 5 uses every patient."
        )
    return "\n".join(lines)


def _closing(run: Run, cohort: Cohort, busy: float, slots: int, seconds: float) -> str:
    banner = "SIMULATED cohort: these numbers say nothing about people.\n" if cohort.simulated else ""
    return (
        f"Out-of-fold numbers, and the best row was chosen by them: it is flattered. `lymphtune ensemble` says by "
        f"how much.\n{banner}busy: {100 * busy:.0f} % of {slots} worker{'s' if slots > 1 else ''} over "
        f"{console.duration(seconds)} was training and evaluation\n{run.path}"
    )
