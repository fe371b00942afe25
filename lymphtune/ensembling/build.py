"""From a run to a saved ensemble: choose, combine, score, copy the weights, predict, write the submission."""

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
from lymphtune.ensembling.score import ENSEMBLE, Entry, RecipeScores, Scores, compare, score
from lymphtune.ensembling.summary import better_recipes, recipes_rows, recipes_table, summary, summary_values
from lymphtune.errors import InputError
from lymphtune.files import atomic_folder, is_formula, read_yaml, sha256, write_csv, write_table, write_text, write_yaml
from lymphtune.result import Result
from lymphtune.runs.run import RUNS, Run, find_run
from lymphtune.versions import version

TRIES, READ_AGAIN_S = 4, 2.0  # readings of a run that changes meanwhile, and the wait between them
COHORT = ("name", "simulated", "hash", "reference_date", "ages", "n_labelled", "pseudonyms")  # of run.yaml, kept


@dataclass(frozen=True)
class Chosen:
    """A procedure that has learnt from all of a run's held-out patients."""

    procedure: Procedure
    candidates: Candidates
    rows: np.ndarray  # of the candidates' out-of-fold table, one a member
    fitted: Fitted

    @property
    def trials(self) -> list[str]:
        return self.candidates.trials(self.rows)["trial"].tolist()

    @property
    def epochs(self) -> list[int]:
        """Return the judged epoch of each member, from 1."""
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
    """Return the saved ensemble of a run (the latest unless named); its `summary` is the table of scores.

    Writes ensembles/<name>/ in the run's folder; name: the recipe's unless given. An ensemble of that name that was
    made in another way is kept under another one. Raises InputError on anything a person can mend.
    """
    name = checked_name(name or procedure.recipe.name)
    found = find_run(None if run is None else str(run), Path(runs))
    cohort = trained_cohort(found, data)
    check_roles(cohort)
    path = found.path / "ensembles" / name
    with atomic_folder(path) as scratch:
        chosen, weights = _gathered(procedure, found, cohort, scratch / "weights")
        check_reproduction(found, cohort, dict(zip(chosen.trials, chosen.epochs, strict=True)), scratch / "weights")
        contest = RecipeScores.of(chosen.candidates)
        scores = score(contest, procedure)
        stopped = procedure.recipe.choice.include_stopped
        others = [other for other in all_recipes(stopped or None) if other.name != procedure.recipe.name]
        entries = compare(contest, procedure, others)
        described = _write_bundle(scratch, found, chosen, scores, weights)
        members = chosen.candidates.trials(chosen.rows)
        subject = Subject(found.description, described, members, cohort, contest, procedure, scores)
        write_text(scratch / MODEL_CARD, model_card(subject))
        _write_trained_on(scratch, cohort)
        _seal(scratch)
        saved, new = Ensemble.load(scratch), cohort.to_predict
        seen_P = np.zeros(len(new), dtype=bool)  # as check_roles has found
        ids = [cohort.ids[row] for row in new]
        table = saved.table(ids, saved.predict(cohort, new), seen_P)
        missing_P = saved.missing(cohort.patients.iloc[new])
        write_predictions(scratch, table.assign(missing=missing_P), cohort.about)
        keep_different(path, described)
    return Ensemble.load(path, _summary(found, cohort, chosen, contest, scores, entries))


def compare_recipes(
    run: str | Path | None = None,
    *,
    runs: Path = RUNS,
    data: str | Path | None = None,
    include_stopped: bool | None = None,
) -> Result:
    """Return a table of all shipped recipes on a run: naive, honest, interval, and the difference to `top`."""
    found = find_run(None if run is None else str(run), Path(runs))
    cohort = trained_cohort(found, data)
    contest = RecipeScores.of(read_candidates(found, cohort))
    recipes = all_recipes(include_stopped)
    entries = compare(contest, Procedure(load_recipe("top", include_stopped=include_stopped)), recipes)
    table = recipes_table(f"{found.name}: {len(contest.candidates.labels_P)} patients judged", contest, entries)
    text = "\n".join([table, "The best of these is flattered by being picked among them.", *_warnings(found, cohort)])
    return Result(text, _about(found, cohort, contest.candidates) | {"recipes": recipes_rows(contest, entries, "top")})


