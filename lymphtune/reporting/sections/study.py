"""The study's figures for this run: training curves, ROC curves, and the table of architectures.

Shapes: E epochs, R repeats, F fold models, P patients, T thresholds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lymphtune.console import counted
from lymphtune.ensembling.candidates import eligible
from lymphtune.ensembling.score import BASELINE, ENSEMBLE
from lymphtune.reporting.drawing import BASELINE as BASELINE_COLOUR
from lymphtune.reporting.drawing import COLOURS, INK, LINE, STYLES, canvas
from lymphtune.reporting.drawing import ENSEMBLE as ENSEMBLE_COLOUR
from lymphtune.reporting.facts import Facts
from lymphtune.reporting.parts import Drawing, Part, Section, Table
from lymphtune.spaces import Row
from lymphtune.statistics.honest import fixed_score
from lymphtune.statistics.metrics import METRICS, balanced_accuracy
from lymphtune.statistics.roc import GRID_G, Roc, calls, roc
from lymphtune.statistics.words import bounded, short

MOST = 4  # architectures in a figure
STEPS = 200  # thresholds of a curve on held-out patients
SHOWN = {"recall": "recall", "specificity": "specificity", "balanced_accuracy": "balanced accuracy", "auc": "AUC"}
PUBLISHED = {"balanced_accuracy": "balanced accuracy", "recall": "recall", "auc": "AUC", "kaggle": "kaggle"}
STUDY = (
    "The study (Dessaint and Dalla-torre 2021) trained its best network several times: its balanced accuracy on one "
    "test set ranged from 0.756 to 0.849 between trainings."
)


@dataclass(frozen=True)
class Curves:
    """A trial's training.

    loss_sd_E: None where the run did not record it; scores_EF: balanced accuracy of each fold model on the patients
    that it was not trained on.
    """

    label: str
    loss_E: np.ndarray
    loss_sd_E: np.ndarray | None
    scores_EF: np.ndarray
    scored_epoch: int


def section(facts: Facts) -> Section:
    """Return the study's two figures and its table of architectures."""
    table = _by_architecture(facts)
    best = _best_of_each(facts)
    curves = [curve for row in best.itertuples() if (curve := _curves(facts, row)) is not None]
    parts: list[Part] = [_training(curves, facts)] if curves else []
    parts += [_roc(facts, best), _table(facts, table)]
    return Section("study", "The study's figures", _lead(table), parts)


def _lead(table: pd.DataFrame) -> str:
    top = table.loc[table["balanced_accuracy"].idxmax()]
    seeds = "one seed" if top["sd_of_balanced_accuracy"] != top["sd_of_balanced_accuracy"] else "the mean of its seeds"
    return (
        f"Of {len(table)} kinds of model the highest balanced accuracy is that of {top['model']}: "
        f"{short(top['balanced_accuracy'])} ({seeds}, out of fold, optimistic as the highest of several). {STUDY}"
    )


def _labels(facts: Facts, table: pd.DataFrame) -> pd.Series:
    """Return the label of each trial: its row's name in a grid with named rows, else its architecture."""
    rows = facts.description.space.rows or []
    if not rows or "number" not in table:
        return table["architecture"]
    known = {number: row["name"] for number, row in enumerate(rows)}
    return table["number"].map(known).fillna(table["architecture"] + " (baseline)")


def _best_of_each(facts: Facts) -> pd.DataFrame:
    """Return the leaderboard's best network of each architecture, at most MOST, the best first."""
    table = facts.candidates.table
    networks = table[table["kind"] == "network"]
    return networks.assign(label=_labels(facts, networks)).drop_duplicates("label").head(MOST)


def _out_of_fold(facts: Facts, trial: Any) -> np.ndarray:
    """Return a trial's probabilities at its scored epoch, by seed, of the scored patients [R, P]."""
    return facts.oof(trial.trial)[int(trial.epoch) - 1][:, (facts.folds_RP >= 0).all(axis=0)]


# ---- training curves


