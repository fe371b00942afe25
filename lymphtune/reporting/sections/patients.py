"""Which patients are hard: all scored patients, hardest first, and the cells of the hardest.

Shapes: P patients scored, N members.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lymphtune.ensembling.groups import scored_patients
from lymphtune.ensembling.held_out_cells import HeldOutCells, held_out_cells, matches_run
from lymphtune.reporting.drawing import BASELINE, ENSEMBLE, INK, LINE, canvas
from lymphtune.reporting.facts import Facts
from lymphtune.reporting.gallery import SIDE_PX, cell_uri, heat_uri
from lymphtune.reporting.parts import Block, Drawing, Note, Part, Section, Table
from lymphtune.reporting.sections.cohort import TICKS_G_PER_L
from lymphtune.runs.run import read_table
from lymphtune.statistics.metrics import log_losses
from lymphtune.statistics.words import CLASSES, measured

HARDEST, LEADING = 8, 5  # patients in the gallery, and cells for each class
MARKERS = ("o", "^")
COLOURS = (ENSEMBLE, BASELINE)
OPTIMISTIC = (
    "Each probability is from models that were not trained on the patient. But trials, combiner and threshold were "
    "chosen on all patients, so these probabilities are slightly optimistic, and the order is partly due to chance."
)


class ShownCell(NamedTuple):
    """One cell of the gallery; heat: "" for a cell without a saliency map."""

    source: str
    alt: str
    text: str
    heat: str
    heat_alt: str


def section(facts: Facts) -> Section:
    """Return the scored patients, hardest first, a figure of them, and the gallery."""
    table = scored_table(facts)
    wrong = table[table["predicted"] != table["label"]]
    missed = int((wrong["label"] == 1).sum())
    hardest = ", ".join(
        f"{row.patient} ({CLASSES[row.label]}, {row.probability:.2f})" for row in table[:3].itertuples()
    )
    lead = (
        f"{len(wrong)} of {len(table)} patients are misclassified out of fold: {missed} tumoral ones missed, "
        f"{len(wrong) - missed} reactive ones called tumoral. The hardest, with their probability of being tumoral: "
        f"{hardest}."
    )
    parts: list[Part] = [_drawing(facts, table), Note(OPTIMISTIC), _table(table)]
    return Section("patients", "Which patients are hard?", lead, [*parts, *_gallery(facts, table)])


def scored_table(facts: Facts) -> pd.DataFrame:
    """Return one row per scored patient, hardest first, by the log loss of the ensemble's out-of-fold probability.

    Columns row (of the cohort), patient, label, probability, predicted, log_loss, spread (sd between members, NaN for
    a single one), gate (mean over the members that have one, else NaN), the clinical columns, n_cells, fold.
    """
    candidates = facts.candidates
    numbered = facts.cohort.patients.assign(row=np.arange(len(facts.cohort.patients)))
    known = scored_patients(candidates, numbered)
    known["age_years"] = known["age_years"].round(1)  # an exact age would reveal the date of birth
    several = len(facts.rows) > 1
    table = pd.DataFrame(
        {
            "row": known["row"],
            "patient": candidates.patients,
            "label": facts.labels_P,
            "probability": facts.probability_P,
            "predicted": (facts.probability_P >= facts.fitted.threshold).astype(int),
            "log_loss": log_losses(facts.probability_P, facts.labels_P),
            "spread": facts.members_NP.std(axis=0) if several else np.nan,
            "gate": _gates(facts),
            "age_years": known["age_years"],
            "sex": known["sex"],
            "lymphocytes_g_per_l": known["lymphocytes_g_per_l"],
            "n_cells": known["n_cells"],
            "fold": candidates.fold_P,
        }
        | {one.name: known[one.name] for one in facts.cohort.attributes}
    )
    return table.sort_values("log_loss", ascending=False, kind="stable").reset_index(drop=True)


def _gates(facts: Facts) -> np.ndarray:
    """Return the gate, the weight of the pictures' expert, of each patient [P], mean over the members that have one."""
    gates = []
    for row, trial in zip(facts.rows, facts.members["trial"], strict=True):
        of_trial = np.flatnonzero(facts.candidates.trial_C == facts.candidates.trial_C[row])
        picked, last = len(of_trial) > 1, int(facts.members.set_index("trial").loc[trial, "epoch"])
        epoch = int(row - of_trial[0]) + 1 if picked else last
        oof = read_table(facts.run.trial(str(trial)) / "oof.parquet", [("epoch", "==", epoch)])
        if "gate" in oof:
            gates.append(oof.groupby("patient")["gate"].mean().reindex(facts.candidates.patients).to_numpy(float))
    given = [gate_P for gate_P in gates if not np.isnan(gate_P).all()]
    return np.mean(given, axis=0) if given else np.full(len(facts.labels_P), np.nan)


