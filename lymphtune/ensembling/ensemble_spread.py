"""Stability of the ensembles of a run by size: one table, one figure, one sentence.

Shapes: T trials, R repeats, N = T x R single runs, P scored patients.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lymphtune import console
from lymphtune.ensembling.recipe import SOURCES
from lymphtune.ensembling.single_runs import SingleRuns, choose_trials, read_single_runs
from lymphtune.ensembling.stability_figure import save_figure
from lymphtune.errors import InputError, listed
from lymphtune.files import atomic_folder, write_csv
from lymphtune.result import Result
from lymphtune.runs.run import Run
from lymphtune.statistics.ensemble_sizes import SizeStability, stability
from lymphtune.statistics.metrics import balanced_accuracy, balanced_log_loss

SIZES = (1, 2, 3, 5, 10)
DRAWS = 1000
SHORT = {"patients": "pat.", "configuration": "conf.", "configuration + seed": "conf.+seed"}
SOURCE_OF = {
    "patients": "the sampling of patients",
    "configuration": "the choice of configuration",
    "seed": "the random seed",
    "configuration + seed": "the choice of configuration and the random seed",
}


def measure_stability(
    run: Run,
    sizes: Sequence[int] = SIZES,
    *,
    source: str = "networks",
    pool: int | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Result:
    """Measure the stability of ensembles of each size, sampled from the run's single runs.

    Writes stability/ in the run's folder: stability.csv, runs.csv and the figure. Raises InputError on any error that
    the user can fix.
    """
    sizes = checked_sizes(sizes)
    check_draws(draws, seed)
    if source not in SOURCES:
        raise InputError(f"--from has no {source!r}; there are {listed(source, SOURCES)}")
    runs = read_single_runs(run, choose_trials(run, source, sizes[-1], pool))
    progress = console.each(sizes, "sampling ensembles", len(sizes))
    found = [stability(runs.oof_TRP, runs.labels_P, [size], draws, seed)[0] for size in progress]
    folder = run.path / "stability"
    with atomic_folder(folder) as scratch:
        _write_csv(scratch / "stability.csv", sizes_table(found), runs)
        _write_csv(scratch / "runs.csv", _runs_table(runs), runs)
        save_figure(scratch, runs, found)
    values = {
        "run": run.path,
        "folder": folder,
        "simulated": runs.simulated,
        "n_patients": len(runs.patients),
        "sizes": sizes_table(found),
        "runs": _runs_table(runs),
        "conclusion": conclusion(runs, found),
    }
    return Result(f"{report(runs, found)}\n{folder}", values)


def default_sizes(run: Run, source: str, pool: int | None, seeds: int | None) -> list[int]:
    """Return the SIZES for which the run has enough single runs, after retraining with `seeds` seeds if given."""
    trials = len(choose_trials(run, source, 1, pool))
    count = trials * (seeds or run.description.protocol.repeats)
    return [size for size in SIZES if size <= count]


def checked_sizes(sizes: Sequence[int]) -> list[int]:
    """Return the distinct sizes, ascending; raises InputError if one is not a positive number."""
    if not sizes or min(sizes) < 1:
        raise InputError(f"--sizes {','.join(map(str, sizes))}: expected whole numbers from 1, such as 1,2,3,5,10")
    return sorted(set(sizes))


def check_draws(draws: int, seed: int) -> None:
    """Raise InputError unless the number of sampled ensembles and the seed are valid."""
    for name, found, least in (("draws", draws, 2), ("seed", seed, 0)):
        if found < least:
            raise InputError(f"--{name} {found}: expected {least} or more")


def sizes_table(found: list[SizeStability]) -> pd.DataFrame:
    """Return one row per size: balanced accuracy of the sampled ensembles, and variances of a new ensemble."""
    rows = [
        {
            "size": s.size,
            "draws": len(s.scores_E),
            "all_ensembles": s.exhaustive,
            "mean": s.mean,
            "sd": s.sd,
            "sd_new": s.sd_new,
            "min": s.quantile(0),
            "p5": s.quantile(0.05),
            "p95": s.quantile(0.95),
            "max": s.quantile(1),
            "gain_median": s.gain,
            **{f"variance_{name}": value for name, value in vars(s.variances).items()},
        }
        for s in found
    ]
    return pd.DataFrame(rows)


def _runs_table(runs: SingleRuns) -> pd.DataFrame:
    """Return one row per single run."""
    n_trials, n_repeats, n_patients = runs.oof_TRP.shape
    oof_NP = runs.oof_TRP.reshape(-1, n_patients)
    table = runs.table.loc[np.repeat(runs.table.index, n_repeats), ["trial", "title", "epoch"]]
    table.insert(1, "repeat", np.tile(np.arange(n_repeats), n_trials))
    scores = {
        metric.__name__: metric(oof_NP, runs.labels_P).round(6) for metric in (balanced_accuracy, balanced_log_loss)
    }
    return table.assign(**scores)


def _write_csv(path: Path, table: pd.DataFrame, runs: SingleRuns) -> None:
    write_csv(path, table.assign(run=runs.run, cohort=runs.cohort), "%.6g")


def report(runs: SingleRuns, found: list[SizeStability]) -> str:
    """Format table, notes and conclusion as lines that fit the terminal."""
    n_trials, n_repeats, n_patients = runs.oof_TRP.shape
    counts = f"{console.counted(n_trials, 'trial')} x {console.counted(n_repeats, 'seed')}"
    opening = f"{runs.count} single runs ({counts}), {n_patients} patients scored"
    lines = [f"{runs.run}:", *console.wrapped(opening), *_table(runs, found)]
    for note in [*_notes(runs, found), conclusion(runs, found)]:
        lines += console.wrapped(note)
    if runs.simulated:
        lines.append(console.painted(console.SIMULATED, "warning"))
    return "\n".join(lines)


def _table(runs: SingleRuns, found: list[SizeStability]) -> list[str]:
    """Format one line per size: scores and variance components, the latter in a second table on a narrow terminal."""
    scores = ["size", "draws", "mean ", "sd   ", "sd new", "range    ", "5-95 %    ", "gain "]
    parts = [f"{SHORT.get(part, part):>5}" for part in runs.parts]
    cells = [(_scores(s), _parts(s, runs)) for s in found]
    opening, due = "balanced accuracy of sampled ensembles", "variance due to"
    if len(" ".join(scores + parts)) <= console.width():
        heading = console.painted(f"{opening:54} {due}", "heading")
        return [heading, *console.tabular(scores + parts, [mine + shared for mine, shared in cells])]
    above = console.tabular(scores, [mine for mine, _ in cells])
    below = console.tabular(scores[:1] + parts, [mine[:1] + shared for mine, shared in cells])
    return [console.painted(opening, "heading"), *above, console.painted(due, "heading"), *below]


def _scores(s: SizeStability) -> list[str]:
    new = "-" if math.isnan(s.sd_new) else f"{s.sd_new:.3f}"
    ranges = [f"{s.quantile(low):.2f}-{s.quantile(1 - low):.2f}" for low in (0, 0.05)]
    return [f"{s.size:4}", f"{len(s.scores_E):5}", f"{s.mean:.3f}", f"{s.sd:.3f}", new, *ranges, f"{s.gain:+.2f}"]


def _parts(s: SizeStability, runs: SingleRuns) -> list[str]:
    """Format each component's fraction of the variance, aligned with its title."""
    return [
        f"{'-' if math.isnan(share) else f'{100 * share:.0f} %':>{max(5, len(SHORT.get(part, part)))}}"
        for part, share in shares(s, runs).items()
    ]


