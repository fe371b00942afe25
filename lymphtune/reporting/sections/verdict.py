"""Does it beat the clinical baseline, by how much and how surely?"""

import pandas as pd

from lymphtune import console
from lymphtune.cohort.attributes import attribute_names_text
from lymphtune.ensembling.candidates import group_note
from lymphtune.ensembling.score import BASELINE, ENSEMBLE, SINGLE
from lymphtune.ensembling.summary import NAMES
from lymphtune.reporting.facts import Facts
from lymphtune.reporting.parts import Note, Part, Section, Table
from lymphtune.statistics.honest import Gain
from lymphtune.statistics.words import bounded, percent, signed

FEW = 100  # patients judged: below, intervals are wide whatever the model


def section(facts: Facts) -> Section:
    """Return the verdict with its table of honest scores."""
    parts: list[Part] = [_table(facts)]
    if facts.bundle is None:
        top = len(facts.rows)
        parts.append(
            Note(f"No ensemble was made of this run yet; judged is what lymphtune ensemble --top {top} gives.")
        )
    elif facts.stale:
        parts.append(
            Note(f"{facts.bundle.path.name} was made before the run was extended: make it anew.", warning=True)
        )
    return Section("verdict", "Verdict", verdict(facts), parts)


def verdict(facts: Facts) -> str:
    """Return the one sentence: honest score, interval, paired difference to the best baseline."""
    score, gain = facts.scores.entries[ENSEMBLE].honest, facts.scores.over_baseline
    n = len(facts.rows)
    return (
        f"The {'ensemble of ' + str(n) + ' trials' if n > 1 else 'trial chosen'} has an honest balanced accuracy of "
        f"{bounded(score['balanced_accuracy'])} on {len(facts.labels_P)} patients, "
        f"{_change(gain['balanced_accuracy'])} against the best clinical baseline "
        f"({attribute_names_text(facts.cohort.attributes)} alone): {_shown(gain['balanced_accuracy'])}."
    )


def banners(facts: Facts) -> list[str]:
    """Return what nobody may overlook."""
    said = []
    if facts.simulated:
        said.append(console.SIMULATED)
    if len(facts.labels_P) < FEW:
        n = len(facts.labels_P)
        said.append(f"{n} patients judged, under {FEW}: intervals are wide, and small differences mean nothing.")
    if facts.n_folds == 1:
        said.append("One hold-out: few patients chose and judge. --folds 5 uses every patient.")
    if note := group_note(facts.cohort):
        said.append(note)
    networks, clinical = (facts.candidates.table.query(f"kind == '{kind}'") for kind in ("network", "clinical"))
    best = networks["log_loss"].min() if len(networks) else float("inf")
    if len(clinical) and not best < clinical["log_loss"].min():
        said.append("No network has a lower out-of-fold log loss than the best clinical baseline.")
    return said


def _change(gain: Gain) -> str:
    difference = gain.difference
    return f"{signed(difference.value)} (95 % {signed(difference.low, 2)} to {signed(difference.high, 2)})"


def _shown(gain: Gain) -> str:
    chance = f"better with a probability of {percent(gain.better)}"
    if gain.difference.low > 0:
        return f"{chance}, so it beats the baseline on these patients"
    if gain.difference.high < 0:
        return f"{chance}: the baseline is better"
    return f"{chance}, so it is not shown to beat the baseline"


def _table(facts: Facts) -> Table:
    rows, shown = [], []
    titles = {ENSEMBLE: f"ensemble of {len(facts.rows)}", SINGLE: SINGLE, BASELINE: BASELINE}
    for metric, name in NAMES.items():
        entries = {title: facts.scores.entries[key] for key, title in titles.items()}
        shown.append({"": name} | {title: bounded(entry.honest[metric]) for title, entry in entries.items()})
        for title, entry in entries.items():
            honest = entry.honest[metric]
            row = {"procedure": title, "metric": metric, "naive": entry.naive[metric], "honest": honest.value}
            rows.append(row | {"low": honest.low, "high": honest.high})
    return Table(
        "scores", "Honest scores with 95 % intervals",
        "The whole procedure, the choice of trials included, repeated in 1,000 resamples of the patients and scored on "
        "those left out (BBC-CV, Tsamardinos et al. 2018). Both classes weigh the same.",
        pd.DataFrame(rows), pd.DataFrame(shown),
    )  # fmt: skip