def _table(table: pd.DataFrame) -> Table:
    right = np.where(table["predicted"] == table["label"], "right", "WRONG")
    shown = pd.DataFrame(
        {
            "patient": table["patient"],
            "is": [CLASSES[label] for label in table["label"]],
            "called": [f"{CLASSES[called]}, {how}" for called, how in zip(table["predicted"], right, strict=True)],
            "probability": table["probability"],
            "spread": table["spread"],
            "gate": table["gate"],
            "age": [measured(value, 0) for value in table["age_years"]],
            "sex": table["sex"],
            "lymphocytes": [measured(value, 1) for value in table["lymphocytes_g_per_l"]],
            "cells": table["n_cells"],
            "fold": table["fold"] + 1,
        }
    ).rename(columns={"probability": "p (tumoral)"})
    empty = [name for name in ("spread", "gate") if shown[name].isna().all()]
    caption = (
        "All scored patients, by decreasing log loss of the ensemble's out-of-fold probability. Spread: standard "
        "deviation between members; gate: weight of the pictures in members that weigh pictures against "
        "clinical attributes; age in years, lymphocytes in 10⁹/L; fold: in which the patient was held out."
    )
    return Table(
        "patients-table", "Every patient, hardest first", caption, table.drop(columns="row"), shown.drop(columns=empty)
    )


