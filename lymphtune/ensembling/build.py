"""From a run to a saved ensemble: choose, combine, score, copy the weights, predict, write the submission."""

import shutil
from collections.abc import Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lymphtune.cohort import Cohort, load_cohort
from lymphtune.ensembling.bundle import FORMAT, Ensemble, hashed
from lymphtune.ensembling.candidates import Candidates, eligible, find_candidates, read_candidates
from lymphtune.ensembling.recipe import Recipe, load_recipe
from lymphtune.ensembling.score import Scores, score, summary
from lymphtune.errors import InputError
from lymphtune.files import read_yaml, sha256, whole, whole_folder, write_table, write_text, write_yaml
from lymphtune.runs import RUNS, Run, find_run
from lymphtune.statistics.metrics import THRESHOLD


def build_ensemble(
    recipe: str = "top",
    *,
    top: int | None = None,
    source: str | None = None,
    run: str | Path | None = None,
    runs: Path = RUNS,
    data: str | Path | None = None,
) -> Ensemble:
    """Return the saved ensemble of a run (the latest unless named); its `summary` is the table of scores.

    Writes ensembles/<recipe>/ in the run's folder. Raises InputError on anything a person can mend.
    """
    chosen_recipe = load_recipe(recipe, top, source)
    found = find_run(None if run is None else str(run), Path(runs))
    cohort = _cohort(found, data)
    candidates = find_candidates(found, cohort, chosen_recipe)
    rows = candidates.choose(chosen_recipe.trials)
    combiner = chosen_recipe.build().fit(candidates.oof_CP[rows], candidates.labels_P)
    baselines = read_candidates(found, cohort, eligible(found.leaderboard, "clinical"))
    scores = score(candidates, baselines, chosen_recipe, combiner.predict_proba(candidates.oof_CP[rows]))
    path = found.path / "ensembles" / chosen_recipe.name
    with whole_folder(path) as scratch:
        _write_bundle(scratch, found, chosen_recipe, candidates, rows, scores)
        _write_trained_on(scratch, cohort)
        _seal(scratch)
        saved, new = Ensemble.load(scratch), cohort.to_predict
        ids, seen_P = [cohort.ids[row] for row in new], saved.seen(cohort)[new]
        write_predictions(scratch, saved.table(ids, saved.predict(cohort, new), seen_P), cohort.about)
    return Ensemble.load(path, _summary(found, cohort, candidates, rows, baselines, scores))


def _cohort(run: Run, data: str | Path | None) -> Cohort:
    """Return the cohort the run was trained on, and no other."""
    given = run.description["cohort"]
    try:
        cohort = load_cohort(data or given["data"], date.fromisoformat(given["reference_date"]))
    except InputError as error:
        if data is not None:
            raise
        raise InputError(f"{error}; the run {run.name} was trained on it: name it with --data") from error
    if cohort.hash != given["hash"]:
        raise InputError(
            f"{data or given['data']}: not the cohort that the run {run.name} was trained on "
            f"(hash {cohort.hash}, expected {given['hash']}); name that one with --data"
        )
    return cohort


def _write_bundle(
    folder: Path, run: Run, recipe: Recipe, candidates: Candidates, rows: np.ndarray, scores: Scores
) -> None:
    """Write weights, out-of-fold table and ensemble.yaml."""
    members = []
    trials = [str(candidates.table["trial"].iloc[candidates.trial_C[row]]) for row in rows]
    for trial in trials:
        held = sorted((run.trial(trial) / "weights").glob("repeat-*"))
        if not held:
            raise InputError(f"{run.trial(trial)}: its weights were not kept; search with a larger --keep-weights")
        (folder / "weights" / trial).mkdir(parents=True)
        for file in [*held, *(run.trial(trial) / "weights").glob("backbone.*")]:
            shutil.copyfile(file, folder / "weights" / trial / file.name)
        names = [f"weights/{trial}/{file.name}" for file in held]
        given = run.configuration(trial).as_yaml()
        members.append({"trial": trial, "weights": names, "configuration": given})
    oof = pd.DataFrame(candidates.oof_CP[rows].T, columns=trials)
    oof.insert(0, "label", candidates.labels_P)
    write_table(folder / "oof.parquet", oof, run.description["cohort"])
    write_yaml(folder / "ensemble.yaml", _describe(run, recipe, scores, members))


def _describe(run: Run, recipe: Recipe, scores: Scores, members: list[dict[str, Any]]) -> dict[str, Any]:
    described = run.description
    ensemble = scores.naive["ensemble"]
    return {
        "format": FORMAT,
        "recipe": {"name": recipe.name, "combiner": recipe.combiner.as_yaml(), "from": recipe.source},
        "threshold": THRESHOLD,
        "run": run.name,
        "cohort": {k: described["cohort"][k] for k in ("name", "simulated", "hash", "reference_date", "n_labelled")},
        "folds": sha256(run.path / "folds.parquet")[:16],
        "scores": {
            "out_of_fold_flattered": {name: round(value.value, 4) for name, value in ensemble.items()},
            "honest_balanced_accuracy": [round(float(v), 4) for v in vars(scores.honest["ensemble"]).values()],
        },
        "versions": {name: version(name) for name in ("lymphtune", "torch", "timm", "scikit-learn", "numpy")},
        "members": members,
    }


def _write_trained_on(folder: Path, cohort: Cohort) -> None:
    lines, digests = [], cohort.digests_of_bags
    for row in cohort.labelled:
        lines.append(" ".join([hashed(cohort.ids[row]), *(digest[:16] for digest in digests[row])]))
    write_text(folder / "trained_on.txt", "\n".join(lines) + "\n")


def _seal(folder: Path) -> None:
    """Add every file's hash to ensemble.yaml, so that an altered folder is noticed."""
    described = read_yaml(folder / "ensemble.yaml")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "ensemble.yaml")
    described["files"] = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
    write_yaml(folder / "ensemble.yaml", described)


def write_predictions(folder: Path, table: pd.DataFrame, about: Mapping[str, str]) -> None:
    """Write predictions.parquet, which is the table, and submission.csv."""
    write_table(folder / "predictions.parquet", table, about)
    submission = table[["patient", "predicted"]].set_axis(["ID", "Predicted"], axis=1)
    with whole(folder / "submission.csv") as scratch:
        submission.to_csv(scratch, index=False, lineterminator="\n")


def _summary(
    run: Run, cohort: Cohort, candidates: Candidates, rows: np.ndarray, baselines: Candidates, scores: Scores
) -> str:
    best = baselines.table.iloc[baselines.trial_C[baselines.choose(1)[0]]]
    chosen = candidates.table.iloc[candidates.trial_C[rows]]
    titles = {row.trial: f"{row.trial[:6]} {row.title}" for row in chosen.itertuples()}
    titles |= {"ensemble": f"ensemble of {len(rows)}", "baseline": f"best baseline: {best.title}"}
    protocol = run.description["protocol"]
    opening = (
        f"{run.name}: {len(rows)} trials of {len(candidates.table)}, {protocol['folds']} folds x "
        f"{protocol['repeats']} seeds, {len(candidates.patients)} patients judged, {len(cohort.to_predict)} to predict"
    )
    return opening + "\n" + summary(scores, titles, cohort.simulated)
