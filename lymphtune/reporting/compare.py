"""lymphtune compare: the ensembles of several runs on the same patients, paired.

Shapes: S resamples, P patients judged in all runs.
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
SHOWN = 22  # columns of a run's name


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison: its ensemble's procedure, judged on the patients of all of them.

    saved: the ensemble that names the procedure, None where none was made. entry: all its scores.
    """

    run: Run
    saved: str | None
    procedure: Procedure
    comparison: Comparison
    entry: Entry
    judged: int  # patients judged in this run, of whom the others may have judged fewer

    @property
    def patients(self) -> list[str]:
        return self.comparison.candidates.patients

    def minus(self, other: "ComparedRun", metric: str) -> Gain:
        """Return the paired difference to another run; both were repeated in the same resamples."""
        return self.comparison.scorer.gain(self.entry.resampled.predictions, other.entry.resampled.predictions, metric)


def compare_runs(names: Sequence[str], runs: Path, data: str | Path | None = None) -> Result:
    """Return what the runs' ensembles are worth on the patients judged in all of them, and how they differ from the
    first run's.

    Each run's procedure (that of its newest saved ensemble, else the mean of its best five) is repeated in the same
    resamples of the same patients, so that differences are paired (see docs/statistics.md). data: the cohort where it
    has moved. Raises InputError where there are fewer than two runs, or they are of different cohorts.
    """
    found = [find_run(name, runs) for name in names]
    _check_two(found)
    _check_cohorts(found)
    cohort = trained_cohort(found[0], data)
    check_roles(cohort)
    candidates = [read_candidates(run, cohort) for run in found]
    sides = _sides(found, candidates)
    text = "\n".join([*_opening(sides), *_tables(sides), *_notes(sides, bool(cohort.simulated))])
    about = {"cohort": cohort.name, "simulated": bool(cohort.simulated), "n_patients": len(sides[0].patients)}
    return Result(text, about | {"same_folds": same_folds(found), "runs": [_values(side, sides[0]) for side in sides]})


def _check_two(found: Sequence[Run]) -> None:
    paths = [run.path.resolve() for run in found]
    if twice := next((run.name for run, path in zip(found, paths, strict=True) if paths.count(path) > 1), None):
        raise InputError(f"compare: {twice} is named more than once; name each run once")
    if len(found) < 2:
        raise InputError(f"compare: {found[0].name} is one run; name another to compare it with")


def _check_cohorts(found: Sequence[Run]) -> None:
    """Raise InputError unless all runs are of one cohort."""
    first = found[0]
    mine = first.description.cohort
    for run in found[1:]:
        theirs = run.description.cohort
        if theirs.hash != mine.hash:
            raise InputError(
                f"compare: {run.name} is of the cohort {theirs.name} (hash {theirs.hash}), {first.name} of "
                f"{mine.name} (hash {mine.hash}); expected runs of one cohort and reference date"
            )


def scored_by_all(candidates: Sequence[Candidates], found: Sequence[Run]) -> list[Candidates]:
    """Return each run's candidates on the patients that every run has judged; raises InputError where there is none."""
    common = set.intersection(*(set(one.patients) for one in candidates))
    if not common:
        names = ", ".join(run.name for run in found)
        raise InputError(f"compare: no patient was held out in all of {names}; search with --folds 2 or more")
    held = np.array([patient in common for patient in candidates[0].patients])
    check_both_classes(candidates[0].labels_P[held], f"compare {' '.join(run.name for run in found)}")
    return [_on(one, common) for one in candidates]


def _on(candidates: Candidates, common: set[str]) -> Candidates:
    rows = np.array([row for row, patient in enumerate(candidates.patients) if patient in common])
    return replace(
        candidates, patients=[candidates.patients[row] for row in rows], labels_P=candidates.labels_P[rows],
        fold_P=candidates.fold_P[rows], oof_CP=candidates.oof_CP[:, rows],
    )  # fmt: skip


