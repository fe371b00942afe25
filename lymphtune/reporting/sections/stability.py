"""Stability: scores of single runs and of ensembles of increasing size."""

import pandas as pd

from lymphtune.console import counted
from lymphtune.ensembling.ensemble_spread import conclusion, default_sizes, shares, sizes_table
from lymphtune.ensembling.single_runs import SingleRuns, choose_trials, read_single_runs
from lymphtune.ensembling.stability_figure import draw_figure
from lymphtune.errors import InputError
from lymphtune.reporting.facts import Facts
from lymphtune.reporting.parts import Drawing, Note, Section, Table
from lymphtune.statistics.ensemble_sizes import SizeStability, stability
from lymphtune.statistics.words import percent, short, signed

DRAWS = 400  # ensembles of each size
DOTS = 80  # ensembles plotted for each size
FEWEST = 4  # single runs for a statement
SOURCE = "networks"


def section(facts: Facts) -> Section | None:
    """Return how averaging changes the spread; None where no network was trained to its end."""
    try:
        sizes = default_sizes(facts.run, SOURCE, None, None)
    except InputError:  # no network was trained to its end
        return None
    runs = read_single_runs(facts.run, choose_trials(facts.run, SOURCE, sizes[-1]))
    title = "How stable is it?"
    if runs.count < FEWEST:
        lead = f"Too few networks were trained to their end: {counted(runs.count, 'single run')}."
        return Section("stability", title, lead, [Note("lymphtune stability --retrain 5 trains them with more seeds.")])
    found = stability(runs.oof_TRP, runs.labels_P, sizes, DRAWS)
    return Section("stability", title, conclusion(runs, found), [_drawing(runs, found), _table(runs, found)])


def _drawing(runs: SingleRuns, found: list[SizeStability]) -> Drawing:
    n_trials, n_repeats, n_patients = runs.oof_TRP.shape
    caption = (
        f"{runs.count} single runs of networks ({n_trials} best trials that were trained to their end x "
        f"{counted(n_repeats, 'seed')}), {n_patients} patients scored out of fold. Above: balanced accuracy of "
        f"ensembles by size, {DRAWS} samples of each size or all that exist; the bar is the spread of ensembles of "
        "newly trained members. Below: the sources of the variance of a new ensemble on new patients. The pool was "
        "selected on these patients and is the same for every size: sizes are comparable, the level is optimistic."
    )
    parts = [
        f"size {s.size}: mean {s.mean:.3f}, from {s.quantile(0):.3f} to {s.quantile(1):.3f}, standard deviation of new "
        f"ensembles {short(s.sd_new) or 'not known'}"
        for s in found
    ]
    alt = "; ".join(parts) + "."
    return Drawing("stability", "Balanced accuracy by ensemble size", caption, alt, draw_figure(runs, found, DOTS))


def _table(runs: SingleRuns, found: list[SizeStability]) -> Table:
    rows = [
        {
            "runs averaged": s.size,
            "mean": s.mean,
            "sd, new runs": short(s.sd_new) or "-",
            "range": f"{s.quantile(0):.3f} to {s.quantile(1):.3f}",
            "gain": signed(s.gain),
            **{f"due to {part}": percent(share) if share == share else "-" for part, share in shares(s, runs).items()},
        }
        for s in found
    ]
    caption = (
        "sd, new runs: between ensembles of newly trained members, on the same patients. gain: median difference of an "
        "ensemble's score to the mean score of its members. due to: fraction of the variance of a new ensemble on as "
        "many new patients. lymphtune stability samples more, and trains again with --retrain."
    )
    return Table("stability-sizes", "Ensembles of each size", caption, sizes_table(found), pd.DataFrame(rows))
