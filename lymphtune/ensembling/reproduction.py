"""Are the weights of a run those that made its out-of-fold probabilities? Asked before an ensemble takes them.

Shapes: R repeats, P patients of the cohort, E epochs.
"""

from pathlib import Path

import numpy as np

from lymphtune import console
from lymphtune.cohort import Cohort
from lymphtune.config import Configuration
from lymphtune.ensembling.candidates import read_oof, run_folds
from lymphtune.errors import InputError
from lymphtune.files import hashes, read_yaml
from lymphtune.runs.run import Run

PATIENTS = 3  # held-out patients a fold that each fold model predicts again
TOLERANCE = {"float32": 1e-3}  # of the median difference of probabilities, by the precision of the search
ROUGH = 0.02  # where the search had less precision than float32, in which members predict


def check_hashes(run: Run, trial: str, copy: Path) -> None:
    """Raise InputError where a copy of a trial's weights is not the files that its search wrote, each by its name."""
    folder = run.trial(trial) / "weights"
    written = read_yaml(run.trial(trial) / "config.yaml").get("weights") or {}
    found = hashes(copy)
    changed = sorted(name for name, digest in written.items() if found.get(name) != digest)
    if changed:
        names = ", ".join(changed)
        raise InputError(f"{folder}: not the weights that the search wrote ({names}); restore them, or search again")


def check_reproduction(run: Run, cohort: Cohort, trials: dict[str, int], weights: Path) -> None:
    """Raise InputError where fold models do not reproduce the out-of-fold probabilities that chose them.

    trials: the judged epoch of each, from 1. weights: folder of a copy of each trial's weights. Of each fold PATIENTS
    held-out patients are predicted again. The median difference is compared, fold by fold: precision and processor move
    each probability a little, and a saturated one may jump, but the weights of another fold or run move most of them.
    """
    folds_RP = run_folds(run, cohort.ids)
    tolerance = TOLERANCE.get(known.precision if (known := run.description.arithmetic) else "float32", ROUGH)
    with console.bar("checking members", len(trials)) as bar:
        for trial, epoch in trials.items():
            oof_RP = read_oof(run.trial(trial) / "oof.parquet", cohort.ids, folds_RP, cohort.hash)[epoch - 1]
            wrong = [
                path.name
                for path, rows in _held_out(weights / trial, folds_RP)
                if _difference(path, run.configuration(trial), cohort, rows, oof_RP) > tolerance
            ]
            if wrong:
                raise InputError(
                    f"{run.trial(trial) / 'weights'}: {', '.join(wrong)} do not reproduce the trial's out-of-fold "
                    "probabilities; they are of another fold or run; restore the files, or search again"
                )
            bar.advance()


def _held_out(folder: Path, folds_RP: np.ndarray) -> list[tuple[Path, np.ndarray]]:
    """Return each fold model's file and the rows of the patients, evenly spaced, that it predicts again."""
    found = []
    for path in sorted(folder.glob("repeat-*")):
        _, repeat, _, fold = path.stem.split("-")
        rows = np.flatnonzero(folds_RP[int(repeat)] == int(fold))
        found.append((path, rows[np.unique(np.linspace(0, len(rows) - 1, PATIENTS).round().astype(int))]))
    return found


def _difference(path: Path, chosen: Configuration, cohort: Cohort, rows: np.ndarray, oof_RP: np.ndarray) -> float:
    """Return the median difference between what a fold model predicts now and its out-of-fold probabilities."""
    from lymphtune.training.loading import predict_with

    now_P = predict_with(path, chosen, cohort, rows).probability_P
    return float(np.median(np.abs(now_P - oof_RP[int(path.name.split("-")[1]), rows])))
