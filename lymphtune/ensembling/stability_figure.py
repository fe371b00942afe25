"""The stability figure: balanced accuracy and its variance components against ensemble size."""

import textwrap
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lymphtune.console import counted
from lymphtune.ensembling.single_runs import SingleRuns
from lymphtune.statistics.ensemble_sizes import SizeStability

MOST_DOTS = 200  # dots per size, evenly spaced among all samples sorted by score
DPI = 300
INCHES = (6.7, 5.4)  # as wide as the text of a page
MOST_LETTERS = 86  # width of the title in letters
STYLE: Any = {
    "font.size": 9,
    "hatch.linewidth": 0.6,
    "text.parse_math": False,
    "svg.hashsalt": "lymphtune",
    "svg.fonttype": "path",
}
# Okabe and Ito's colours are distinct for colour-blind readers; the hatches are distinct in black and white.
FILLS = {
    "patients": ("#d9d9d9", ""),
    "configuration": ("#e69f00", "//"),
    "seed": ("#56b4e9", ".."),
    "configuration + seed": ("#009e73", "\\\\"),
}
DOT, BASELINE = "#0072b2", "#d55e00"


def save_figure(folder: Path, runs: SingleRuns, found: list[SizeStability]) -> None:
    """Write stability.svg and stability.png; the same numbers give the same bytes."""
    with mpl.rc_context(STYLE):
        figure, title = draw_figure(runs, found), _title(runs)
        figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize=10)
        about = {"Title": title, "Date": None, "Creator": "lymphtune"}
        figure.savefig(folder / "stability.svg", metadata=about)
        figure.savefig(folder / "stability.png", dpi=DPI, metadata={"Title": title, "Software": "lymphtune"})


def draw_figure(runs: SingleRuns, found: list[SizeStability], most_dots: int = MOST_DOTS) -> Figure:
    """Return the figure without title and without pyplot state; lines have the current `text.color` of matplotlib."""
    figure = Figure(figsize=INCHES, layout="constrained")
    scores, variances = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.3])
    places = np.log2([s.size for s in found])
    width = 0.7 * min([*np.diff(places), 0.7])
    _draw_scores(scores, runs, found, places, width, most_dots)
    _draw_shares(variances, runs, found, places, width)
    variances.set_xticks(places, [str(s.size) for s in found])
    variances.set_xlim(places[0] - width, places[-1] + width)
    variances.set_xlabel("single runs averaged")
    for panel in (scores, variances):
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8, markerscale=2)
    return figure


def _title(runs: SingleRuns) -> str:
    n_trials, n_repeats, n_patients = runs.oof_TRP.shape
    lines = [
        f"{runs.run}, cohort {runs.cohort}",
        f"{runs.count} single runs ({counted(n_trials, 'trial')} x {counted(n_repeats, 'seed')}), "
        f"{n_patients} patients scored out-of-fold",
    ]
    return "\n".join(textwrap.fill(line, MOST_LETTERS) for line in lines)


def _draw_scores(
    panel: Axes, runs: SingleRuns, found: list[SizeStability], places: np.ndarray, width: float, most_dots: int
) -> None:
    rng, ink = np.random.default_rng(0), mpl.rcParams["text.color"]
    for number, (s, place) in enumerate(zip(found, places, strict=True)):
        labels = ["draws", "mean", "± 1 sd, new runs", "range of draws"] if number == 0 else ["_"] * 4
        shown = np.sort(s.scores_E)[np.linspace(0, len(s.scores_E) - 1, min(most_dots, len(s.scores_E))).astype(int)]
        jitter = rng.uniform(-0.42 * width, 0.42 * width, len(shown))
        panel.scatter(place + jitter, shown, s=7, color=DOT, alpha=0.3, linewidths=0, label=labels[0], zorder=2)
        band = np.nan_to_num(s.sd_new)
        panel.bar(place, 2 * band, width, s.mean - band, color=DOT, alpha=0.15, linewidth=0, label=labels[2], zorder=1)
        panel.vlines(place, s.quantile(0), s.quantile(1), color=ink, linewidth=0.8, label=labels[3], zorder=3)
        panel.hlines(s.mean, place - width / 2, place + width / 2, color=ink, linewidth=2.5, label=labels[1], zorder=4)
    if runs.baseline:
        title, score = runs.baseline
        panel.axhline(score, color=BASELINE, linestyle="--", linewidth=1.2, label=f"{title} alone", zorder=0)
    panel.set_ylabel("balanced accuracy")


def _draw_shares(panel: Axes, runs: SingleRuns, found: list[SizeStability], places: np.ndarray, width: float) -> None:
    heights, ink = np.zeros(len(found)), mpl.rcParams["text.color"]
    total = np.array([s.variances.total for s in found])
    for part, name in runs.parts.items():
        share = 100 * np.array([getattr(s.variances, name) for s in found]) / np.where(total > 0, total, np.nan)
        colour, hatch = FILLS[part]
        panel.bar(
            places,
            np.nan_to_num(share),
            width,
            heights,
            color=colour,
            hatch=hatch,
            edgecolor=ink,
            linewidth=0.6,
            label=part,
        )
        heights += np.nan_to_num(share)
    for place in places[~(total > 0)]:
        panel.annotate("not\nknown", (place, 50), ha="center", va="center", fontsize=8)
    panel.set_ylim(0, 100)
    panel.set_ylabel("% of variance")
