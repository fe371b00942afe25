"""From a run to a saved ensemble: select, combine, score, copy the weights, predict, write the submission."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lymphtune import console
from lymphtune.cohort import Cohort, load_cohort
from lymphtune.cohort.attributes import STANDARD, attribute_names_text
from lymphtune.cohort.folds import check_roles, hashed
from lymphtune.cohort.pseudonyms import Pseudonyms, read_pseudonyms
from lymphtune.ensembling.bundle import FORMAT, LEARNT, PACKAGES, Ensemble
from lymphtune.ensembling.candidates import Candidates, group_note, read_candidates
from lymphtune.ensembling.folder import checked_name, keep_different
from lymphtune.ensembling.learnt import learnt_arrays
from lymphtune.ensembling.members import copy_weights
from lymphtune.ensembling.model_card import MODEL_CARD, Subject, model_card
from lymphtune.ensembling.procedure import Fitted, Procedure
from lymphtune.ensembling.recipe import all_recipes, load_recipe
from lymphtune.ensembling.reliability import write_reliability
from lymphtune.ensembling.reproduction import check_reproduction
from lymphtune.ensembling.score import ENSEMBLE, Comparison, Entry, Scores, compare, score
from lymphtune.ensembling.summary import better_recipes, recipes_rows, recipes_table, summary, summary_values
from lymphtune.errors import InputError
from lymphtune.files import (
    RUNS,
    atomic_folder,
    is_formula,
    read_yaml,
    sha256,
    write_csv,
    write_table,
    write_text,
    write_yaml,
)
from lymphtune.result import Result
from lymphtune.runs.run import Run, find_run
from lymphtune.versions import version

TRIES, READ_AGAIN_S = 4, 2.0  # attempts to read a run while its search changes it, and the wait between them in seconds
COHORT = ("name", "simulated", "hash", "reference_date", "ages", "n_labelled", "pseudonyms")  # keys kept from run.yaml


@dataclass(frozen=True)
class Selection:
    """The trials that a procedure selects, and the procedure fitted on all of a run's held-out patients."""

    procedure: Procedure
    candidates: Candidates
    rows: np.ndarray  # rows of candidates.oof_CP, one per member
    fitted: Fitted

    @property
    def trials(self) -> list[str]:
        return self.candidates.trials(self.rows)["trial"].tolist()

    @property
    def epochs(self) -> list[int]:
        """Return the epoch of each member's predictions, from 1."""
        table = self.candidates.trials(self.rows)
        return [int(epoch) for epoch in table["epoch"]]

    @property
    def oof_MP(self) -> np.ndarray:
        return self.candidates.oof_CP[self.rows]


def build_ensemble(
    procedure: Procedure,
    run: str | Path | None = None,
    runs: Path = RUNS,
    data: str | Path | None = None,
    name: str | None = None,
) -> Ensemble:
    """Build and save the ensemble of a run (default: the latest); its `summary` is the table of scores.

    Writes ensembles/<name>/ in the run's folder (default name: the recipe's). An existing ensemble of that name with
    other options is renamed, not overwritten. Raises InputError on any error that the user can fix.
    """
    name = checked_name(name or procedure.recipe.name)
    found = find_run(None if run is None else str(run), Path(runs))
    cohort = trained_cohort(found, data)
    check_roles(cohort)
    path = found.path / "ensembles" / name
    with atomic_folder(path) as scratch:
        chosen, weights = _select_and_copy(procedure, found, cohort, scratch / "weights")
        check_reproduction(found, cohort, dict(zip(chosen.trials, chosen.epochs, strict=True)), scratch / "weights")
        comparison = Comparison.of(chosen.candidates)
        scores = score(comparison, procedure)
        stopped = procedure.recipe.choice.include_stopped
        others = [other for other in all_recipes(stopped or None) if other.name != procedure.recipe.name]
        entries = compare(comparison, procedure, others)
        described = _write_bundle(scratch, found, chosen, scores, weights)
        members = chosen.candidates.trials(chosen.rows)
        subject = Subject(found.description, described, members, cohort, comparison, procedure, scores)
        write_text(scratch / MODEL_CARD, model_card(subject))
        _write_trained_on(scratch, cohort)
        _seal(scratch)
        saved, new = Ensemble.load(scratch), cohort.to_predict
        seen_P = np.zeros(len(new), dtype=bool)  # check_roles has made sure of that
        ids = [cohort.ids[row] for row in new]
        table = saved.table(ids, saved.predict(cohort, new), seen_P)
        missing_P = saved.missing(cohort.patients.iloc[new])
        write_predictions(scratch, table.assign(missing=missing_P), cohort.about)
        keep_different(path, described)
    return Ensemble.load(path, _summary(found, cohort, chosen, comparison, scores, entries))


