"""The summary that `ensemble` prints: the scores in lines of at most 80 columns."""

import itertools
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
    """Format the scores as lines.

    members: the members' leaderboard rows with weights. table: leaderboard rows of all candidate trials. attributes:
    text that names the inputs of clinical models.
    """
    lines = [*_members(members), "", *_table(scores, members), ""]
    lines += _gain("minus best baseline", scores.over_baseline) + _gain("minus best trial", scores.over_single)
    if scores.over_baseline["balanced_accuracy"].difference.low <= 0:
        lines += wrapped(f"The ensemble is not significantly better than {attributes} alone.")
    notes = [_tied(scores, table), *_threshold(scores, procedure), *_uncertainty(scores, procedure)]
    for note in notes:
        lines += wrapped(note)
    return lines + _calibration(scores, procedure)


def summary_values(scores: Scores, members: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any]:
    """Return the content of `summary` as values, for programs."""
    kept = None
    if scores.not_referred is not None:
        kept = dict(zip(("balanced_accuracy", "share"), scores.not_referred, strict=True))
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
    """Return a note on other recipes with a significantly higher honest balanced accuracy, the clearest first."""
    gains = {name: comparison.gain(entry, mine) for name, entry in entries.items()}
    better = sorted((name for name in gains if gains[name].difference.low > 0), key=lambda n: -gains[n].difference.low)
    if not better:
        return []
    others = f" (so are {', '.join(better[1:])})" if better[1:] else ""
    return wrapped(
        f"--recipe {better[0]} is significantly better on these patients{others}: balanced accuracy "
        f"{_change(gains[better[0]])}. If it is selected for this reason, its honest score is slightly optimistic, "
        "because it does not include the selection of the recipe."
    )


def recipes_table(opening: str, comparison: Comparison, entries: dict[str, Entry]) -> str:
    """Format one line per recipe: naive and honest balanced accuracy, honest AUC and log loss, difference to `top`."""
    titles, rows = [f"{'recipe':11}", "naive ", "honest (95 %)     ", "AUC  ", "log loss ", "minus top (95 %)"], []
    for name, entry in entries.items():
        honest, difference = entry.honest["balanced_accuracy"], ""
        if name != "top" and "top" in entries:
            gain = comparison.gain(entry, entries["top"]).difference
            difference = f"{_signed(gain.value)} ({_signed(gain.low, 2)} to {_signed(gain.high, 2)})"
        rows.append(
            [
                name,
                _short(entry.naive["balanced_accuracy"]),
                f"{_short(honest.value)} {_bounds(honest)}",
                _short(entry.honest["auc"].value),
                _short(entry.honest["log_loss"].value),
                difference,
            ]
        )
    return "\n".join([opening, *tabular(titles, rows)])


def recipes_rows(comparison: Comparison, entries: dict[str, Entry], reference: str) -> list[dict[str, Any]]:
    """Return one row per recipe, for programs: all metrics, and the difference in balanced accuracy to `reference`."""
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
    for start in range(0, len(titles), beside):  # in several tables on a narrow terminal
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
    """Format a number in `digits` + 1 columns, without the zero before the point."""
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
    for uncalibrated, calibrated in itertools.zip_longest(_bins(before), _bins(after), fillvalue=""):
        lines.append(f"  {uncalibrated:22} {calibrated}".rstrip())
    return lines


def _bins(table: pd.DataFrame) -> list[str]:
    return [f"{_short(row.said)}  {_short(row.true)}  {row.patients:5.1f}" for row in table.itertuples()]


def _change(gain: Gain) -> str:
    return f"{_signed(gain.difference.value)} ({_signed(gain.difference.low)} to {_signed(gain.difference.high)})"


def _uncertainty(scores: Scores, procedure: Procedure) -> list[str]:
    """Return notes on the prediction sets and the referral."""
    notes = [
        f"prediction sets at error rate {procedure.error_rate:g}: {100 * scores.covered.value:.0f} % hold the true "
        f"label {_bounds(scores.covered)}, {100 * scores.both.value:.0f} % hold both"
    ]
    if scores.not_referred is not None:
        kept, share = scores.not_referred
        text = f"{_short(kept.value)} {_bounds(kept)}" if kept.value == kept.value else "unknown, a class is all gone"
        notes.append(
            f"referring the least certain {100 * (1 - share):.0f} %: honest balanced accuracy of the others {text}"
        )
    return notes


def _tied(scores: Scores, table: pd.DataFrame) -> str:
    """Return a note on the trials that are tied with the best one; table: all candidate trials."""
    tied = table[scores.tied_M[table.index]]
    some = ", ".join(trial[:6] for trial in tied["trial"].head(SHOWN_TIED))
    more = ", ..." if len(tied) > SHOWN_TIED else ""
    return f"not significantly worse than the best trial: {len(tied)} of {len(table)} ({some}{more})"
