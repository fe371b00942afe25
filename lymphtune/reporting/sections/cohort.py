"""Who are the patients, and can the label be predicted without their cells?

Shapes: P patients scored.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, NullFormatter

from lymphtune.cohort import Cohort
from lymphtune.cohort.attributes import STANDARD, Attribute
from lymphtune.cohort.cohort import TO_PREDICT
from lymphtune.reporting.drawing import BASELINE, ENSEMBLE, PALE, canvas
from lymphtune.reporting.facts import Facts
from lymphtune.reporting.parts import Drawing, Note, Part, Section, Table
from lymphtune.shortcuts.audit import SIGNIFICANT, ShortcutAudit, shortcut_audit
from lymphtune.shortcuts.origins import HEADERS_PER_PATIENT
from lymphtune.shortcuts.properties import BAG_SIZE, CELLS_PER_PATIENT
from lymphtune.statistics.audit import PERMUTATIONS
from lymphtune.statistics.words import CLASSES, measured

COLOURS, STYLES, HATCHES = (ENSEMBLE, BASELINE), ("-", "--"), ("", "////")
BINS = 12
TICKS_G_PER_L = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500)


def section(facts: Facts) -> Section:
    """Return the cohort: its attributes by class, its counts, and the audit for shortcuts."""
    patients = facts.cohort.patients
    labelled = patients[patients["label"] != TO_PREDICT]
    found = _audited(facts)
    n = [int((labelled["label"] == label).sum()) for label in (0, 1)]
    lead = (
        f"{len(labelled)} labelled patients ({n[0]} reactive, {n[1]} tumoral), {len(patients) - len(labelled)} to "
        f"predict, {int(patients['n_cells'].sum())} cells. {_lead(found)}"
    )
    parts: list[Part] = [_distributions(labelled), _counts(facts.cohort), _shortcut_table(found)]
    return Section("cohort", "The cohort", lead, [*parts, *_notes(found), *_on_bags(facts, found)])


def _audited(facts: Facts) -> ShortcutAudit:
    """Return the audit of the labelled patients on the run's own folds."""
    return shortcut_audit(facts.cohort, facts.data, facts.folds_RP[0])


def _lead(found: ShortcutAudit) -> str:
    hits, tried = found.suspects["attribute"].tolist(), len(found.table)
    if not hits:
        return f"None of {tried} properties that should not matter predicts the label alone better than chance."
    return f"{len(hits)} of {tried} properties that should not matter predict the label alone: {', '.join(hits)}."


def _notes(found: ShortcutAudit) -> list[Note]:
    notes, tried = [], len(found.table)
    for row in found.suspects.itertuples():
        surely = row.p_all < SIGNIFICANT
        notes.append(
            Note(
                f"{_opening(str(row.attribute))} alone predicts the label: AUC {row.auc:.3f} out of fold, where 95 "
                f"% of permuted labels reach {row.auc_low:.2f} to {row.auc_high:.2f} (p = {row.p:.3f}; {row.p_all:.3f} "
                f"with all {tried} tried). "
                + (
                    "A network may have learned it instead of the disease."
                    if surely
                    else f"It may be luck: of {tried} tried, {SIGNIFICANT * tried:.1f} are so by chance."
                ),
                warning=True,
            )
        )
    notes.append(
        Note(
            "Brightness and sharpness also depend on the cells themselves, and the number of cells on how many "
            "lymphocytes there are: a high score is a reason to check, not proof of a fault. The regression finds "
            "monotonic relations with the label only. A network does not see order, dates and formats, but it may see "
            "what they come with (another scanner, another day)."
        )
    )
    return notes


def _on_bags(facts: Facts, found: ShortcutAudit) -> list[Note]:
    """Return a note on bag sizes: that they are fixed, or, if they predict the label, that they can be."""
    sizes = [facts.run.configuration(str(trial)).data for trial in facts.members["trial"]]
    fixed = sum(data.fixed for data in sizes)
    if fixed:
        return [Note(f"{fixed} of {len(sizes)} members use the same number of cells for every patient.")]
    if BAG_SIZE not in found.suspects["attribute"].tolist():
        return []
    return [Note("Networks with `bag_size: fixed` cannot use the number of cells; search with it to see their scores.")]