def _curves(facts: Facts, row: Any) -> Curves | None:
    """Return a trial's curves; None where their file is damaged."""
    table = facts.curves(row.trial)
    if table is None:
        return None
    sd_E = table["train_loss_sd"].to_numpy(dtype=float) if "train_loss_sd" in table else np.array([np.nan])
    scores_EF = _by_fold(facts.oof(row.trial)[: len(table)], facts.folds_RP, facts.cohort.labels)
    known = bool(np.isfinite(sd_E).all())  # early versions did not record it
    return Curves(row.label, table["train_loss"].to_numpy(), sd_E if known else None, scores_EF, int(row.epoch))


def _by_fold(oof_ERP: np.ndarray, folds_RP: np.ndarray, labels_P: np.ndarray) -> np.ndarray:
    """Return the balanced accuracy [E, F] of each fold with both classes, or of whole repeats where no fold has."""
    scores = []
    for r, folds_P in enumerate(folds_RP):
        for held_P in [folds_P == fold for fold in np.unique(folds_P[folds_P >= 0])]:
            if len(np.unique(labels_P[held_P])) == 2:
                scores.append(balanced_accuracy(oof_ERP[:, r, held_P], labels_P[held_P]))
    if not scores:
        scores = [balanced_accuracy(oof_ERP[:, r, held_P], labels_P[held_P]) for r, held_P in enumerate(folds_RP >= 0)]
    return np.stack(scores, axis=1)


def _training(curves: Sequence[Curves], facts: Facts) -> Drawing:
    figure = canvas(3.3)
    losses, scores = figure.subplots(1, 2, sharex=True)
    for curve, colour, style in zip(curves, COLOURS, STYLES, strict=False):
        epochs_E = np.arange(1, len(curve.loss_E) + 1)
        many = curve.scores_EF.shape[1] > 1
        score_sd_E = curve.scores_EF.std(axis=1, ddof=1) if many else None
        line_style = {"color": colour, "linestyle": style, "label": curve.label}
        _line(losses, epochs_E, curve.loss_E, curve.loss_sd_E, line_style)
        _line(scores, epochs_E, curve.scores_EF.mean(axis=1), score_sd_E, line_style, 1.0)
        at = curve.scored_epoch - 1
        scores.plot(curve.scored_epoch, curve.scores_EF[at].mean(), "o", color=colour, markersize=5)
    for panel, name in ((losses, "training loss"), (scores, "validation: balanced accuracy")):
        panel.set(xlabel="epoch", ylabel=name)
        panel.grid(True)
    figure.legend(*losses.get_legend_handles_labels(), loc="outside lower center", ncols=min(2, len(curves)))
    return Drawing(
        "training-curves",
        "Training loss and validation balanced accuracy",
        _training_caption(curves, facts),
        _training_alt(curves),
        figure,
    )


def _line(
    panel: Axes, x: np.ndarray, mean: np.ndarray, sd: np.ndarray | None, style: dict[str, Any], most: float = np.inf
) -> None:
    marker = "." if len(x) == 1 else None
    panel.plot(x, mean, linewidth=1.6, marker=marker, **style)
    if sd is not None:
        panel.fill_between(
            x, np.maximum(mean - sd, 0), np.minimum(mean + sd, most), color=style["color"], alpha=0.13, linewidth=0
        )


def _training_caption(curves: Sequence[Curves], facts: Facts) -> str:
    n_models, repeats = curves[0].scores_EF.shape[1], facts.description.protocol.repeats
    over = f"{n_models} fold models ({facts.n_folds} folds, {counted(repeats, 'seed')})"
    bands = "no bands: there is one model"
    if n_models > 1:
        bands = f"lines: mean over {over}; bands: plus and minus one standard deviation"
        bands += "" if curves[0].loss_sd_E is not None else " (the run did not record that of the loss)"
    share = len(facts.labels_P) // facts.n_folds
    few = (
        f" A fold holds about {share} patients out, so their small number causes most of the band."
        if n_models > 1
        else ""
    )
    cut = " A line that ends early is a trial that was stopped." if len({len(c.loss_E) for c in curves}) > 1 else ""
    return (
        "The best trial of each architecture by out-of-fold log loss, at most four, selected on these patients; "
        f"{bands}.{few} The dot is the scored epoch. Validation patients are those that the fold's model was not "
        f"trained on.{cut}"
    )


