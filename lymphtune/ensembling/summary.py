"""What `ensemble` prints: the scores in lines of at most 80 columns."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lymphtune.console import column, cut, painted, tabular, width, wrapped
from lymphtune.ensembling.procedure import Procedure
from lymphtune.ensembling.score import BASELINE, ENSEMBLE, SINGLE, Comparison, Entry, Scores
from lymphtune.statistics.bootstrap import Interval
from lymphtune.statistics.honest import Gain

NAMES = {
    "balanced_accuracy": "balanced accuracy",
    "recall": "recall",
    "specificity": "specificity",
    "auc": "AUC",
    "log_loss": "log loss",
    "brier": "Brier score",
    "calibration_error": "calibration err.",
}
SHOWN_TIED = 8


def summary(
    scores: Scores, procedure: Procedure, members: pd.DataFrame, table: pd.DataFrame, attributes: str
) -> list[str]:
    """Return the scores; members: their leaderboard's rows with weights; table: those of all trials that may enter;
    attributes: what clinical models see, in words."""
    lines = [*_members(members), "", *_table(scores, members), ""]
    lines += _gain("minus best baseline", scores.over_baseline) + _gain("minus best trial", scores.over_single)
    if scores.over_baseline["balanced_accuracy"].difference.low <= 0:
        lines += wrapped(f"The ensemble is not shown to beat {attributes} alone.")
    notes = [_tied(scores, table), *_threshold(scores, procedure), *_doubt(scores, procedure)]
    for note in notes:
        lines += wrapped(note)
    return lines + _calibration(scores, procedure)


def summary_values(scores: Scores, members: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any]:
    """Return what `summary` says, for programs."""
    kept = None if scores.kept is None else dict(zip(("balanced_accuracy", "share"), scores.kept, strict=True))
    return {
        "members": members,
        "scores": scores.table(),
        "minus_best_baseline": scores.over_baseline,
        "minus_best_single_trial": scores.over_single,
        "threshold_gain": scores.threshold_gain,
        "calibration_gains": scores.calibration_gains,
        "reliability": scores.reliability,
        "tied_with_best": table["trial"][scores.tied_M[table.index]].tolist(),
        "not_referred": kept,
        "prediction_sets": {"hold_the_true_label": scores.covered, "hold_both": scores.both},
    }


def better_recipes(comparison: Comparison, mine: Entry, entries: dict[str, Entry]) -> list[str]:
    """Return which other recipes have a credibly higher honest balanced accuracy, the surest first."""
    gains = {name: comparison.gain(entry, mine) for name, entry in entries.items()}
    better = sorted((name for name in gains if gains[name].difference.low > 0), key=lambda n: -gains[n].difference.low)
    if not better:
        return []
    others = f" (so are {', '.join(better[1:])})" if better[1:] else ""
    return wrapped(
        f"--recipe {better[0]} is credibly better on these patients{others}: balanced accuracy "
        f"{_change(gains[better[0]])}. Taken because of this line, its own honest score is a little flattered: it does "
        "not know of the choice between recipes."
    )


def recipes_table(opening: str, comparison: Comparison, entries: dict[str, Entry]) -> str:
    """Return one line a recipe: naive and honest balanced accuracy, honest AUC and log loss, difference to `top`."""
    titles, rows = [f"{'recipe':11}", "naive ", "honest (95 %)     ", "AUC  ", "log loss ", "minus top (95 %)"], []
    for name, entry in entries.items():
        honest, apart = entry.honest["balanced_accuracy"], ""
        if name != "top" and "top" in entries:
            gain = comparison.gain(entry, entries["top"]).difference
            apart = f"{_signed(gain.value)} ({_signed(gain.low, 2)} to {_signed(gain.high, 2)})"
        rows.append(
            [
                name,
                _short(entry.naive["balanced_accuracy"]),
                f"{_short(honest.value)} {_bounds(honest)}",
                _short(entry.honest["auc"].value),
                _short(entry.honest["log_loss"].value),
                apart,
            ]
        )
    return "\n".join([opening, *tabular(titles, rows)])


def recipes_rows(comparison: Comparison, entries: dict[str, Entry], reference: str) -> list[dict[str, Any]]:
    """Return one row a recipe, for programs: all metrics, and the difference in balanced accuracy to the reference."""
    rows = []
    for name, entry in entries.items():
        gain = comparison.gain(entry, entries[reference]) if name != reference and reference in entries else None
        rows.append({"recipe": name, "naive": entry.naive, "honest": entry.honest, f"minus_{reference}": gain})
    return rows


def _members(members: pd.DataFrame) -> list[str]:
    wide = column(38)
    lines = [painted(f"{'members':{wide + 7}} weight  naive BA  AUC", "heading")]
    for row in members.itertuples():
        weight = "     -" if pd.isna(row.weight) else f"{row.weight:6.2f}"
        lines.append(
            f"{row.trial[:6]} {cut(row.title, wide):{wide}} {weight}  {row.balanced_accuracy:.3f}     {row.auc:.3f}"
        )
    return lines


def _table(scores: Scores, members: pd.DataFrame) -> list[str]:
    titles = {ENSEMBLE: f"ensemble of {len(members)}", SINGLE: SINGLE, BASELINE: BASELINE}
    beside, lines = max(1, (width() + 1 - 18) // 21), list[str]()
    for start in range(0, len(titles), beside):  # below each other where the terminal is narrow
        lines += _part(scores, dict(list(titles.items())[start : start + beside]))
    return lines


def _part(scores: Scores, titles: dict[str, str]) -> list[str]:
    heading = "".join(f"{title:21}" for title in titles.values()), "naive honest (95 %)  " * len(titles)
    lines = [painted(f"{'':18}{line}".rstrip(), "heading") for line in heading]
    for metric, name in NAMES.items():
        cells = "".join(f"{_cell(scores.entries[title], metric):21}" for title in titles)
        lines.append(f"{name:18}{cells}".rstrip())
    optimism = "".join(f"{_signed(scores.entries[title].optimism):21}" for title in titles)
    return [*lines, f"{'optimism (BA)':18}{optimism}".rstrip()]


def _cell(entry: Entry, metric: str) -> str:
    honest = entry.honest[metric]
    return f"{_short(entry.naive[metric])}  {_short(honest.value)} {_bounds(honest)}"


def _bounds(interval: Interval) -> str:
    return f"({_short(interval.low, 2)}-{_short(interval.high, 2)})"


def _short(value: float, digits: int = 3) -> str:
    """Return a number below 1 without its 0, in as many columns as `digits` and a point."""
    text = f"{value:.{digits}f}"
    return text[1:] if text.startswith("0.") else text[: digits + 1]


def _signed(value: float, digits: int = 3) -> str:
    return ("-" if value < 0 else "+") + _short(abs(value), digits)


def _gain(title: str, gains: dict[str, Gain]) -> list[str]:
    lines = []
    for metric, gain in gains.items():
        bounds = f"({_signed(gain.difference.low, 2)} to {_signed(gain.difference.high, 2)})"
        lines.append(
            f"{title:19} {NAMES[metric]:17} {_signed(gain.difference.value)} {bounds}, "
            f"better: {100 * gain.better:.0f} %"
        )
        title = ""
    return lines


def _threshold(scores: Scores, procedure: Procedure) -> list[str]:
    if scores.threshold_gain is None:
        return []
    gain = scores.threshold_gain
    return [f"threshold {procedure.threshold.text} against 0.5, honest balanced accuracy: {_change(gain)}"]


def _calibration(scores: Scores, procedure: Procedure) -> list[str]:
    if procedure.calibration is None:
        return []
    lines = [f"calibration {procedure.calibration.word}, honest changes:"]
    lines += [f"  {NAMES[metric]:18} {_change(gain)}" for metric, gain in scores.calibration_gains.items()]
    lines.append(f"  {'':12} {'before':22} after")
    before, after = (scores.reliability[scores.reliability["stage"] == stage] for stage in ("before", "after"))
    lines.append(f"  {'said':5} {'true':5} {'patients':9} {'said':5} {'true':5} patients")
    for mine, calibrated in _side_by_side(_bins(before), _bins(after)):
        lines.append(f"  {mine:22} {calibrated}".rstrip())
    return lines


def _bins(table: pd.DataFrame) -> list[str]:
    return [f"{_short(row.said)}  {_short(row.true)}  {row.patients:5.1f}" for row in table.itertuples()]


def _side_by_side(one: Sequence[str], other: Sequence[str]) -> list[tuple[str, str]]:
    longest = max(len(one), len(other))
    padded = ([*some, *[""] * (longest - len(some))] for some in (one, other))
    return list(zip(*padded, strict=True))


def _change(gain: Gain) -> str:
    return f"{_signed(gain.difference.value)} ({_signed(gain.difference.low)} to {_signed(gain.difference.high)})"


def _doubt(scores: Scores, procedure: Procedure) -> list[str]:
    """Return what prediction sets and referring are worth."""
    notes = [
        f"prediction sets at error rate {procedure.error_rate:g}: {100 * scores.covered.value:.0f} % hold the true "
        f"label {_bounds(scores.covered)}, {100 * scores.both.value:.0f} % hold both"
    ]
    if scores.kept is not None:
        kept, share = scores.kept
        worth = f"{_short(kept.value)} {_bounds(kept)}" if kept.value == kept.value else "unknown, a class is all gone"
        notes.append(
            f"referring the most doubtful {100 * (1 - share):.0f} %: honest balanced accuracy of the others {worth}"
        )
    return notes


def _tied(scores: Scores, table: pd.DataFrame) -> str:
    """Return which trials cannot be told from the best one; table: those that may enter."""
    there = table[scores.tied_M[table.index]]
    some = ", ".join(trial[:6] for trial in there["trial"].head(SHOWN_TIED))
    more = ", ..." if len(there) > SHOWN_TIED else ""
    return f"cannot be told from the best trial: {len(there)} of {len(table)} ({some}{more})"
