"""Copies of the members' weights from a run whose search may still be running and removing weights."""

import shutil
from pathlib import Path

from lymphtune.cohort.folders import check_link
from lymphtune.ensembling.reproduction import check_hashes
from lymphtune.errors import InputError
from lymphtune.runs.run import Run


def copy_weights(run: Run, trials: list[str], into: Path) -> dict[str, list[str]]:
    """Copy each trial's fold models and backbone to `into`/TRIAL, replacing the folder `into`.

    Return the names of the fold models by trial. Raises InputError if weights were not kept, are incomplete, are not
    the files that the search wrote, or are being removed by the search.
    """
    shutil.rmtree(into, ignore_errors=True)
    held = run.folds.query("fold >= 0")[["repeat", "fold"]].drop_duplicates()
    expected = {f"repeat-{row.repeat}-fold-{row.fold}" for row in held.itertuples()}
    return {trial: _copy(run, trial, into / trial, expected) for trial in trials}


def _copy(run: Run, trial: str, into: Path, expected: set[str]) -> list[str]:
    folder = run.trial(trial) / "weights"
    models = sorted(folder.glob("repeat-*"))
    if not models:
        raise InputError(f"{run.trial(trial)}: its weights were not kept; search with a larger --keep-weights")
    if {file.stem for file in models} != expected or len(models) != len(expected):
        raise InputError(f"{folder}: expected the {len(expected)} fold models of the run and no other; search again")
    into.mkdir(parents=True)
    for file in [*models, *folder.glob("backbone.*")]:
        check_link(file, run.path)
        try:
            shutil.copyfile(file, into / file.name)
        except FileNotFoundError as error:
            raise InputError(f"{folder}: removed by the run's search while it was copied; try again") from error
    check_hashes(run, trial, into)
    return [file.name for file in models]