def _training_alt(curves: Sequence[Curves]) -> str:
    texts = []
    for curve in curves:
        before, after = curve.scores_EF[0].mean(), curve.scores_EF[-1].mean()
        texts.append(
            f"{curve.label}: training loss from {curve.loss_E[0]:.2f} to {curve.loss_E[-1]:.2f} in "
            f"{len(curve.loss_E)} epochs, validation balanced accuracy from {before:.2f} to {after:.2f}"
        )
    return "; ".join(texts) + "."


# ---- ROC curves


def _roc(facts: Facts, best: pd.DataFrame) -> Drawing:
    figure = canvas(4.6 if len(best) > 2 else 4.3)
    honest, single = figure.subplots(1, 2, sharey=True)
    procedures = {"ensemble": (ENSEMBLE, ENSEMBLE_COLOUR, "-"), BASELINE: (BASELINE, BASELINE_COLOUR, "--")}
    texts = ["On held-out patients:"]
    for name, (key, colour, style) in procedures.items():
        area = bounded(facts.scores.entries[key].honest["auc"])
        _draw_roc(honest, _left_out(facts, key), f"{name}: {area}", colour, style)
        texts.append(f"{name} AUC {area};")
    texts.append("single trials out of fold, selected on these patients:")
    for label, probability_P, colour, style in _singles(facts, best):
        area = bounded(
            fixed_score(probability_P, facts.labels_P, "auc", group_P=facts.recipe_scores.candidates.group_P)
        )
        _draw_roc(
            single,
            roc(calls(probability_P), facts.labels_P, group_P=facts.recipe_scores.candidates.group_P),
            f"{label}:\n{area}",
            colour,
            style,
        )
        texts.append(f"{label} AUC {area};")
    for panel, title in ((honest, "held-out patients"), (single, "single trials, out of fold (optimistic)")):
        panel.plot([0, 1], [0, 1], color=LINE, linewidth=1, zorder=0)
        panel.set(xlabel="1 \N{MINUS SIGN} specificity", aspect="equal", title=title)
        panel.set(xticks=np.linspace(0, 1, 6), yticks=np.linspace(0, 1, 6))
        panel.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.2), title="AUC (95 %)", title_fontsize=8, alignment="left"
        )
        panel.grid(True)
    honest.set_ylabel("recall")
    caption = (
        "Left: each patient's predictions by the whole procedure, including the selection of trials, in all of 1,000 "
        "resamples that hold the patient out; areas as in the verdict. Right: the best trial of each architecture and "
        "the best baseline, out of fold, mean over seeds; optimistic, because they were selected on these patients. "
        "Bands: central 95 % of 1,000 resamples of the patients, without the variation between trainings. A band has "
        "no width where no patient is misclassified, which is weak evidence with few patients."
    )
    return Drawing("roc", "ROC curves", caption, " ".join(texts).rstrip(";") + ".", figure)


def _singles(facts: Facts, best: pd.DataFrame) -> list[tuple[str, np.ndarray, str, Any]]:
    """Return label, probabilities [P], colour and style of the best trials and the best baseline."""
    table = facts.candidates.table
    clinical = table[table["kind"] == "clinical"].head(1)
    trials = [*best.itertuples(), *clinical.assign(label=clinical["title"]).itertuples()]
    styles = [*list(zip(COLOURS, STYLES, strict=True))[: len(best)], (INK, (0, (1, 1)))]
    return [
        (trial.label, _out_of_fold(facts, trial).mean(axis=0), colour, style)
        for trial, (colour, style) in zip(trials, styles, strict=False)
    ]


def _left_out(facts: Facts, name: str) -> Roc:
    """Return the ROC curve of a procedure on the patients that its resamples hold out."""
    probability_SP, left_out = facts.scores.entries[name].resampled.probability_SP, facts.recipe_scores.scorer
    levels = np.unique(np.quantile(probability_SP[left_out.held_out_SP], np.linspace(0, 1, STEPS)))[::-1]
    thresholds_T = np.concatenate([[np.inf], levels])
    return roc(left_out.called_at(probability_SP, thresholds_T), facts.labels_P, group_P=left_out.group_P)


def _draw_roc(panel: Axes, curve: Roc, label: str, colour: str, style: Any) -> None:
    panel.fill_between(GRID_G, curve.low_G, curve.high_G, color=colour, alpha=0.13, linewidth=0)
    panel.plot(
        curve.false_positive_T,
        curve.true_positive_T,
        color=colour,
        linestyle=style,
        linewidth=1.6,
        label=label,
        solid_joinstyle="miter",
    )