def _opening(attribute: str) -> str:
    return attribute[:1].upper() + attribute[1:]  # capitalize() would write DOB as dob


def _shortcut_table(audited: ShortcutAudit) -> Table:
    found = audited.table

    def with_chance(metric: str) -> list[str]:
        bounds = zip(found[metric], found[f"{metric}_low"], found[f"{metric}_high"], strict=True)
        return [f"{value:.3f} ({low:.2f} to {high:.2f})" for value, low, high in bounds]

    shown = pd.DataFrame(
        {
            "attribute alone": found["attribute"],
            "AUC (by chance)": with_chance("auc"),
            "balanced accuracy (by chance)": with_chance("balanced_accuracy"),
            "p": found["p"],
            f"p of all {len(found)}": found["p_all"],
        }
    )
    caption = (
        "Out of fold, on the run's own folds: logistic regression on the one attribute, standardised within the fold, "
        f"with equal class weights. By chance: the central 95 % of {PERMUTATIONS} permutations of the labels within "
        "the folds; p: the fraction of them with as high an AUC; the last column compares with the highest AUC of all "
        f"attributes in each permutation. Pictures: mean of {CELLS_PER_PATIENT} cells per patient, evenly spaced in "
        "the bag; background: the palest quarter of the pixels; sharpness: variance of the Laplacian. Of a cohort in "
        f"a folder, also its files, the headers of {HEADERS_PER_PATIENT} pictures per patient, and the format of its "
        "table; attributes that are the same for all patients are omitted."
    )
    return Table("shortcuts", "Can the label be predicted without the cells?", caption, found, shown)


def _distributions(labelled: pd.DataFrame) -> Drawing:
    """Return panels of age, lymphocyte count, sex and bag size by class."""
    of = [labelled[labelled["label"] == label] for label in (0, 1)]
    figure = canvas(4.3)
    axes = figure.subplots(2, 2).ravel()
    _histogram(axes[0], of, "age_years", "age (years)")
    _histogram(axes[1], of, "lymphocytes_g_per_l", "lymphocytes (10⁹/L), logarithmic", log=True)
    _sexes(axes[2], of)
    _histogram(axes[3], of, "n_cells", "cells per patient")
    for axis in axes:
        axis.set_ylabel("% of the class")
        axis.set_ylim(bottom=0)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    medians = "; ".join(
        f"{name}: median age {measured(one['age_years'].median(), 0)} years, median lymphocyte count "
        f"{measured(one['lymphocytes_g_per_l'].median(), 1)}·10⁹/L, {_women(one)}, "
        f"median {one['n_cells'].median():.0f} cells"
        for name, one in zip(CLASSES, of, strict=True)
    )
    caption = "Percentage of each class by age, lymphocyte count, sex and number of cells; labelled patients only."
    return Drawing("cohort-distributions", "Reactive and tumoral patients", caption, f"{medians}.", figure)


def _women(patients: pd.DataFrame) -> str:
    known = patients["sex"].isin(["F", "M"])
    return f"{int((patients['sex'] == 'F').sum())} women of {int(known.sum())} whose sex is known"