def compare_recipes(
    run: str | Path | None = None,
    *,
    runs: Path = RUNS,
    data: str | Path | None = None,
    include_stopped: bool | None = None,
) -> Result:
    """Compare all shipped recipes on a run: naive score, honest score with interval, and difference to `top`."""
    found = find_run(None if run is None else str(run), Path(runs))
    cohort = trained_cohort(found, data)
    comparison = Comparison.of(read_candidates(found, cohort))
    recipes = all_recipes(include_stopped)
    entries = compare(comparison, Procedure(load_recipe("top", include_stopped=include_stopped)), recipes)
    table = recipes_table(f"{found.name}: {len(comparison.candidates.labels_P)} patients scored", comparison, entries)
    text = "\n".join([table, "The best of these scores is optimistic: it was selected.", *_warnings(found, cohort)])
    values = _about(found, cohort, comparison.candidates) | {"recipes": recipes_rows(comparison, entries, "top")}
    return Result(text, values)


def trained_cohort(run: Run, data: str | Path | None) -> Cohort:
    """Load the cohort that the run was trained on; raises InputError if `data` is another one."""
    given = run.description.cohort
    try:
        pseudonyms = pseudonyms_of(run)
        cohort = load_cohort(data or given.data, date.fromisoformat(given.reference_date), pseudonyms)
    except InputError as error:
        if data is not None:
            raise
        raise InputError(f"{error}; the run {run.name} was trained on it: name it with --data") from error
    if cohort.hash != given.hash:
        raise InputError(
            f"{data or given.data}: not the cohort that the run {run.name} was trained on "
            f"(hash {cohort.hash}, expected {given.hash}); name that one with --data"
        )
    return cohort


def pseudonyms_of(run: Run) -> Pseudonyms | None:
    """Return the pseudonyms of the run's ids, None if it has none; raises InputError without their key."""
    given = run.description.cohort
    if not given.pseudonyms:
        return None
    if not given.pseudonym_key:
        raise InputError(f"{run.path / 'run.yaml'}: no 'cohort.pseudonym_key' in it; search again")
    pseudonyms = read_pseudonyms(Path(given.pseudonym_key))
    if pseudonyms.fingerprint != given.pseudonyms:
        raise InputError(f"{given.pseudonym_key}: not the key of the run {run.name}; restore that key")
    return pseudonyms


def _select_and_copy(
    procedure: Procedure, run: Run, cohort: Cohort, into: Path
) -> tuple[Selection, dict[str, list[str]]]:
    """Select the members and copy their weights to `into`; return the selection and each member's fold models.

    A running search removes the weights of trials that fall behind. If that happens meanwhile, the run is read again
    and members are selected again. Raises InputError.
    """
    for tries_left in reversed(range(TRIES)):
        before = _last_change(run)
        try:
            chosen = _choose(procedure, read_candidates(run, cohort))
            return chosen, copy_weights(run, chosen.trials, into)
        except InputError as error:
            running = run.status == "running"
            if not (running or _last_change(run) != before):
                raise
            if not tries_left:
                raise InputError(
                    f"{error}. The run's search is still running and keeps only the weights of its best trials; retry "
                    "after it has ended, or with a smaller --top"
                ) from error
            console.say(f"{run.name}: changed by its search while it was read; reading it again")
            time.sleep(READ_AGAIN_S * running)
    raise AssertionError("the last try returns or raises")


def _last_change(run: Run) -> int:
    """Return the modification time of the run's leaderboard in nanoseconds, 0 if there is none."""
    try:
        return (run.path / "leaderboard.parquet").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _choose(procedure: Procedure, candidates: Candidates) -> Selection:
    procedure.check(candidates.labels_P)
    rows = candidates.chosen(procedure.recipe.choice)
    return Selection(procedure, candidates, rows, procedure.fit(candidates.oof_CP[rows], candidates.labels_P))


def _write_bundle(
    folder: Path, run: Run, chosen: Selection, scores: Scores, weights: dict[str, list[str]]
) -> dict[str, Any]:
    """Write the fitted arrays, the out-of-fold table, the scores and ensemble.yaml; return the latter."""
    from safetensors.numpy import save_file

    members = []
    for trial, models in weights.items():
        names = [f"weights/{trial}/{name}" for name in models]
        members.append({"trial": trial, "weights": names, "configuration": run.configuration(trial).as_yaml()})
    about = run.description.cohort
    save_file(learnt_arrays(chosen.fitted), folder / LEARNT)
    write_table(folder / "oof.parquet", _oof(chosen), about.as_yaml())
    write_table(folder / "scores.parquet", scores.table(), about.as_yaml())
    if chosen.procedure.calibration is not None:
        write_reliability(folder, scores.reliability, about.simulated)
    described = _describe(run, chosen, scores, members)
    write_yaml(folder / "ensemble.yaml", described)
    return described


def _oof(chosen: Selection) -> pd.DataFrame:
    """Return one row per held-out patient: id, label, fold, the ensemble's probability and that of each member."""
    candidates = chosen.candidates
    table = {"patient": candidates.patients, "label": candidates.labels_P, "fold": candidates.fold_P}
    table |= {"probability": chosen.fitted.probability(chosen.oof_MP)}
    return pd.DataFrame(table | dict(zip(chosen.trials, chosen.oof_MP, strict=True)))


