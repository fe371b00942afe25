"""Figures of a search: importances, marginal effects, parallel coordinates, rungs and the best loss so far.

Shapes: N compared trials, C choices, G values or bins of a choice.
"""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from lymphtune.reporting.drawing import BASELINE, ENSEMBLE, INK, LINE, PALE, canvas
from lymphtune.reporting.parts import Drawing
from lymphtune.reporting.search_results import SearchResults, shown_value
from lymphtune.statistics.importance import Choice, Importance, Marginal
from lymphtune.statistics.words import percent

BARS, PANELS, AXES = 12, 6, 8
GREY = "#8c8c8c"
BY_RANK = LinearSegmentedColormap.from_list("rank", [ENSEMBLE, GREY, BASELINE])
ROOM = 34  # characters for all labels below a panel
NARROW = 11  # characters that fit above a parallel axis
ABSENT_AT = -0.14
WIDE = 4  # ratio of the highest to the lowest loss, above which the axis is logarithmic
LABEL = {"facecolor": PALE, "edgecolor": "none", "alpha": 0.8, "pad": 0.8}


def importance_bars(searched: SearchResults, found: Importance) -> Drawing:
    """Return one bar per choice with its interval, and the importance that chance gives."""
    choices = _choices(searched)
    order = found.order[:BARS]
    figure = canvas(0.9 + 0.24 * len(order))
    axes = figure.add_subplot()
    for row, c in enumerate(order):
        share, clear = found.shares[c], found.stands_out(c)
        axes.barh(row, share.value, 0.62, color=ENSEMBLE if clear else PALE, edgecolor=ENSEMBLE if clear else GREY)
        axes.plot([share.low, share.high], [row, row], color=INK, linewidth=1.2, marker="|", markersize=6)
    axes.axvline(found.chance, color=BASELINE, linestyle=":", linewidth=1.4, label="by chance")
    axes.set_yticks(range(len(order)), [choices[c].name for c in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.set_xlabel("fraction of the variance of the log loss that the forest predicts")
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.legend(loc="lower right")
    text = "; ".join(f"{choices[c].name} {_share(found, c)}" for c in order)
    return Drawing(
        "search-importance",
        "How much each choice accounts for",
        f"Functional analysis of variance (Hutter, Hoos and Leyton-Brown 2014) of a random forest grown on "
        f"{len(searched.compared)} trials, integrated over the space: the fraction due to each choice alone; "
        "the rest are joint effects. A choice that exists in one branch only counts for its effect there. Lines: 5 to "
        "95 % over 20 resamples of the trials. Dotted: the 95th percentile of the importance of random numbers; filled "
        "bars are above it with their whole interval.",
        f"Fractions with 90 % intervals: {text}. By chance up to {percent(found.chance)}. Out-of-bag R squared of the "
        f"forest {found.explained:.2f}.",
        figure,
    )


def marginal_panels(searched: SearchResults, found: Importance) -> Drawing:
    """Return the forest's expectation at each value of the most important choices, with the trials."""
    order = [c for c in found.order if len(found.marginals[c].at_G) > 1][:PANELS]
    columns = min(3, len(order))
    figure = canvas(0.5 + 2.0 * -(-len(order) // columns))
    low, high = np.quantile(searched.losses_N, [0, 1])
    room = 0.06 * (high - low)
    first: Axes | None = None
    for place, c in enumerate(order, start=1):
        axes = figure.add_subplot(-(-len(order) // columns), columns, place, sharey=first)
        first = first or axes
        _panel(axes, searched, found.marginals[c], c)
        axes.set_ylim(low - room, high + room)
        axes.set_ylabel("log loss" if place % columns == 1 or columns == 1 else "")
        axes.tick_params(labelleft=place % columns == 1 or columns == 1)
    text = "; ".join(_marginal_text(searched, c, found.marginals[c]) for c in order)
    far = int((searched.compared["score"] > searched.losses_N + 1e-12).sum())
    return Drawing(
        "search-marginals",
        "Effect of each choice",
        f"Line or bars: class-balanced log loss at epoch {searched.epoch} that the forest expects at each value, the "
        "other choices distributed as in the space; band: 5 to 95 % over 20 resamples of the trials. Dots: the trials. "
        "The same patients ranked the trials: a lower value here is a hint for the next search, not a score."
        + (f" {far} trials with far higher losses are clipped." if far else ""),
        f"Expected log loss by value: {text}.",
        figure,
    )


def _panel(axes: Axes, searched: SearchResults, of: Marginal, c: int) -> None:
    choice, values_N = _choices(searched)[c], searched.points.values_NC[:, c]
    if choice.labels:
        at_G = np.arange(len(of.at_G))
        place = {int(label): at for at, label in zip(at_G, of.at_G, strict=True)}
        known_N = np.array([value == value and int(value) in place for value in values_N])
        spread_N = np.random.default_rng(0).uniform(-0.28, 0.28, len(values_N))
        x_N = np.array([place[int(value)] for value in values_N[known_N]]) + spread_N[known_N]
        axes.bar(at_G, of.high_G - of.low_G, 0.8, bottom=of.low_G, color=ENSEMBLE, alpha=0.25, edgecolor="none")
        axes.hlines(of.mean_G, at_G - 0.4, at_G + 0.4, color=ENSEMBLE, linewidth=1.8)
        room = ROOM // len(at_G)
        names = [_wrapped(choice.labels[int(label)], room) for label in of.at_G]
        tilted = max(len(line) for name in names for line in name.split("\n")) > room
        if tilted:
            names = [choice.labels[int(label)] for label in of.at_G]
        axes.set_xticks(at_G, names, rotation=35 if tilted else 0, ha="right" if tilted else "center", fontsize=6.5)
        axes.set_xlim(-0.6, len(at_G) - 0.4)
    else:
        known_N = ~np.isnan(values_N)
        x_N = values_N[known_N]
        axes.fill_between(of.at_G, of.low_G, of.high_G, color=ENSEMBLE, alpha=0.25, linewidth=0)
        axes.plot(of.at_G, of.mean_G, color=ENSEMBLE, linewidth=1.8)
        if choice.log:
            axes.set_xscale("log")
        axes.tick_params(axis="x", which="both", labelsize=7)
        if choice.log:
            _log_ticks(axes.xaxis, float(x_N.min()), float(x_N.max()))
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.plot(x_N, searched.losses_N[known_N], "o", color=INK, alpha=0.45, markersize=2.4, markeredgewidth=0)
    axes.set_title(choice.name)
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def _log_ticks(axis: Axis, low: float, high: float) -> None:
    """Set plain numbers as ticks of a logarithmic axis: decades, or both ends and the middle for few decades."""
    decades = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    ticks = [10.0**decade for decade in decades]
    if len(ticks) < 3:
        ticks = [low, math.sqrt(low * high), high]
    axis.set_ticks(ticks, [f"{tick:.2g}" for tick in ticks])
    axis.set_ticks([], minor=True)


def parallel(searched: SearchResults, found: Importance) -> Drawing:
    """Return parallel coordinates: one line per trial through its choices to its loss, the best in front."""
    order = found.order[:AXES]
    rank_N = searched.losses_N.argsort(kind="stable").argsort()
    height_NA = np.column_stack(
        [*(_heights(searched, c, rank_N) for c in order), _scaled(searched.losses_N, flipped=True)]
    )
    figure = canvas(3.9)
    axes = figure.add_subplot()
    last, thin = max(len(rank_N) - 1, 1), min(1.0, max(0.4, 50 / len(rank_N)))
    for n in np.argsort(-rank_N):
        share = rank_N[n] / last
        width, front = (1.6 - 1.1 * share) * thin, 0.85 - 0.45 * share
        axes.plot(height_NA[n], color=BY_RANK(share), linewidth=width, alpha=front, solid_joinstyle="round")
    best = height_NA[rank_N.argmin()]
    axes.plot(best, "o", color=ENSEMBLE, markersize=4.5, markeredgecolor=INK, markeredgewidth=0.6)
    for place, c in enumerate(order):
        _parallel_axis(axes, place, *_ticks(searched, c))
    low, high = searched.losses_N.min(), searched.losses_N.max()
    ends = [(1.0, f"{low:.3f}"), (0.5, f"{(low + high) / 2:.3f}"), (0.0, f"{high:.3f}")]
    _parallel_axis(axes, len(order), *zip(*ends, strict=True))
    names = [_wrapped(_choices(searched)[c].name, NARROW) for c in order]
    axes.set_xticks(range(len(order) + 1), [*names, "log loss"], fontsize=7)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_yticks([])
    axes.set_xlim(-0.15, len(order) + 0.5)
    axes.set_ylim(ABSENT_AT - 0.08, 1.06)
    for spine in axes.spines.values():
        spine.set_visible(False)
    text = ", ".join(f"{_choices(searched)[c].name} {_chosen(searched, c, int(rank_N.argmin()))}" for c in order)
    return Drawing(
        "search-parallel",
        "All trials and their choices",
        f"One line per trial, {len(rank_N)} in all: thick and blue the best, thin and orange the worst, by rank of the "
        f"log loss at epoch {searched.epoch}; the best one has dots. Absent: trials without that choice. "
        "Lines of the same value are spread by rank.",
        f"{len(rank_N)} trials; the best, with a log loss of {low:.3f}, has {text}. The worst has {high:.3f}.",
        figure,
    )


def _heights(searched: SearchResults, c: int, rank_N: np.ndarray) -> np.ndarray:
    """Return each trial's height on a choice's axis; categories in even steps, trials within them spread by rank."""
    choice, value_N = _choices(searched)[c], searched.points.values_NC[:, c]
    if not choice.labels:
        height_N = _scaled(np.log(value_N) if choice.log else value_N)
        return np.where(np.isnan(height_N), ABSENT_AT, height_N)
    step = 1 / max(len(choice.labels), 1)
    apart_N = 0.5 - rank_N / max(len(rank_N) - 1, 1)
    return np.where(np.isnan(value_N), ABSENT_AT, (value_N + 0.5) * step) + apart_N * np.minimum(step * 0.5, 0.08)


def _scaled(value_N: np.ndarray, flipped: bool = False) -> np.ndarray:
    """Return the values scaled to 0 to 1; NaN stays NaN."""
    if np.isnan(value_N).all():
        return value_N
    low, high = np.nanmin(value_N), np.nanmax(value_N)
    share_N = (value_N - low) / (high - low) if high > low else np.where(np.isnan(value_N), np.nan, 0.5)
    return 1 - share_N if flipped else share_N


def _ticks(searched: SearchResults, c: int) -> tuple[Sequence[float], Sequence[str]]:
    choice, value_N = _choices(searched)[c], searched.points.values_NC[:, c]
    if choice.labels:
        step = 1 / len(choice.labels)
        at, names = [(label + 0.5) * step for label in range(len(choice.labels))], list(choice.labels)
    elif np.isnan(value_N).all():
        at, names = [], []
    else:
        low, high = float(np.nanmin(value_N)), float(np.nanmax(value_N))
        middle = (low * high) ** 0.5 if choice.log else (low + high) / 2
        at, names = [0.0, 0.5, 1.0], [f"{value:.2g}" for value in (low, middle, high)]
    if np.isnan(value_N).any():
        at, names = [ABSENT_AT, *at], ["absent", *names]
    return at, names


def _parallel_axis(axes: Axes, place: int, at: Sequence[float], names: Sequence[str]) -> None:
    axes.vlines(place, ABSENT_AT if min(at, default=0) < 0 else 0, 1, color=INK, linewidth=0.8, zorder=3)
    for height, name in zip(at, names, strict=True):
        axes.text(
            place + 0.05,
            height,
            _wrapped(name, NARROW),
            fontsize=6.5,
            va="center",
            bbox=LABEL,
            zorder=4,
            linespacing=0.95,
        )


def rung_strips(searched: SearchResults) -> Drawing:
    """Return the scores at each rung, of trials that continued and of trials that were stopped."""
    rungs = searched.rungs
    position_of = {trial: n / max(len(searched.ended) - 1, 1) - 0.5 for n, trial in enumerate(searched.ended["trial"])}
    figure = canvas(2.8)
    axes = figure.add_subplot()
    for place, rung in enumerate(rungs):
        for stopped, style in ((True, ("x", BASELINE, "stopped")), (False, ("o", ENSEMBLE, "continued"))):
            scores = rung.scores[rung.stopped == stopped]
            x = [place + 0.84 * position_of[trial] for trial in scores.index]
            marker, colour, label = style
            axes.plot(
                x,
                scores,
                marker,
                color=colour,
                alpha=0.75,
                markersize=4.5,
                linestyle="none",
                label=label if place == 0 else None,
            )
    counts = [(len(rung.scores), int(rung.stopped.sum())) for rung in rungs]
    names = [f"epoch {rung.epoch}\n{n} reached, {out} stopped" for rung, (n, out) in zip(rungs, counts, strict=True)]
    axes.set_xticks(range(len(rungs)), names)
    axes.set_xlim(-0.6, len(rungs) - 0.4)
    axes.set_ylabel("log loss, mean of 3 epochs")
    axes.grid(axis="y")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4)
    text = "; ".join(
        f"epoch {rung.epoch}: {n} trials between {rung.scores.min():.3f} and {rung.scores.max():.3f}, {out} stopped"
        for rung, (n, out) in zip(rungs, counts, strict=True)
    )
    return Drawing(
        "search-rungs",
        "Which trials were stopped, and where",
        "Class-balanced out-of-fold log loss of each trial at the epochs where it could be stopped: the mean over the "
        "last three epochs. At each epoch trials are ordered by number from left to right. Each is compared with those "
        "before it only, so that an early trial may continue with a score that stops a later one.",
        f"Scores at the rungs: {text}.",
        figure,
    )


def best_so_far(searched: SearchResults) -> Drawing:
    """Return the lowest log loss up to each trial, with all trials."""
    table = searched.ended
    best = table["log_loss"].cummin()
    figure = canvas(2.6)
    axes = figure.add_subplot()
    for status, marker, colour in (("stopped", "x", BASELINE), ("done", "o", ENSEMBLE)):
        of = table[table["status"] == status]
        axes.plot(
            of["number"],
            of["log_loss"],
            marker,
            color=colour,
            alpha=0.75,
            markersize=4.5,
            linestyle="none",
            label=f"{status}, at its last epoch" if status == "stopped" else status,
        )
    axes.step(table["number"], best, where="post", color=INK, linewidth=1.4, label="lowest so far")
    baselines = searched.facts.leaderboard[searched.facts.leaderboard["kind"] == "clinical"]["log_loss"]
    if len(baselines):
        axes.axhline(baselines.min(), color=GREY, linestyle="--", linewidth=1.2, label="best clinical model")
    low, high = float(table["log_loss"].min()), float(table["log_loss"].max())
    if low > 0 and high / low > WIDE:
        axes.set_yscale("log")
        _log_ticks(axes.yaxis, low, high)
    axes.set_xlabel("trial's number")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("log loss")
    axes.grid(axis="y", color=LINE)
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4)
    at = int(table["number"][table["log_loss"].argmin()])
    return Drawing(
        "search-best",
        "The best so far",
        "Class-balanced out-of-fold log loss of each trial, by number. The line, the lowest of many, is optimistic: it "
        "falls with more trials even where none is better. The verdict is corrected for that.",
        f"{len(table)} trials; the lowest log loss, {best.iloc[-1]:.3f}, is of number {at}; after half of the trials "
        f"it was {best.iloc[(len(best) - 1) // 2]:.3f}.",
        figure,
    )


def _choices(searched: SearchResults) -> Sequence[Choice]:
    assert searched.choices is not None
    return searched.choices.choices


def _share(found: Importance, c: int) -> str:
    share = found.shares[c]
    return f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})"


def _marginal_text(searched: SearchResults, c: int, of: Marginal) -> str:
    ends = range(len(of.at_G)) if _choices(searched)[c].labels else (0, len(of.at_G) - 1)
    values = ", ".join(f"{shown_value(searched, c, of.at_G[g])}: {of.mean_G[g]:.3f}" for g in ends)
    return f"{_choices(searched)[c].name} {values}"


def _chosen(searched: SearchResults, c: int, trial: int) -> str:
    value = searched.points.values_NC[trial, c]
    return "absent" if value != value else shown_value(searched, c, value)


def _wrapped(text: str, width: int) -> str:
    """Return the text with line breaks after spaces, dots and underscores where it is too long for one line."""
    lines = [""]
    for piece in text.replace("_", "_\0").replace(".", ".\0").replace(" ", " \0").split("\0"):
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)