def _histogram(axis: Any, of: list[pd.DataFrame], column: str, label: str, log: bool = False) -> None:
    values = [one[column].dropna().to_numpy(dtype=float) for one in of]
    every = np.concatenate(values)
    if not len(every):
        axis.set_visible(False)
        return
    low, high = float(every.min()), float(every.max())
    if log:
        edges = np.geomspace(low / 1.02, high * 1.02, BINS + 1)
        axis.set_xscale("log")
        axis.set_xticks([tick for tick in TICKS_G_PER_L if edges[0] <= tick <= edges[-1]])
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    else:
        width = max(1.0, np.ceil((high + 1 - low) / BINS))  # whole years, whole cells
        edges = np.arange(np.floor(low), np.floor(high) + 1 + width, width)
    for value, name, colour, style, hatch in zip(values, CLASSES, COLOURS, STYLES, HATCHES, strict=True):
        weights = np.full(len(value), 100 / max(len(value), 1))
        share, _ = np.histogram(value, edges, weights=weights)
        axis.stairs(share, edges, color=colour, linestyle=style, linewidth=1.6, label=name)
        axis.stairs(
            share,
            edges,
            fill=True,
            facecolor=PALE if not hatch else "none",
            edgecolor=colour,
            hatch=hatch,
            linewidth=0,
            alpha=0.35,
            zorder=0,
        )
    axis.set_xlabel(label)


def _sexes(axis: Any, of: list[pd.DataFrame]) -> None:
    sexes = [sex for sex in ("F", "M", "") if any((one["sex"] == sex).any() for one in of)]
    names = {"F": "women", "M": "men", "": "unknown"}
    for number, (one, colour, hatch) in enumerate(zip(of, COLOURS, HATCHES, strict=True)):
        share = [100 * float((one["sex"] == sex).mean()) for sex in sexes]
        axis.bar(
            np.arange(len(sexes)) + 0.38 * (number - 0.5),
            share,
            0.34,
            facecolor=PALE,
            edgecolor=colour,
            linestyle=STYLES[number],
            hatch=hatch,
            linewidth=1.4,
        )
    axis.set_xticks(range(len(sexes)), [names[sex] for sex in sexes])
    axis.set_xlabel("sex")


def _counts(cohort: Cohort) -> Table:
    patients, more = cohort.patients, [one for one in cohort.attributes if one not in STANDARD]
    numbers = {"age": "age_years", "lymphocytes": "lymphocytes_g_per_l", "cells": "n_cells"}
    numbers |= {one.name: one.name for one in more if one.levels is None}
    groups = {
        name: patients[patients["label"] == label]
        for name, label in [*zip(CLASSES, (0, 1), strict=True), ("to predict", TO_PREDICT)]
    }
    rows = []
    for name, one in groups.items():
        if not len(one):
            continue
        row: dict[str, Any] = {"class": name, "patients": len(one)}
        row |= {
            title: int((one["sex"] == sex).sum()) for title, sex in (("women", "F"), ("men", "M"), ("sex unknown", ""))
        }
        for title, column in numbers.items():
            row |= {f"{title}_{q}": float(one[column].quantile(at)) for q, at in QUARTILES.items()}
        row |= {f"{of.name}: {level}": int((one[of.name] == level).sum()) for of in more for level in of.levels or ()}
        rows.append(row | {"cells_all": int(one["n_cells"].sum())})
    frame = pd.DataFrame(rows)
    caption = "Median (first to third quartile) of the patients; age in years, lymphocytes in 10⁹/L."
    return Table("cohort-counts", "Patients and cells by class", caption, frame, _transposed(frame, more))


QUARTILES = {"q1": 0.25, "median": 0.5, "q3": 0.75}


def _transposed(frame: pd.DataFrame, more: Sequence[Attribute]) -> pd.DataFrame:
    """Return the counts with one column per class, which suits narrow screens."""
    shown = {}
    for row in frame.to_dict("records"):
        column = {name: str(row[name]) for name in ("patients", "women", "men", "sex unknown")}
        own = [(one.name, 1) for one in more if one.levels is None]
        for name, digits in (("age", 0), ("lymphocytes", 1), *own, ("cells", 0)):
            median, low, high = (measured(row[f"{name}_{q}"], digits) for q in ("median", "q1", "q3"))
            column[f"{name} per patient" if name == "cells" else name] = (
                median if low == median == high else f"{median} ({low} to {high})"
            )
        column |= {name: str(count) for name, count in row.items() if ": " in name}
        shown[row["class"]] = column | {"cells in all": str(row["cells_all"])}
    return pd.DataFrame(shown).rename_axis("of").reset_index()
