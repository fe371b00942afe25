"""run.yaml of a search: written when it starts, read when it is resumed, compared with a search asked for later."""

import platform
import shlex
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from lymphtune.cohort import SIMULATED, Cohort
from lymphtune.cohort.pseudonyms import read_pseudonyms
from lymphtune.config import digest
from lymphtune.errors import InputError
from lymphtune.masking import is_masked, masked
from lymphtune.runs.description import RunDescription
from lymphtune.runs.run import Run
from lymphtune.searching.plan import Plan, Stage
from lymphtune.searching.settings import Settings, of_role
from lymphtune.searching.trackers.mlflow_tracker import absolute
from lymphtune.spaces import Space, checked_space
from lymphtune.versions import version

PACKAGES = ("lymphtune", "torch", "torchvision", "timm", "ray", "scikit-learn", "numpy", "pandas", "pillow")
DEFINING, RECORDED = of_role("defining"), of_role("recorded")
SHOWN = 4  # differences
DISTINCT = "distinct"  # of run.yaml: no configuration was drawn twice


def describe(run: Run, cohort: Cohort, plan: Plan, data: str | Path) -> RunDescription:
    """Return the description of a search that starts now."""
    settings = plan.settings
    source = SIMULATED if str(data) == SIMULATED else str(Path(data).resolve())
    described = {
        "name": run.name,
        "created": datetime.now(UTC).isoformat(),
        "status": "running",
        "command": _typed(),
        "cohort": {
            "name": cohort.name,
            "simulated": cohort.simulated,
            "data": source,
            "hash": cohort.hash,
            "reference_date": str(cohort.reference_date),
            "ages": cohort.ages,
            "n_patients": len(cohort.patients),
            "n_labelled": len(cohort.labelled),
            "n_to_predict": len(cohort.to_predict),
            "n_cells": len(cohort.pictures_CSS3),
            **_pseudonyms(settings),
            "attributes": [attribute.as_yaml() for attribute in cohort.attributes],
        },
        "protocol": {name: _masked(getattr(settings, name)) for name in (*DEFINING, *RECORDED)}
        | {
            "folds": plan.n_folds,
            "repeats": len(plan.folds_RP),
            "epochs": plan.epochs,
            "grouped": len({*cohort.groups}) < len(cohort.patients),
            "trials": plan.stages[-1].trials,
            "fold_seed": settings.seed_of_folds,
            "draws": DISTINCT if plan.space.distinct else "any",
            "grace": plan.grace,
            "rungs": plan.rungs(),
            "weights": str(settings.weights.resolve()) if settings.weights else None,
            "stages": [list(stage) for stage in plan.stages],
            "configurations": digest([trial.hash for trial in plan.trials[: plan.stages[0].trials]]),
            "mlflow": masked(absolute(settings.mlflow)) if settings.mlflow else None,
        },
        "space": {
            "name": plan.space.name,
            "about": plan.space.about,
            "grid": plan.space.grid,
            "configuration": plan.space.tree,
            "rows": [row.model_dump() for row in plan.space.rows],
            "note": plan.space.note,
        },
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }
    return RunDescription.model_validate(described)


def _masked(value: Any) -> Any:
    return masked(value) if isinstance(value, str) else value


def _pseudonyms(settings: Settings) -> dict[str, str]:
    """Return that ids are pseudonyms, of which key, and where that lies; never the key."""
    if settings.pseudonymise is None:
        return {}
    key = settings.pseudonymise.resolve()
    return {"pseudonyms": read_pseudonyms(key).fingerprint, "pseudonym_key": str(key)}


def _typed() -> str:
    """Return what was typed, without passwords and tokens."""
    return masked(shlex.join(["lymphtune", *sys.argv[1:]])) if sys.argv[0].endswith("lymphtune") else "Python"


def stages_of(run: Run) -> tuple[Stage, ...]:
    """Return the trials and epochs asked for so far; raises InputError where the run cannot be resumed."""
    stages = run.description.protocol.stages
    if stages is None:
        raise InputError(
            f"{run.path}: written by an earlier lymphtune, which kept too little to resume it; start a new search"
        )
    return tuple(Stage(*stage) for stage in stages)


def settings_of(run: Run, changes: dict[str, Any]) -> Settings:
    """Return the run's settings with the changes."""
    described = run.description
    kept = described.protocol.as_yaml()
    own = {name: kept[name] for name in (*DEFINING, *RECORDED, "weights") if kept.get(name) is not None}
    if is_masked(str(own.get("mlflow", ""))) and "mlflow" not in changes:
        raise InputError(f"{run.path}: the password in --mlflow {own['mlflow']} was not kept; name the server again")
    if "weights" in own:
        own["weights"] = Path(own["weights"])
    if key := described.cohort.pseudonym_key:
        own["pseudonymise"] = Path(key)
    reference = date.fromisoformat(described.cohort.reference_date)
    given = own | {"reference_date": reference, "name": run.name, "runs": run.path.parent} | changes
    return Settings(**given)


def space_of(run: Run) -> Space:
    """Return the space that the run was started with."""
    given = run.description.space
    parts = {name: getattr(given, name) for name in ("about", "grid", "rows", "note", "configuration")}
    return as_sampled(run, checked_space(parts, given.name, f"{run.path / 'run.yaml'}: space"))


def as_sampled(run: Run, space: Space) -> Space:
    """Return the space with its configurations drawn as the run's were: earlier versions drew some twice."""
    return replace(space, distinct=run.description.protocol.draws == DISTINCT)


def check_same(run: Run, fresh: RunDescription) -> None:
    """Raise InputError that shows how the search that is asked for differs from that of the run."""
    own, found = run.description, []
    for part, names in (
        ("cohort", ("pseudonyms", "hash", "n_patients", "n_cells", "reference_date")),
        ("protocol", DEFINING),
    ):
        before, now = getattr(own, part), getattr(fresh, part)
        pairs = [(name, getattr(before, name), getattr(now, name)) for name in names]
        found += [f"{part} {name} {was} -> {wanted}" for name, was, wanted in pairs if was != wanted]
    found += _differences(own.space.configuration, fresh.space.configuration, "space")
    if not found and own.protocol.configurations != fresh.protocol.configurations:
        found = ["pretrained weights, or how configurations are sampled or named"]
    if found:
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise InputError(
            f"{run.path}: belongs to another search ({'; '.join(found[:SHOWN])}{more}); "
            "take another --name for a new run"
        )


def _differences(was: Any, now: Any, path: str) -> list[str]:
    """Return where two trees differ, as `path: this -> that`."""
    if isinstance(was, dict) and isinstance(now, dict):
        keys = [*was, *(key for key in now if key not in was)]
        inside = (_differences(was.get(key), now.get(key), f"{path}.{key}") for key in keys)
        return [found for several in inside for found in several]
    return [] if was == now else [f"{path}: {was} -> {now}"]
