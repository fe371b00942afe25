"""Robustness of the ensemble's predictions to shifts of light, stain and focus."""

import numpy as np
import pandas as pd

from lymphtune.ensembling.shift_robustness import PLAIN, Robustness, display_rows, read_robustness
from lymphtune.reporting.drawing import ENSEMBLE, INK, canvas
from lymphtune.reporting.facts import Facts
from lymphtune.reporting.parts import Drawing, Note, Section, Table

TITLE = "Shifts of light and stain"


def section(facts: Facts) -> Section | None:
    """Return the measured robustness, or the command that measures it; None where no ensemble is saved."""
    if facts.bundle is None:
        return None
    found = read_robustness(facts.run, facts.bundle)
    if found is None:
        return _not_measured(facts)
    return Section("robustness", TITLE, found.conclusion, [_drawing(found), _table(found)])


def _not_measured(facts: Facts) -> Section | None:
    """Return the command that measures it; None where no member uses pictures."""
    assert facts.bundle is not None
    if not any(chosen.kind == "network" for _, chosen in facts.bundle.fold_models()):
        return None
    command = f"lymphtune robustness --run {facts.run.name} --ensemble {facts.bundle.path.name}"
    lead = "The robustness of this ensemble's predictions to shifts of colour, light and focus was not measured."
    return Section(
        "robustness", TITLE, lead, [Note("This command measures it for the next report:"), Note(command, code=True)]
    )


def _drawing(found: Robustness) -> Drawing:
    shifted = found.shifted
    place = np.arange(len(shifted))[::-1]
    figure = canvas(0.9 + 0.22 * len(shifted))
    axes = figure.subplots(1, 2, sharey=True)
    for axis, what, label in (
        (axes[0], "balanced_accuracy", "change of balanced accuracy"),
        (axes[1], "flipped", "fraction classified differently"),
    ):
        value, low, high = (shifted[f"{what}_{end}"].to_numpy() for end in ("change", "low", "high"))
        axis.axvline(0, color=INK, linewidth=0.8, linestyle="--")
        axis.hlines(place, low, high, color=ENSEMBLE, linewidth=1.6)
        axis.scatter(value, place, 18, color=ENSEMBLE, zorder=3)
        axis.grid(axis="x")
        axis.set_xlabel(label)
    axes[0].set_yticks(place, shifted["shift"].tolist())
    alt = "; ".join(
        f"{row['shift']}: balanced accuracy {row['change']}, classified differently {row['called otherwise']}"
        for row in display_rows(found)[1:]
    )
    caption = (
        f"{found.n_patients} patients, {found.cells} cells each at most, predicted by the fold models that were not "
        "trained on the patient, on unchanged and on shifted pictures. Bars: the central 95 % over resamples of the "
        "patients, the same for both."
    )
    return Drawing("robustness", "What a shift changes", caption, alt + ".", figure)


def _table(found: Robustness) -> Table:
    caption = (
        f"'{PLAIN}': the same cells, unchanged. p moves by: mean distance between the two probabilities. Dyes are "
        "separated by their colour (Ruifrok and Johnston 2001). Combiner and threshold were fitted to all these "
        "patients: the changes are comparable, the level is optimistic."
    )
    return Table("robustness-shifts", "Shift by shift", caption, found.table, pd.DataFrame(display_rows(found)))