def _sides(found: Sequence[Run], candidates: Sequence[Candidates]) -> list[ComparedRun]:
    """Return every run with its scores. Patients and labels are alike, and so are the resamples drawn of them."""
    comparisons, sides = [Comparison.of(one) for one in scored_by_all(candidates, found)], []
    with console.bar("comparing runs", sum(comparison.steps for comparison in comparisons)) as bar:
        for run, comparison, own in zip(found, comparisons, candidates, strict=True):
            bundle = saved_ensemble(run, None)
            procedure, saved = procedure_of(bundle, comparison.candidates), None if bundle is None else bundle.path.name
            sides.append(
                ComparedRun(run, saved, procedure, comparison, comparison.score(procedure, bar), len(own.patients))
            )
    return sides


def same_folds(found: Sequence[Run]) -> bool:
    """Return whether all runs held the same patients out together."""
    tables = [run.folds.sort_values(["repeat", "patient"]).reset_index(drop=True) for run in found]
    return all(table.equals(tables[0]) for table in tables[1:])


def _opening(sides: Sequence[ComparedRun]) -> list[str]:
    lines = console.wrapped(
        f"{len(sides[0].patients)} patients judged in all {len(sides)} runs; honest values of each run's whole "
        "procedure, and paired differences to the first run on the same patients"
    )
    for number, side in enumerate(sides, start=1):
        lines += console.hanging(f"{number} {side.run.name}: {_described(side)}")
    return lines


def _described(side: ComparedRun) -> str:
    choice, given = side.procedure.recipe.choice, side.run.description.protocol
    folds = f"{given.folds} folds" if given.folds > 1 else "one hold-out"
    what = f"ensemble {side.saved}" if side.saved else f"no ensemble saved: mean of the best {choice.most}"
    judged = f", {side.judged} patients judged" if side.judged > len(side.patients) else ""
    goes_on = "; its search goes on, and its numbers with it" if side.run.status == "running" else ""
    protocol = f"{folds} x {console.counted(given.repeats, 'seed')}"
    return f"{what}, of {len(side.comparison.candidates.table)} trials, {protocol}{judged}{goes_on}"


def _tables(sides: Sequence[ComparedRun]) -> list[str]:
    """Return one table a metric: honest value with its interval, difference to the first run with its own."""
    lines, wide = [], console.column(SHOWN)
    for metric in METRICS:
        title = NAMES[metric] + (" (lower is better)" if metric == "log_loss" else "")
        titles, cells = [f"{console.cut(title, wide + 3):{wide + 3}}", f"{'honest (95 %)':20}"], []
        titles += [f"{'minus 1 (95 %)':23}", "better"]
        for number, side in enumerate(sides, start=1):
            gain = None if side is sides[0] else side.minus(sides[0], metric)
            apart = ["", ""] if gain is None else [changed(gain.difference), f"{percent(gain.better):>6}"]
            start = [f"{number:2} {console.cut(side.run.name, wide)}", bounded(side.entry.honest[metric])]
            cells.append(start + apart)
        lines += ["", *console.tabular(titles, cells)]
    return [*lines, ""]


def _notes(sides: Sequence[ComparedRun], simulated: bool) -> list[str]:
    notes = [
        "better: the probability that the run's procedure is better than the first run's, on other such patients. "
        "Training again is not in it: two seeds of one search differ, too.",
        "Whichever of these runs is picked because it looks best here is flattered by being picked: no number above "
        "knows of that choice.",
    ]
    if not same_folds([side.run for side in sides]):
        notes.append("The runs were split into folds differently: the luck of the split is in the differences, too.")
    lines = [line for note in notes for line in console.wrapped(note)]
    return [*lines, console.painted(console.SIMULATED, "warning")] if simulated else lines


def _values(side: ComparedRun, first: ComparedRun) -> dict[str, Any]:
    """Return a run's row, for programs."""
    gains = {metric: None if side is first else side.minus(first, metric) for metric in METRICS}
    return {
        "run": side.run.path, "name": side.run.name, "status": side.run.status, "ensemble": side.saved,
        "recipe": side.procedure.recipe.as_yaml(), "honest": side.entry.honest, "minus_first": gains,
    }  # fmt: skip