def _drawing(facts: Facts, table: pd.DataFrame) -> Drawing:
    """Return each class's probabilities, sorted with the members' spread, and against the lymphocyte count."""
    figure = canvas(3.5)
    ranked, counted = figure.subplots(1, 2, sharey=True, width_ratios=(1.15, 1))
    for axis in (ranked, counted):
        axis.axhline(facts.fitted.threshold, color=INK, linewidth=0.8, linestyle="--")
        axis.grid(axis="y")
        axis.set_ylim(-0.03, 1.03)
    start = 0
    for label, (name, colour, marker) in enumerate(zip(CLASSES, COLOURS, MARKERS, strict=True)):
        mine = table[table["label"] == label].sort_values("probability")
        place, probability = start + np.arange(len(mine)), mine["probability"].to_numpy()
        if mine["spread"].notna().any():
            spread = mine["spread"].to_numpy()
            ranked.vlines(
                place,
                (probability - spread).clip(0),
                (probability + spread).clip(max=1),
                color=LINE,
                linewidth=1.6,
                zorder=1,
            )
        for axis, x in ((ranked, place), (counted, mine["lymphocytes_g_per_l"].to_numpy())):
            axis.scatter(x, probability, 13, color=colour, marker=marker, linewidths=0, label=name, zorder=3)
            missed = (mine["predicted"] != label).to_numpy()
            axis.scatter(
                x[missed],
                probability[missed],
                60,
                facecolors="none",
                edgecolors=INK,
                linewidths=0.9,
                zorder=4,
                label="misclassified" if label and missed.any() else None,
            )
        start += len(mine) + max(2, len(table) // 25)
    ranked.set_xticks([])
    ranked.set_xlabel("reactive, then tumoral patients, each in order")
    ranked.set_ylabel("probability of being tumoral")
    _logarithmic(counted, table["lymphocytes_g_per_l"])
    figure.legend(*counted.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return Drawing(
        "patients",
        "Which patients are hard, and why",
        "The ensemble's out-of-fold probability of every scored patient: left sorted within each class, with one "
        "standard deviation between members as a bar; right against the lymphocyte count. Dashed: the threshold.",
        _alt(facts, table),
        figure,
    )


def _logarithmic(axis: Any, values: pd.Series) -> None:
    if values.isna().all():
        axis.set_visible(False)
        return
    low, high = float(values.min()), float(values.max())
    axis.set_xscale("log")
    axis.set_xticks([tick for tick in TICKS_G_PER_L if low / 1.1 <= tick <= high * 1.1])
    axis.set_xticks([], minor=True)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_xlabel("lymphocytes (10⁹/L), logarithmic")


def _alt(facts: Facts, table: pd.DataFrame) -> str:
    texts = []
    for label, name in enumerate(CLASSES):
        mine = table[table["label"] == label]
        wrong = mine["predicted"] != label
        text = (
            f"{name}: {len(mine)} patients, median probability {mine['probability'].median():.2f}, {int(wrong.sum())} "
        )
        text += f"misclassified at a threshold of {facts.fitted.threshold:.2f}"
        if wrong.any() and not wrong.all():
            count = mine["lymphocytes_g_per_l"]
            medians = [measured(count[of].median(), 1) for of in (wrong, ~wrong)]
            text += f" (median lymphocyte count {medians[0]}, of the others {medians[1]})"
        texts.append(text)
    return "; ".join(texts) + "."


def _gallery(facts: Facts, table: pd.DataFrame) -> list[Part]:
    """Return the gallery, or a note on why there is none."""
    if not facts.pictures:
        return [Note("This report was made without pictures of cells (--no-pictures).")]
    if facts.bundle is None:
        top = f"lymphtune ensemble --top {len(facts.rows)} --run {facts.run.name}"
        return [Note(f"No cells are shown: that needs a saved ensemble. Make one, then the report again: {top}")]
    if not matches_run(facts.bundle, facts.cohort, facts.candidates):
        return [Note(f"No cells are shown: {facts.bundle.path.name} was made with other folds or patients.", True)]
    chosen = table.loc[picked(table)]
    cells = held_out_cells(facts.bundle, facts.cohort, chosen["row"].to_numpy(), chosen["fold"].to_numpy())
    if cells is None:
        return [Note("No cells are shown: no member of the ensemble uses pictures.")]
    sides = [cells.leading(place, LEADING) for place in range(len(chosen))]
    first = np.array([side[0] for both in sides for side in both if len(side)], dtype=int)
    heat = dict(zip(first.tolist(), cells.saliency(first), strict=True))
    shown = [_patient(cells, place, row, sides[place], heat) for place, row in enumerate(chosen.itertuples())]
    data = {"patients": shown, "caption": _caption(facts, cells), "side": min(SIDE_PX, len(cells.cohort.bag(0)[0]))}
    return [Block("gallery.html", data)]


def picked(table: pd.DataFrame) -> list[int]:
    """Return the table's rows in the gallery: the hardest, then the most certain correct one of each class."""
    rows = table.index[:HARDEST].tolist()
    for label in (0, 1):
        right = table[(table["label"] == label) & (table["predicted"] == label)]
        rows += [row for row in right.index[-1:] if row not in rows]
    return rows


def _patient(
    cells: HeldOutCells, place: int, row: Any, sides: Iterable[np.ndarray], heat: dict[int, np.ndarray]
) -> dict[str, Any]:
    """Return one patient's data for the template; heat: saliency of the first cell of each class."""
    right = "correctly" if row.predicted == row.label else "WRONGLY"
    count = int(cells.cohort.patients["n_cells"].iloc[place])
    sex = {"F": "woman", "M": "man"}.get(row.sex, "sex unknown")
    return {
        "title": f"{row.patient}: {CLASSES[row.label]}, {right} called {CLASSES[row.predicted]} "
        f"(probability {row.probability:.2f})",
        "about": f"{sex}, age {measured(row.age_years, 0)}, {measured(row.lymphocytes_g_per_l, 1)}·10⁹/L lymphocytes; "
        f"{count} of {cells.whole_P[place]} cells were evaluated.",
        "sides": [
            {"title": title, "cells": _shown_cells(cells, side, heat, str(row.patient))}
            for title, side in zip(("For tumoral", "For reactive"), sides, strict=True)
        ],
    }


def _shown_cells(
    cells: HeldOutCells, side: Iterable[int], heat: dict[int, np.ndarray], patient: str
) -> list[ShownCell]:
    shown = []
    for cell in map(int, side):
        picture, name = cells.cohort.pictures_CSS3[cell], f"cell {cells.number_C[cell] + 1} of {patient}"
        text = f"{cells.probability_C[cell]:.2f}" + (f", weight {cells.weight_C[cell]:.1f}" if cells.weighs else "")
        shown.append(
            ShownCell(
                cell_uri(picture),
                f"{name}: probability of tumoral alone {text}",
                text,
                heat_uri(picture, heat[cell]) if cell in heat else "",
                f"{name}, the pixels that move its probability most in orange{_where(heat.get(cell))}",
            )
        )
    return shown


def _where(heat_SS: np.ndarray | None) -> str:
    """Return the percentage of the saliency in the middle of the picture, where the cell is, as text."""
    if heat_SS is None or not heat_SS.sum():
        return ""
    side = heat_SS.shape[0]
    middle = heat_SS[side * 3 // 8 : side * 5 // 8, side * 3 // 8 : side * 5 // 8].sum() / heat_SS.sum()
    return f"; {100 * middle:.0f} % of them in the middle sixteenth of the whole picture"


def _caption(facts: Facts, cells: HeldOutCells) -> str:
    weight = "; weight: its weight in the bag, relative to equal weights" if cells.weighs else ""
    order = "in the order of their probability"
    if cells.weighs:
        order = (
            "assigned to a class and ordered by weight times the distance of the probability from one half, mean over "
            "the models; where models disagree, the class may differ from that of the mean probability"
        )
    old = " The ensemble is older than the latest extension of the run." if facts.stale else ""
    return (
        f"The {HARDEST} hardest patients, then the most certain correct one of each class. Under each cell: the "
        f"probability of tumoral for a bag of that cell alone (with the patient's attributes, for members that join "
        f"them to each cell), mean over the fold models that were not trained on the patient{weight}. Cells are "
        f"{order}. Grey and orange, beside the first cell of each row: where the gradient of its logit with respect "
        "to the pixels is larger than at half of them, mean over 8 noisy copies (SmoothGrad, Smilkov et al. 2017), in "
        "one fold model of the first member that uses pictures; it shows the location that matters, not the reason."
        f"{old}"
    )
