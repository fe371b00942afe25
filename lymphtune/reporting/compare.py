"""lymphtune compare: the ensembles of several runs on the same patients, paired.

Shapes: S resamples, P patients scored in all runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lymphtune import console
from lymphtune.cohort.folds import check_roles
from lymphtune.ensembling.build import trained_cohort
from lymphtune.ensembling.candidates import Candidates, check_both_classes, read_candidates
from lymphtune.ensembling.procedure import Procedure
from lymphtune.ensembling.score import Comparison, Entry
from lymphtune.ensembling.summary import NAMES
from lymphtune.errors import InputError
from lymphtune.reporting.facts import procedure_of, saved_ensemble
from lymphtune.result import Result
from lymphtune.runs.run import Run, find_run
from lymphtune.statistics.honest import Gain
from lymphtune.statistics.words import bounded, changed, percent

METRICS = ("balanced_accuracy", "auc", "log_loss")
NAME_WIDTH = 22  # characters of a run's name


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison, with the scores of its ensemble's procedure on the patients of all runs.

    saved: name of the ensemble that defines the procedure, None where the run has none. entry: the procedure's scores.
    n_scored: patients scored in this run, at least as many as in all runs.
    """

    run: Run
    saved: str | None
    procedure: Procedure
    recipe_scores: Comparison
    entry: Entry
    n_scored: int

    @property
    def patients(self) -> list[str]:
        return self.recipe_scores.candidates.patients

    def minus(self, other: "ComparedRun", metric: str) -> Gain:
        """Return the paired difference to another run, over the same resamples."""
        return self.recipe_scores.scorer.gain(
            self.entry.resampled.predictions, other.entry.resampled.predictions, metric
        )


def compare_runs(names: Sequence[str], runs: Path, data: str | Path | None = None) -> Result:
    """Return the scores of the runs' ensembles on the patients scored in all runs, and differences to the first run.

    Each run's procedure (that of its newest saved ensemble, else the mean of its best five trials) is repeated in the
    same resamples of the same patients, so that differences are paired (see docs/statistics.md). data: the cohort's
    folder if it has moved. Raises InputError for fewer than two runs, or for runs of different cohorts.
    """
    found = [find_run(name, runs) for name in names]
    _check_two(found)
    _check_cohorts(found)
    cohort = trained_cohort(found[0], data)
    check_roles(cohort)
    candidates = [read_candidates(run, cohort) for run in found]
    compared = _scored_runs(found, candidates)
    text = "\n".join([*_opening(compared), *_tables(compared), *_notes(compared, bool(cohort.simulated))])
    about = {"cohort": cohort.name, "simulated": bool(cohort.simulated), "n_patients": len(compared[0].patients)}
    return Result(
        text, about | {"same_folds": same_folds(found), "runs": [_values(one, compared[0]) for one in compared]}
    )


def _check_two(found: Sequence[Run]) -> None:
    paths = [run.path.resolve() for run in found]
    if repeated := next((run.name for run, path in zip(found, paths, strict=True) if paths.count(path) > 1), None):
        raise InputError(f"compare: {repeated} is named more than once; name each run once")
    if len(found) < 2:
        raise InputError(f"compare: {found[0].name} is one run; name another to compare it with")


def _check_cohorts(found: Sequence[Run]) -> None:
    """Raise InputError unless all runs are of one cohort."""
    first = found[0]
    own = first.description.cohort
    for run in found[1:]:
        theirs = run.description.cohort
        if theirs.hash != own.hash:
            raise InputError(
                f"compare: {run.name} is of the cohort {theirs.name} (hash {theirs.hash}), {first.name} of "
                f"{own.name} (hash {own.hash}); expected runs of one cohort and reference date"
            )


def scored_by_all(candidates: Sequence[Candidates], found: Sequence[Run]) -> list[Candidates]:
    """Return each run's candidates on the patients scored in every run; raises InputError where there is none."""
    common = set.intersection(*(set(one.patients) for one in candidates))
    if not common:
        names = ", ".join(run.name for run in found)
        raise InputError(f"compare: no patient was held out in all of {names}; search with --folds 2 or more")
    held = np.array([patient in common for patient in candidates[0].patients])
    check_both_classes(candidates[0].labels_P[held], f"compare {' '.join(run.name for run in found)}")
    return [_restricted_to(one, common) for one in candidates]