def _describe(run: Run, chosen: Selection, scores: Scores, members: list[dict[str, Any]]) -> dict[str, Any]:
    cohort, procedure = run.description.cohort, chosen.procedure
    mine = scores.entries["ensemble"]
    honest = {metric: [round(v, 4) for v in (h.value, h.low, h.high)] for metric, h in mine.honest.items()}
    return {
        "format": FORMAT,
        "name": procedure.recipe.name,
        "recipe": procedure.recipe.as_yaml(),
        "calibration": procedure.calibration.as_yaml() if procedure.calibration else None,
        "threshold": {"rule": procedure.threshold.text, "value": chosen.fitted.threshold},
        "refer": {"share": procedure.refer, "margin": chosen.fitted.margin},
        "error_rate": procedure.error_rate,
        "run": run.name,
        "attributes": cohort.attributes or [attribute.as_yaml() for attribute in STANDARD],
        "cohort": {name: value for name, value in cohort.as_yaml().items() if name in COHORT},
        "folds": sha256(run.path / "folds.parquet")[:16],
        "scores": {"naive": {metric: round(v, 4) for metric, v in mine.naive.items()}, "honest": honest},
        "versions": {name: version(name) for name in PACKAGES},
        "members": members,
    }


def _write_trained_on(folder: Path, cohort: Cohort) -> None:
    lines, digests = [], cohort.digests_of_bags
    for row in cohort.labelled:
        lines.append(" ".join([hashed(cohort.ids[row]), *(digest[:16] for digest in digests[row])]))
    write_text(folder / "trained_on.txt", "\n".join(lines) + "\n")


def _seal(folder: Path) -> None:
    """Add every file's hash to ensemble.yaml, so that loading detects changes."""
    described = read_yaml(folder / "ensemble.yaml")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "ensemble.yaml")
    described["files"] = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
    write_yaml(folder / "ensemble.yaml", described)


def write_predictions(folder: Path, table: pd.DataFrame, about: Mapping[str, str]) -> None:
    """Write the table as predictions.parquet and predictions.csv, and submission.csv.

    A submission needs unchanged ids, so an id that a spreadsheet would run as a formula raises InputError.
    """
    if formulas := [patient for patient in table["patient"] if is_formula(patient)]:
        raise InputError(f"submission.csv: a spreadsheet would run {formulas[0]!r} as a formula; rename the patient")
    write_table(folder / "predictions.parquet", table, about)
    write_csv(folder / "predictions.csv", table)
    submission = table[["patient", "predicted"]].set_axis(["ID", "Predicted"], axis=1)
    write_csv(folder / "submission.csv", submission)


def _summary(
    run: Run, cohort: Cohort, chosen: Selection, comparison: Comparison, scores: Scores, entries: dict[str, Entry]
) -> Result:
    protocol, candidates = run.description.protocol, chosen.candidates
    allowed = candidates.table[candidates.allowed(chosen.procedure.recipe.choice)]
    opening = (
        f"{run.name}: {len(chosen.rows)} of {len(allowed)} trials, {protocol.folds} folds x "
        f"{console.counted(protocol.repeats, 'seed')}, {len(candidates.patients)} patients scored, "
        f"{len(cohort.to_predict)} to predict"
    )
    members = candidates.trials(chosen.rows).assign(weight=_member_weights(chosen))
    known = attribute_names_text(cohort.attributes)
    lines = [*console.wrapped(opening), *summary(scores, chosen.procedure, members, allowed, known)]
    if warning := candidates.shortage(chosen.procedure.recipe.choice, len(chosen.rows)):
        lines += [console.painted(line, "warning") for line in console.wrapped(warning)]
    lines += better_recipes(comparison, scores.entries["ensemble"], entries)
    values = _about(run, cohort, candidates) | summary_values(scores, members, allowed)
    values["recipes"] = recipes_rows(comparison, entries | {ENSEMBLE: scores.entries[ENSEMBLE]}, ENSEMBLE)
    return Result("\n".join([*lines, *_warnings(run, cohort)]), values)


def _about(run: Run, cohort: Cohort, candidates: Candidates) -> dict[str, Any]:
    """Return the run, the cohort and the numbers of patients, for programs."""
    counts = {"n_patients": len(candidates.patients), "n_to_predict": len(cohort.to_predict)}
    return {"run": run.path, "cohort": cohort.name, "simulated": bool(cohort.simulated), **counts}


def _warnings(run: Run, cohort: Cohort) -> list[str]:
    """Return the warnings that every output for such a run carries."""
    lines = []
    if run.description.protocol.folds == 1:
        lines.append("One hold-out: the same few patients serve selection and scoring; honest scores correct for that.")
    lines += console.wrapped(note) if (note := group_note(cohort)) else []
    if cohort.simulated:
        lines.append(console.painted(console.SIMULATED, "warning"))
    return lines


def _member_weights(chosen: Selection) -> np.ndarray:
    """Return each member's weight in the combiner [M], NaN if the combiner has no weights."""
    arrays = learnt_arrays(chosen.fitted)
    for name in ("combiner.weights_M_", "combiner.logit_weights_M_"):
        if name in arrays:
            return arrays[name]
    return np.full(len(chosen.rows), np.nan)
