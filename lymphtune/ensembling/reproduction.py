"""Check that the weights of a run reproduce its out-of-fold probabilities, before an ensemble uses them.

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

PATIENTS = 3  # held-out patients per fold that each fold model predicts again
TOLERANCE = {"float32": 1e-3}  # largest median difference of probabilities, by the precision of the search
ROUGH = 0.02  # the same for a search of lower precision than float32; members predict in float32


def check_hashes(run: Run, trial: str, copy: Path) -> None:
    """Raise InputError if a copied weight file of a trial has another hash than the file that the search wrote."""
    folder = run.trial(trial) / "weights"
    written = read_yaml(run.trial(trial) / "config.yaml").get("weights") or {}
    found = hashes(copy)
    changed = sorted(name for name, digest in written.items() if found.get(name) != digest)
    if changed:
        names = ", ".join(changed)
        raise InputError(f"{folder}: not the weights that the search wrote ({names}); restore them, or search again")


def check_reproduction(run: Run, cohort: Cohort, trials: dict[str, int], weights: Path) -> None:
    """Raise InputError if fold models do not reproduce the out-of-fold probabilities by which they were selected.

    trials: the epoch of each trial's predictions, from 1. weights: folder with a copy of each trial's weights. Each
    fold model predicts PATIENTS of its held-out patients again, and the median difference is compared. Precision and
    processor change each probability slightly and a saturated one maybe more; weights of another fold or run change
    most of them.
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
    """Return each fold model's file and the rows of the evenly spaced patients that it predicts again."""
    found = []
    for path in sorted(folder.glob("repeat-*")):
        _, repeat, _, fold = path.stem.split("-")
        rows = np.flatnonzero(folds_RP[int(repeat)] == int(fold))
        found.append((path, rows[np.unique(np.linspace(0, len(rows) - 1, PATIENTS).round().astype(int))]))
    return found


def _difference(path: Path, chosen: Configuration, cohort: Cohort, rows: np.ndarray, oof_RP: np.ndarray) -> float:
    """Return the median difference between a fold model's predictions now and its out-of-fold probabilities."""
    from lymphtune.training.loading import predict_with

    now_P = predict_with(path, chosen, cohort, rows).probability_P
    return float(np.median(np.abs(now_P - oof_RP[int(path.name.split("-")[1]), rows])))