def shares(s: SizeStability, runs: SingleRuns) -> dict[str, float]:
    """Return each component's fraction of the variance of a new ensemble on new patients, NaN if not identified."""
    total = s.variances.total
    return {part: getattr(s.variances, name) / total if total else math.nan for part, name in runs.parts.items()}


def _notes(runs: SingleRuns, found: list[SizeStability]) -> list[str]:
    notes = [
        "sd: between these sampled ensembles, which share runs. sd new: between ensembles of newly trained members. "
        "Both are for the same patients: they include training and selection, not the sampling of patients. From "
        f"{runs.count} runs their standard error is about {100 / math.sqrt(2 * max(runs.count - 1, 1)):.0f} %.",
        "pat.: as many other patients. conf.: other configurations. seed: the same configurations trained "
        "again. Interactions with the patients count to conf. and seed.",
        "The pool was selected on these patients, equally for every size: sizes are comparable, their level is "
        "optimistic.",
    ]
    n_trials, n_repeats, _ = runs.oof_TRP.shape
    if n_repeats == 1:
        notes.append(
            "Each configuration was trained once, so configuration and seed are not separated; --retrain 5 trains the "
            "best ones again with 5 seeds, which separates them."
        )
    elif n_trials == 1:
        notes.append("There is one configuration: the variance between configurations is unknown.")
    if found[-1].size == runs.count:
        notes.append(f"Size {runs.count} is all runs: one ensemble, whose sd of 0 means nothing for new ones.")
    elif found[-1].size > runs.count / 2:
        notes.append(f"sd new is imprecise above {runs.count // 2} members, half of the runs.")
    if picked := int(runs.table["best_epoch_picked"].sum()):
        trials = console.counted(picked, "trial")
        notes.append(f"{trials} scored at the best epoch on these patients: more optimistic.")
    return notes


def conclusion(runs: SingleRuns, found: list[SizeStability]) -> str:
    """Return one sentence on the effect of averaging.

    It compares the smallest size with the largest one that is estimated well: up to half of the runs, or else fewer
    than all runs.
    """
    first = found[0]
    estimated = [s for s in found[1:] if s.size <= runs.count / 2] or [s for s in found[1:] if s.size < runs.count]
    if not estimated:
        return f"One size alone shows no change: add another below {runs.count} to --sizes, or --retrain for more runs."
    last = estimated[-1]
    before = "single runs" if first.size == 1 else f"ensembles of {first.size}"
    if first.sd_new == 0:
        return f"The {before} already agree: their standard deviation is 0, and averaging cannot reduce it."
    change = f"from {first.sd_new:.3f} to {last.sd_new:.3f}"
    ratio = first.sd_new / last.sd_new if last.sd_new else math.inf
    ranges = " to ".join(f"{s.quantile(0):.2f}-{s.quantile(1):.2f}" for s in (first, last))
    if ratio < 1.1:
        opening = (
            f"Averaging {last.size} runs does not reduce the variance of balanced accuracy: its standard deviation "
            f"changes {change},"
        )
    else:
        less = "down to 0" if math.isinf(ratio) else f"{ratio:.1f} times less"
        opening = f"Averaging {last.size} runs reduces the standard deviation of balanced accuracy {change} ({less}),"
    return (
        f"{opening} its range from {ranges} and its mean from {first.mean:.2f} to {last.mean:.2f}; "
        f"{_remaining(last, runs)}."
    )


def _remaining(last: SizeStability, runs: SingleRuns) -> str:
    parts = shares(last, runs)
    if math.isnan(last.variances.total) or last.variances.total == 0:
        return "no variance remains on these patients"
    largest = max(parts, key=lambda part: parts[part])
    how_much = "mostly" if parts[largest] > 0.5 else "first of all"
    return f"the remaining variance comes {how_much} from {SOURCE_OF[largest]} ({100 * parts[largest]:.0f} %)"