# ---- the table of architectures


def _by_architecture(facts: Facts) -> pd.DataFrame:
    """Return one row per architecture, or row of the grid: its trials, and mean and sd over seeds of the best."""
    leaderboard = eligible(facts.leaderboard)
    leaderboard = leaderboard.assign(label=_labels(facts, leaderboard))
    rows = []
    for label, trials in leaderboard.groupby("label", sort=False):
        ended = trials[trials["status"] == "done"]
        best = (ended if len(ended) else trials).iloc[0]
        alike = ended["balanced_accuracy"]
        row = {"model": label, "trials": len(trials), "to_their_end": len(ended), "best_trial": best["trial"]}
        row |= {"best_epoch_picked": bool(best["best_epoch_picked"])} | _over_seeds(facts, best)
        row |= {"mean_of_trials": alike.mean(), "sd_of_trials": alike.std(ddof=1) if len(alike) > 1 else np.nan}
        rows.append(row)
    given = facts.description.space.rows
    table = _with_published(pd.DataFrame(rows), given)
    order = {row["name"]: number for number, row in enumerate(given)}
    return table.sort_values("model", key=lambda names: names.map(order).fillna(len(order)), kind="stable")


def _with_published(table: pd.DataFrame, given: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the table with a column for each published score that any row has; NaN where a row has none."""
    rows = {row["name"]: Row.model_validate(row).published for row in given}
    for name in PUBLISHED:
        figures = {row: getattr(figure, name) for row, figure in rows.items() if figure is not None}
        if any(value is not None for value in figures.values()):
            table[f"published_{name}"] = table["model"].map(figures).astype(float)
    return table


def _over_seeds(facts: Facts, best: Any) -> dict[str, float]:
    """Return mean and sd over repeats of a trial's scores at its scored epoch; the sd of one repeat is NaN."""
    probability_RP, found = _out_of_fold(facts, best), {}
    for name in SHOWN:
        score_R = METRICS[name](probability_RP, facts.labels_P)
        found[name] = float(score_R.mean())
        found[f"sd_of_{name}"] = float(score_R.std(ddof=1)) if len(score_R) > 1 else np.nan
    return found


def _table(facts: Facts, table: pd.DataFrame) -> Table:
    picked, stopped = table["best_epoch_picked"], table["to_their_end"] == 0
    marks = picked.map({True: "*", False: ""}) + stopped.map({True: " (stopped)", False: ""})
    shown = pd.DataFrame({"model": table["model"] + marks, "trials": table["trials"]})
    for name, title in SHOWN.items():
        shown[title] = [_plus_minus(*pair) for pair in zip(table[name], table[f"sd_of_{name}"], strict=True)]
    if (table["to_their_end"] > 1).any():
        pairs = zip(table["mean_of_trials"], table["sd_of_trials"], strict=True)
        shown["all its trials, balanced accuracy"] = [_plus_minus(*pair) for pair in pairs]
    for name, title in PUBLISHED.items():
        if f"published_{name}" in table:
            shown[f"published: {title}"] = [short(value) or "-" for value in table[f"published_{name}"]]
    repeats = facts.description.protocol.repeats
    seeds = f"mean \N{PLUS-MINUS SIGN} sd over {repeats} seeds" if repeats > 1 else "one seed, so no spread"
    caption = (
        f"The best trial of each by out-of-fold log loss, {seeds}, each seed scored separately on "
        f"{len(facts.labels_P)} patients out of fold. The best of several trials was selected on these patients and is "
        "optimistic; the mean over all that were trained to their end is not. Failed trials are not counted. "
    )
    if stopped.any():
        caption += (
            "(stopped): none was trained to its end; the scores are those of the epoch at which the best stopped. "
        )
    if picked.any():
        caption += "* at the epoch that is best on these same patients, therefore optimistic. "
    return Table("architectures", "Architectures", caption + STUDY, table, shown)


def _plus_minus(mean: float, sd: float) -> str:
    if mean != mean:
        return "-"
    return short(mean) if sd != sd else f"{mean:.3f} \N{PLUS-MINUS SIGN} {sd:.3f}"
