"""The commands that reproduce a run and its ensemble."""

import shlex

from lymphtune.ensembling.procedure import Procedure
from lymphtune.runs.description import RunDescription


def search_command(described: RunDescription) -> str:
    """Return the command of a search, or an equivalent one if it was called from Python; described: run.yaml."""
    try:
        typed = shlex.split(described.command)
    except ValueError:  # a damaged run.yaml
        typed = []
    if typed[:1] == ["lymphtune"]:
        # Quoted again, because readers copy it and the run may come from another person.
        return shlex.join(typed)
    protocol = described.protocol
    words = ["search", "--space", described.space.name, "--data", described.cohort.data]
    for name in ("trials", "epochs", "folds", "repeats", "seed"):
        words += [f"--{name}", str(getattr(protocol, name))]
    return shlex.join(["lymphtune", *words])


def ensemble_command(run: str, procedure: Procedure, n_members: int) -> str:
    """Return the command that makes the ensemble of `n_members` trials of the run."""
    recipe = procedure.recipe
    words = ["lymphtune", "ensemble", "--recipe", recipe.name, "--run", run]
    if not recipe.choice.each_kind:
        words += ["--top", str(n_members), "--from", recipe.choice.source]
    if procedure.threshold.text != "0.5":
        words += ["--threshold", procedure.threshold.text]
    if procedure.calibration:
        words += ["--calibration", procedure.calibration.word]
    if procedure.refer:
        words += ["--refer", f"{procedure.refer:g}"]
    if procedure.error_rate != Procedure.error_rate:
        words += ["--error-rate", f"{procedure.error_rate:g}"]
    return shlex.join(words)
