"""Naive and honest scores, calibration, confusion matrices and net benefit.

Shapes: S resamples, P patients scored, T threshold probabilities.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lymphtune.ensembling.score import BASELINE, ENSEMBLE, SINGLE, one_of
from lymphtune.reporting.drawing import BASELINE as BASELINE_COLOUR
from lymphtune.reporting.drawing import ENSEMBLE as ENSEMBLE_COLOUR
from lymphtune.reporting.drawing import INK, LINE, canvas
from lymphtune.reporting.drawing import SINGLE as SINGLE_COLOUR
from lymphtune.reporting.facts import Facts
from lymphtune.reporting.parts import Drawing, Part, Section, Table
from lymphtune.statistics.bootstrap import BOUNDS, resample
from lymphtune.statistics.decision import at_prevalence, net_benefit, treat_all
from lymphtune.statistics.words import CLASSES, bounded, percent, signed

COLOURS = {ENSEMBLE: ENSEMBLE_COLOUR, SINGLE: SINGLE_COLOUR, BASELINE: BASELINE_COLOUR}
THRESHOLDS_T = np.linspace(0.01, 0.99, 99)  # of the decision curve
RESAMPLES = 500  # for its band
FEWEST = 0.5  # patients in a plotted bin


def section(facts: Facts) -> Section:
    """Return naive and honest scores, calibration, probabilities, confusion matrices and net benefit."""
    parts: list[Part] = [_dumbbells(facts), _reliability(facts), _histogram(facts), _confusion(facts), _decision(facts)]
    return Section("selection", "Naive and honest", _lead(facts), parts)


def _lead(facts: Facts) -> str:
    entries = facts.scores.entries
    ensemble, single = entries[ENSEMBLE], entries[SINGLE]
    return (
        f"The {_named(facts, ENSEMBLE)} has a balanced accuracy of {ensemble.naive['balanced_accuracy']:.3f} on the "
        f"patients that selected it and of {ensemble.honest['balanced_accuracy'].value:.3f} on held-out patients: "
        f"an optimism of {signed(ensemble.optimism)}, against {signed(single.optimism)} for the best single trial."
    )


def _named(facts: Facts, name: str) -> str:
    if name != ENSEMBLE:
        return name
    return f"ensemble of {len(facts.rows)}" if len(facts.rows) > 1 else "selected trial"


def _dumbbells(facts: Facts) -> Drawing:
    figure = canvas(2.1)
    panel = figure.subplots()
    entries, texts = facts.scores.entries, []
    for place, (name, colour) in zip((2, 1, 0), COLOURS.items(), strict=True):
        entry = entries[name]
        naive, honest = entry.naive["balanced_accuracy"], entry.honest["balanced_accuracy"]
        panel.plot([honest.low, honest.high], [place, place], color=colour, linewidth=1.2, marker="|", markersize=8)
        panel.plot([honest.value, naive], [place, place], color=colour, linewidth=3.5, alpha=0.35)
        panel.plot(honest.value, place, "o", color=colour, markersize=8)
        panel.plot(naive, place, "D", color=colour, markersize=6, markerfacecolor="none", markeredgewidth=1.4)
        panel.annotate(
            signed(entry.optimism),
            (1.02, place),
            xycoords=("axes fraction", "data"),
            va="center",
            annotation_clip=False,
        )
        texts.append(f"{_named(facts, name)}: naive {naive:.3f}, honest {bounded(honest)}, {signed(entry.optimism)}")
    panel.annotate("optimism", (1.02, 2.55), xycoords=("axes fraction", "data"), va="center", annotation_clip=False)
    panel.set_yticks([2, 1, 0], [_named(facts, name) for name in COLOURS])
    panel.set(xlabel="balanced accuracy", ylim=(-0.6, 2.8))
    for marker, filled, label in (("D", "none", "naive"), ("o", INK, "honest, with its 95 % interval")):
        panel.plot([], [], marker, color=INK, markerfacecolor=filled, label=label, markersize=6)
    figure.legend(loc="outside lower center", ncols=2)
    panel.grid(True, axis="x")
    caption = (
        "Naive (diamond): out of fold, on the patients that selected trials, combiner and threshold. Honest (dot): "
        "selection-corrected; the selection is repeated in 1,000 resamples and scored on the patients that each holds "
        "out (Tsamardinos et al. 2018). Optimism: naive minus honest."
    )
    return Drawing("naive-honest", "Naive against honest balanced accuracy", caption, "; ".join(texts) + ".", figure)


# ---- calibration


def _reliability(facts: Facts) -> Drawing:
    table, calibration = facts.scores.reliability, facts.procedure.calibration
    stages = {"before": (BASELINE_COLOUR, "o", "--"), "after": (ENSEMBLE_COLOUR, "s", "-")}
    if calibration is None:
        stages = {"after": stages["after"]}
    figure = canvas(4.0)
    panel = figure.subplots()
    panel.plot([0, 1], [0, 1], color=LINE, linewidth=1, zorder=0)
    texts = []
    for stage, (colour, marker, style) in stages.items():
        part = table[(table["stage"] == stage) & (table["patients"] >= FEWEST)]
        label = "uncalibrated" if calibration is None else f"{stage} calibration ({calibration.word})"
        panel.plot(part["said"], part["true"], color=colour, linestyle=style, linewidth=1)
        sizes = 4 * part["patients"]
        panel.scatter(part["said"], part["true"], sizes, color=colour, marker=marker, alpha=0.75, linewidths=0)
        panel.plot([], [], color=colour, linestyle=style, marker=marker, label=label)
        pairs = (f"{row.said:.2f}: {row.true:.2f} ({row.patients:.1f} patients)" for row in part.itertuples())
        texts.append(f"{label}, predicted probability and fraction tumoral: " + ", ".join(pairs))
    panel.set(xlim=(-0.06, 1.06), ylim=(-0.06, 1.06), aspect="equal")
    panel.set(xlabel="predicted probability", ylabel="fraction tumoral, equal class weights")
    panel.legend(loc="lower right")
    panel.grid(True)
    error = facts.scores.entries[ENSEMBLE].honest["calibration_error"]
    caption = (
        "Held-out patients, in ten bins of the predicted probability (area: number of patients; bins of fewer than "
        "half a patient are omitted), with equal class weights. Calibrated probabilities are on the diagonal. "
        f"Calibration error {bounded(error)}; a perfectly calibrated model of 100 patients has about 0.1."
    )
    return Drawing("reliability", "Calibration", caption, "; ".join(texts) + ".", figure)


def _histogram(facts: Facts) -> Drawing:
    figure = canvas(3.2)
    panels: Any = figure.subplots(2, 1, sharex=True, sharey=True)
    edges, threshold, texts = np.linspace(0, 1, 21), facts.fitted.threshold, []
    styles = ((SINGLE_COLOUR, ""), (BASELINE_COLOUR, "///"))
    for label, (panel, (colour, hatch)) in enumerate(zip(panels, styles, strict=True)):
        probability_P = facts.probability_P[facts.labels_P == label]
        panel.hist(probability_P, edges, color=colour, alpha=0.75, hatch=hatch, edgecolor=INK, linewidth=0.4)
        panel.axvline(threshold, color=INK, linestyle="--", linewidth=1.2)
        above = int((probability_P >= threshold).sum())
        panel.set_title(f"{CLASSES[label]}: {len(probability_P)} patients, {above} called tumoral", loc="left")
        panel.set_ylabel("patients")
        texts.append(
            f"{CLASSES[label]}: {above} of {len(probability_P)} at or above, median {np.median(probability_P):.2f}"
        )
    panels[1].set(xlabel="probability of tumoral", xlim=(0, 1))
    panels[0].annotate(
        f"threshold {threshold:.3g}",
        (threshold, 1),
        xycoords=("data", "axes fraction"),
        xytext=(3, 2),
        textcoords="offset points",
        va="bottom",
        fontsize=8,
    )
    caption = (
        "The ensemble's probability of each patient, members out of fold. Members, combiner and a tuned threshold were "
        "selected on these patients, so the classes are further apart than for new patients."
    )
    alt = f"Threshold {threshold:.3g}. " + "; ".join(texts) + "."
    return Drawing("probabilities", "The ensemble's probabilities by class", caption, alt, figure)


# ---- confusion matrices


def _confusion(facts: Facts) -> Table:
    rows = []
    for name in COLOURS:
        resampled = facts.scores.entries[name].resampled
        naive_P, threshold = _naive_calls(facts, name)
        honest_P = facts.recipe_scores.scorer.called(resampled.predictions)
        for label in (0, 1):
            of = facts.labels_P == label
            row = {"procedure": _named(facts, name), "threshold": threshold, "truly": CLASSES[label]}
            row |= {"patients": int(of.sum()), "naive_tumoral": int(naive_P[of].sum())}
            rows.append(row | {"honest_tumoral": float(honest_P[of].sum())})
    table = pd.DataFrame(rows)
    for way in ("naive", "honest"):
        table[f"{way}_reactive"] = table["patients"] - table[f"{way}_tumoral"]
    shown = table[["procedure", "truly"]].copy()
    for way, digits in (("naive", 0), ("honest", 1)):
        for called in CLASSES:
            shown[f"{way}: called {called}"] = [
                f"{count:.{digits}f} ({percent(count / of)})"
                for count, of in zip(table[f"{way}_{called}"], table["patients"], strict=True)
            ]
    thresholds = ", ".join(
        f"{row.procedure} {row.threshold:.3g}" for row in table.drop_duplicates("procedure").itertuples()
    )
    caption = (
        f"Thresholds in use: {thresholds}. naive: on the patients of the selection. honest: the mean number over "
        "resamples that hold a patient out, hence fractional; trials and threshold are those of the resample. "
        "Percentages are of the true class: those of correct calls are specificity and recall."
    )
    return Table("confusion", "Confusion matrices", caption, table, shown)


def _naive_calls(facts: Facts, name: str) -> tuple[np.ndarray, float]:
    """Return which patients a procedure fitted to all patients calls tumoral [P], and its threshold."""
    if name == ENSEMBLE:
        return facts.probability_P >= facts.fitted.threshold, facts.fitted.threshold
    choice = facts.procedure.recipe.choice
    recipe = one_of("clinical" if name == BASELINE else choice.source, choice.by, choice.include_stopped)
    members_NP = facts.candidates.oof_CP[facts.candidates.chosen(recipe.choice)]
    fitted = replace(facts.procedure, recipe=recipe).fit(members_NP, facts.labels_P)
    return fitted.probability(members_NP) >= fitted.threshold, fitted.threshold


# ---- net benefit


def _decision(facts: Facts) -> Drawing:
    figure = canvas(3.5)
    panel = figure.subplots()
    labels_P, prevalence = facts.labels_P, float(facts.labels_P.mean())
    all_T = treat_all(labels_P, THRESHOLDS_T)
    texts = [f"Prevalence {percent(prevalence)}."]
    for name, style in ((ENSEMBLE, "-"), (BASELINE, "--")):
        called_PT = _called_at(facts, name, prevalence)
        worth_T = net_benefit(called_PT, labels_P, THRESHOLDS_T)
        if name == ENSEMBLE:
            _band(panel, called_PT, labels_P, facts.candidates.group_P)
        panel.plot(
            THRESHOLDS_T, worth_T, color=COLOURS[name], linestyle=style, linewidth=1.6, label=_named(facts, name)
        )
        at = {f"{level:.1f}": worth_T[np.abs(THRESHOLDS_T - level).argmin()] for level in (0.2, 0.5, 0.8)}
        texts.append(
            f"{_named(facts, name)}: " + ", ".join(f"{worth:.2f} at {level}" for level, worth in at.items()) + ";"
        )
    panel.plot(THRESHOLDS_T, all_T, color=INK, linestyle=":", linewidth=1.2, label="all called tumoral")
    panel.axhline(0, color=INK, linewidth=1, label="none called tumoral")
    panel.set(xlim=(0, 1), ylim=(-0.12, prevalence + 0.05), xlabel="threshold probability", ylabel="net benefit")
    panel.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    panel.grid(True)
    caption = (
        f"Net benefit (Vickers and Elkin 2006) at this cohort's prevalence of {percent(prevalence)} tumoral, which a "
        "hospital may not share: true positives per patient, minus false ones times the odds of the threshold "
        "probability (0.2: a missed tumoral patient is as bad as four false alarms). The probabilities are for classes "
        "of equal size and are first converted to this prevalence. Both curves are honest: on the patients that "
        f"each of 1,000 resamples holds out. Band: central 95 % of {RESAMPLES} resamples of the patients."
    )
    return Drawing("decision-curve", "Decision curve", caption, " ".join(texts).rstrip(";") + ".", figure)


def _called_at(facts: Facts, name: str, prevalence: float) -> np.ndarray:
    """Return how often each held-out patient is called tumoral at each threshold probability [P, T]."""
    probability_SP = at_prevalence(facts.scores.entries[name].resampled.probability_SP, prevalence)
    return facts.recipe_scores.scorer.called_at(probability_SP, THRESHOLDS_T)


def _band(panel: Axes, called_PT: np.ndarray, labels_P: np.ndarray, group_P: np.ndarray | None) -> None:
    counts_SP = resample(labels_P, RESAMPLES, 0, group_P)
    benefit_ST = net_benefit(called_PT, labels_P, THRESHOLDS_T, counts_SP)
    low_T, high_T = np.quantile(benefit_ST, BOUNDS, axis=0)
    panel.fill_between(THRESHOLDS_T, low_T, high_T, color=ENSEMBLE_COLOUR, alpha=0.13, linewidth=0)
