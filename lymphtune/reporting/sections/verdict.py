"""The verdict: is the ensemble better than the clinical baseline, by how much and with what probability?"""

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

FEW = 100  # scored patients; with fewer, intervals are wide for any model


def section(facts: Facts) -> Section:
    """Return the verdict with its table of honest scores."""
    parts: list[Part] = [_table(facts)]
    if facts.bundle is None:
        top = len(facts.rows)
        parts.append(Note(f"This run has no saved ensemble; the scores are those of lymphtune ensemble --top {top}."))
    elif facts.stale:
        parts.append(
            Note(
                f"{facts.bundle.path.name} is older than the latest extension of the run: make it again.", warning=True
            )
        )
    return Section("verdict", "Verdict", verdict(facts), parts)


def verdict(facts: Facts) -> str:
    """Return one sentence with honest score, interval and paired difference to the best baseline."""
    score, gain = facts.scores.entries[ENSEMBLE].honest, facts.scores.over_baseline
    n = len(facts.rows)
    return (
        f"The {'ensemble of ' + str(n) + ' trials' if n > 1 else 'selected trial'} has an honest balanced accuracy of "
        f"{bounded(score['balanced_accuracy'])} on {len(facts.labels_P)} patients, "
        f"{_change(gain['balanced_accuracy'])} against the best clinical baseline "
        f"({attribute_names_text(facts.cohort.attributes)} alone): {_shown(gain['balanced_accuracy'])}."
    )


def banners(facts: Facts) -> list[str]:
    """Return the warnings at the top of the page."""
    texts = []
    if facts.simulated:
        texts.append(console.SIMULATED)
    if len(facts.labels_P) < FEW:
        n = len(facts.labels_P)
        texts.append(f"{n} patients scored, under {FEW}: intervals are wide, and small differences are not meaningful.")
    if facts.n_folds == 1:
        texts.append("One hold-out: selection and scores depend on few patients. --folds 5 uses every patient.")
    if note := group_note(facts.cohort):
        texts.append(note)
    networks, clinical = (facts.candidates.table.query(f"kind == '{kind}'") for kind in ("network", "clinical"))
    best = networks["log_loss"].min() if len(networks) else float("inf")
    if len(clinical) and not best < clinical["log_loss"].min():
        texts.append("No network has a lower out-of-fold log loss than the best clinical baseline.")
    return texts


def _change(gain: Gain) -> str:
    difference = gain.difference
    return f"{signed(difference.value)} (95 % {signed(difference.low, 2)} to {signed(difference.high, 2)})"


def _shown(gain: Gain) -> str:
    chance = f"better with a probability of {percent(gain.better)}"
    if gain.difference.low > 0:
        return f"{chance}, so it is better than the baseline on these patients"
    if gain.difference.high < 0:
        return f"{chance}: the baseline is better"
    return f"{chance}, so an advantage over the baseline is not shown"


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
        "scores",
        "Honest scores with 95 % intervals",
        "The whole procedure, including the selection of trials, is repeated in 1,000 resamples of the patients and "
        "scored on those held out (BBC-CV, Tsamardinos et al. 2018). Both classes have equal weight.",
        pd.DataFrame(rows),
        pd.DataFrame(shown),
    )