def trained_cohort(run: Run, data: str | Path | None) -> Cohort:
    """Return the cohort the run was trained on, and no other."""
    given = run.description["cohort"]
    try:
        pseudonyms = pseudonyms_of(run)
        cohort = load_cohort(data or given["data"], date.fromisoformat(given["reference_date"]), pseudonyms)
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


def pseudonyms_of(run: Run) -> Pseudonyms | None:
    """Return what the run's ids were replaced by, None where they were not; raises InputError without its key."""
    given = run.description["cohort"]
    if not given.get("pseudonyms"):
        return None
    pseudonyms = read_pseudonyms(Path(given["pseudonym_key"]))
    if pseudonyms.fingerprint != given["pseudonyms"]:
        raise InputError(f"{given['pseudonym_key']}: another key than that of the run {run.name}; put that one back")
    return pseudonyms


def _gathered(procedure: Procedure, run: Run, cohort: Cohort, into: Path) -> tuple[Chosen, dict[str, list[str]]]:
    """Return what a procedure learns from a run, and the fold models of its members, whose weights are in `into` then.

    A search that still runs removes weights of trials that fall behind: where that happens meanwhile, the run is read
    again, and members are chosen anew. Raises InputError.
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
                    f"{error}. The run's search is still running, and keeps the weights of its best trials alone; try "
                    "again when it has ended, or with a smaller --top"
                ) from error
            console.say(f"{run.name}: changed by its search while it was read; reading it again")
            time.sleep(READ_AGAIN_S * running)
    raise AssertionError("the last try returns or raises")


def _last_change(run: Run) -> int:
    """Return when the run's leaderboard was last written, 0 where there is none."""
    try:
        return (run.path / "leaderboard.parquet").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _choose(procedure: Procedure, candidates: Candidates) -> Chosen:
    procedure.check(candidates.labels_P)
    rows = candidates.chosen(procedure.recipe.choice)
    return Chosen(procedure, candidates, rows, procedure.fit(candidates.oof_CP[rows], candidates.labels_P))


def _write_bundle(
    folder: Path, run: Run, chosen: Chosen, scores: Scores, weights: dict[str, list[str]]
) -> dict[str, Any]:
    """Write what was learnt, the out-of-fold table, the scores and ensemble.yaml, which is returned."""
    from safetensors.numpy import save_file

    members = []
    for trial, models in weights.items():
        names = [f"weights/{trial}/{name}" for name in models]
        members.append({"trial": trial, "weights": names, "configuration": run.configuration(trial).as_yaml()})
    about = run.description["cohort"]
    save_file(learnt_arrays(chosen.fitted), folder / LEARNT)
    write_table(folder / "oof.parquet", _oof(chosen), about)
    write_table(folder / "scores.parquet", scores.table(), about)
    if chosen.procedure.calibration is not None:
        write_reliability(folder, scores.reliability, about["simulated"])
    described = _describe(run, chosen, scores, members)
    write_yaml(folder / "ensemble.yaml", described)
    return described


def _oof(chosen: Chosen) -> pd.DataFrame:
    """Return a row a held-out patient: its id, label, fold, the ensemble's probability, then a column a member."""
    candidates = chosen.candidates
    table = {"patient": candidates.patients, "label": candidates.labels_P, "fold": candidates.fold_P}
    table |= {"probability": chosen.fitted.probability(chosen.oof_MP)}
    return pd.DataFrame(table | dict(zip(chosen.trials, chosen.oof_MP, strict=True)))


