"""How steady is it: single runs against ensembles of growing size."""

import pandas as pd

from lymphtune.console import counted
from lymphtune.ensembling.single_runs import SingleRuns, choose_trials, read_single_runs
from lymphtune.ensembling.stability import conclusion, default_sizes, shares, sizes_table
from lymphtune.ensembling.stability_figure import draw_figure
from lymphtune.errors import InputError
from lymphtune.reporting.facts import Facts
from lymphtune.reporting.parts import Drawing, Note, Section, Table
from lymphtune.statistics.ensemble_sizes import SizeStability, stability
from lymphtune.statistics.words import percent, short, signed

DRAWS = 400  # ensembles of each size
DOTS = 80  # of them drawn, each size
FEWEST = 4  # single runs of which anything can be said
SOURCE = "networks"


def section(facts: Facts) -> Section | None:
    """Return what averaging does to the spread; None where no network ran to its end."""
    try:
        sizes = default_sizes(facts.run, SOURCE, None, None)
    except InputError:  # no network ran to its end
        return None
    runs = read_single_runs(facts.run, choose_trials(facts.run, SOURCE, sizes[-1]))
    title = "How steady is it?"
    if runs.count < FEWEST:
        lead = f"Too few networks ran to their end to tell: {counted(runs.count, 'single run')}."
        return Section("stability", title, lead, [Note("lymphtune stability --retrain 5 trains them from more seeds.")])
    found = stability(runs.oof_TRP, runs.labels_P, sizes, DRAWS)
    return Section("stability", title, conclusion(runs, found), [_drawing(runs, found), _table(runs, found)])


def _drawing(runs: SingleRuns, found: list[SizeStability]) -> Drawing:
    n_trials, n_repeats, n_patients = runs.oof_TRP.shape
    caption = (
        f"{runs.count} single runs of networks ({n_trials} best trials that ran to their end x "
        f"{counted(n_repeats, 'seed')}), {n_patients} patients judged out of fold. Above: balanced accuracy of "
        f"the mean of so many of them, {DRAWS} draws of each size or all there are; the bar is what ensembles of newly "
        "trained members would scatter. Below: where the variance of a new ensemble on new patients comes from. The "
        "pool was chosen on these patients, alike for every size: sizes compare, the level is flattered."
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
            "runs averaged": s.size, "mean": s.mean, "sd, new runs": short(s.sd_new) or "-",
            "range": f"{s.quantile(0):.3f} to {s.quantile(1):.3f}", "gain": signed(s.gain),
            **{f"due to {part}": percent(share) if share == share else "-" for part, share in shares(s, runs).items()},
        }
        for s in found
    ]  # fmt: skip
    caption = (
        "sd, new runs: between ensembles whose members are trained anew, on the same patients. gain: median of what an "
        "ensemble scores above the mean of its own members. due to: share of the variance of a new ensemble on as many "
        "new patients. lymphtune stability draws more, and trains again with --retrain."
    )
    return Table("stability-sizes", "Ensembles of each size", caption, sizes_table(found), pd.DataFrame(rows))