def _restricted_to(candidates: Candidates, common: set[str]) -> Candidates:
    rows = np.array([row for row, patient in enumerate(candidates.patients) if patient in common])
    return replace(
        candidates,
        patients=[candidates.patients[row] for row in rows],
        labels_P=candidates.labels_P[rows],
        fold_P=candidates.fold_P[rows],
        oof_CP=candidates.oof_CP[:, rows],
    )


def _scored_runs(found: Sequence[Run], candidates: Sequence[Candidates]) -> list[ComparedRun]:
    """Return every run with its scores; all have the same patients and therefore the same resamples."""
    all_scores, compared = [Comparison.of(one) for one in scored_by_all(candidates, found)], []
    with console.bar("comparing runs", sum(recipe_scores.steps for recipe_scores in all_scores)) as bar:
        for run, recipe_scores, own in zip(found, all_scores, candidates, strict=True):
            bundle = saved_ensemble(run, None)
            saved = None if bundle is None else bundle.path.name
            procedure = procedure_of(bundle, recipe_scores.candidates)
            entry = recipe_scores.score(procedure, bar)
            compared.append(ComparedRun(run, saved, procedure, recipe_scores, entry, len(own.patients)))
    return compared


def same_folds(found: Sequence[Run]) -> bool:
    """Return whether all runs held the same patients out together."""
    tables = [run.folds.sort_values(["repeat", "patient"]).reset_index(drop=True) for run in found]
    return all(table.equals(tables[0]) for table in tables[1:])


def _opening(compared: Sequence[ComparedRun]) -> list[str]:
    lines = console.wrapped(
        f"{len(compared[0].patients)} patients scored in all {len(compared)} runs; honest values of each run's whole "
        "procedure, and paired differences to the first run on the same patients"
    )
    for number, one in enumerate(compared, start=1):
        lines += console.hanging(f"{number} {one.run.name}: {_described(one)}")
    return lines


def _described(one: ComparedRun) -> str:
    choice, given = one.procedure.recipe.choice, one.run.description.protocol
    folds = f"{given.folds} folds" if given.folds > 1 else "one hold-out"
    what = f"ensemble {one.saved}" if one.saved else f"no ensemble saved: mean of the best {choice.most}"
    n_scored = f", {one.n_scored} patients scored" if one.n_scored > len(one.patients) else ""
    running = "; its search is still running, so its numbers will change" if one.run.status == "running" else ""
    protocol = f"{folds} x {console.counted(given.repeats, 'seed')}"
    return f"{what}, of {len(one.recipe_scores.candidates.table)} trials, {protocol}{n_scored}{running}"


def _tables(compared: Sequence[ComparedRun]) -> list[str]:
    """Return one table per metric: honest values and differences to the first run, each with its interval."""
    lines, wide = [], console.column(NAME_WIDTH)
    for metric in METRICS:
        title = NAMES[metric] + (" (lower is better)" if metric == "log_loss" else "")
        titles, cells = [f"{console.cut(title, wide + 3):{wide + 3}}", f"{'honest (95 %)':20}"], []
        titles += [f"{'minus 1 (95 %)':23}", "better"]
        for number, one in enumerate(compared, start=1):
            gain = None if one is compared[0] else one.minus(compared[0], metric)
            difference = ["", ""] if gain is None else [changed(gain.difference), f"{percent(gain.better):>6}"]
            start = [f"{number:2} {console.cut(one.run.name, wide)}", bounded(one.entry.honest[metric])]
            cells.append(start + difference)
        lines += ["", *console.tabular(titles, cells)]
    return [*lines, ""]


def _notes(compared: Sequence[ComparedRun], simulated: bool) -> list[str]:
    notes = [
        "better: the probability that the run's procedure is better than the first run's, on other such patients. "
        "It does not include the variation between trainings: two seeds of one search also differ.",
        "If you choose a run because it is the best here, its numbers above are optimistic: they are not corrected for "
        "that choice.",
    ]
    if not same_folds([one.run for one in compared]):
        notes.append(
            "The runs were split into folds differently: the differences include the variation between splits."
        )
    lines = [line for note in notes for line in console.wrapped(note)]
    return [*lines, console.painted(console.SIMULATED, "warning")] if simulated else lines


def _values(one: ComparedRun, first: ComparedRun) -> dict[str, Any]:
    """Return a run's values for `--json`."""
    gains = {metric: None if one is first else one.minus(first, metric) for metric in METRICS}
    return {
        "run": one.run.path,
        "name": one.run.name,
        "status": one.run.status,
        "ensemble": one.saved,
        "recipe": one.procedure.recipe.as_yaml(),
        "honest": one.entry.honest,
        "minus_first": gains,
    }