def _describe(run: Run, chosen: Chosen, scores: Scores, members: list[dict[str, Any]]) -> dict[str, Any]:
    described, procedure = run.description, chosen.procedure
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
        "attributes": described["cohort"].get("attributes", [attribute.as_yaml() for attribute in STANDARD]),
        "cohort": {k: described["cohort"][k] for k in COHORT if k in described["cohort"]},
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
    """Add every file's hash to ensemble.yaml, so that an altered folder is noticed."""
    described = read_yaml(folder / "ensemble.yaml")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "ensemble.yaml")
    described["files"] = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
    write_yaml(folder / "ensemble.yaml", described)


def write_predictions(folder: Path, table: pd.DataFrame, about: Mapping[str, str]) -> None:
    """Write predictions.parquet and predictions.csv, which are the table, and submission.csv.

    A submission has the ids as they are: raises InputError where a spreadsheet would run one.
    """
    if formulas := [patient for patient in table["patient"] if is_formula(patient)]:
        raise InputError(f"submission.csv: a spreadsheet would run {formulas[0]!r} as a formula; rename the patient")
    write_table(folder / "predictions.parquet", table, about)
    write_csv(folder / "predictions.csv", table)
    submission = table[["patient", "predicted"]].set_axis(["ID", "Predicted"], axis=1)
    write_csv(folder / "submission.csv", submission)


def _summary(
    run: Run, cohort: Cohort, chosen: Chosen, contest: RecipeScores, scores: Scores, entries: dict[str, Entry]
) -> Result:
    protocol, candidates = run.description["protocol"], chosen.candidates
    allowed = candidates.table[candidates.allowed(chosen.procedure.recipe.choice)]
    opening = (
        f"{run.name}: {len(chosen.rows)} of {len(allowed)} trials, {protocol['folds']} folds x "
        f"{console.counted(protocol['repeats'], 'seed')}, {len(candidates.patients)} patients judged, "
        f"{len(cohort.to_predict)} to predict"
    )
    members = candidates.trials(chosen.rows).assign(weight=_member_weights(chosen))
    known = attribute_names_text(cohort.attributes)
    lines = [*console.wrapped(opening), *summary(scores, chosen.procedure, members, allowed, known)]
    if warning := candidates.shortage(chosen.procedure.recipe.choice, len(chosen.rows)):
        lines += [console.painted(line, "warning") for line in console.wrapped(warning)]
    lines += better_recipes(contest, scores.entries["ensemble"], entries)
    values = _about(run, cohort, candidates) | summary_values(scores, members, allowed)
    values["recipes"] = recipes_rows(contest, entries | {ENSEMBLE: scores.entries[ENSEMBLE]}, ENSEMBLE)
    return Result("\n".join([*lines, *_warnings(run, cohort)]), values)


def _about(run: Run, cohort: Cohort, candidates: Candidates) -> dict[str, Any]:
    """Return of whom and of what the numbers are."""
    counts = {"n_patients": len(candidates.patients), "n_to_predict": len(cohort.to_predict)}
    return {"run": run.path, "cohort": cohort.name, "simulated": bool(cohort.simulated), **counts}


def _warnings(run: Run, cohort: Cohort) -> list[str]:
    """Return what every output of such a run says."""
    lines = []
    if run.description["protocol"]["folds"] == 1:
        lines.append("One hold-out: these few patients chose and judge; honest scores take that into account.")
    lines += console.wrapped(note) if (note := group_note(cohort)) else []
    if cohort.simulated:
        lines.append(console.painted(console.SIMULATED, "warning"))
    return lines


def _member_weights(chosen: Chosen) -> np.ndarray:
    """Return each member's share in the combiner's answer [M], NaN where it has no such thing."""
    arrays = learnt_arrays(chosen.fitted)
    for name in ("combiner.weights_M_", "combiner.logit_weights_M_"):
        if name in arrays:
            return arrays[name]
    return np.full(len(chosen.rows), np.nan)
