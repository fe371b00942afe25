"""All trials with interval, probability of being the best and status; a click shows configuration and curves."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lymphtune.reporting.facts import Facts
from lymphtune.reporting.parts import Block, Note, Section, Table
from lymphtune.statistics.words import percent, short

COLUMNS = {
    "#": True,
    "Trial": False,
    "Model": False,
    "BA (95 %)": True,
    "AUC": True,
    "Log loss": True,
    "P(best)": True,
    "Epochs": True,
    "Seconds": True,
    "Outcome": False,
}
CURVES = ("train_loss", "log_loss", "balanced_accuracy", "auc")
DIGITS = 4


class Cell(NamedTuple):
    """The text of a cell, the value that sorts its column, and whether it is a number or expands the trial."""

    text: str
    value: float | str
    number: bool = False
    expands: bool = False


def section(facts: Facts) -> Section:
    """Return the leaderboard."""
    table = _table(facts)
    counts = facts.leaderboard[~facts.leaderboard["baseline"]]["status"].value_counts()
    statuses = ", ".join(f"{n} {status}" for status, n in counts.items())
    lead = (
        f"{len(table)} trials, {int(table['baseline'].sum())} of them clinical baselines; of the others "
        f"{statuses or 'none has ended'}. {int(table['tied'].sum())} are not distinguishable from the best."
    )
    block = Block(
        "leaderboard.html",
        {
            "columns": {name: {"number": number} for name, number in COLUMNS.items()},
            "rows": _rows(table),
            "statuses": sorted(table["status"].unique()),
            "kinds": sorted(table["sees"].unique()),
            "caption": "Out-of-fold scores of each trial; shaded trials are not distinguishable from the best. "
            "A click on a trial shows its configuration and curves.",
        },
        {"trials": {str(trial): _details(facts, str(trial)) for trial in table["trial"]}},
    )
    notes = [
        Note("The same patients determine order and scores: the first rows are optimistic. The verdict corrects that.")
    ]
    if table["best_epoch_picked"].any():
        notes.append(
            Note("* score at the epoch that is best on these same patients, which makes it more optimistic", True)
        )
    return Section("leaderboard", "Leaderboard", lead, [block, *notes, _exact(table)])


def _table(facts: Facts) -> pd.DataFrame:
    """Return the leaderboard with rank, probability of being the best, and whether a trial is tied with the best."""
    table = facts.leaderboard.reset_index(drop=True)
    known = facts.candidates.table
    p_best = dict(zip(known["trial"], facts.p_best_M, strict=True))
    tied = set(known["trial"][facts.scores.tied_M])
    table["rank"] = np.arange(1, len(table) + 1)
    table["p_best"] = table["trial"].map(p_best)
    return table.assign(tied=table["trial"].isin(tied))


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"trial": row.trial, "status": row.status, "kind": row.sees, "tied": bool(row.tied), "cells": _cells(row)}
        for row in table.itertuples()
    ]


def _cells(row: Any) -> list[Cell]:
    scored = row.balanced_accuracy == row.balanced_accuracy
    bounds = f"{row.balanced_accuracy:.3f} ({row.balanced_accuracy_low:.2f}-{row.balanced_accuracy_high:.2f})"
    mark = "*" if row.best_epoch_picked else ""
    status = f"{row.status}: {row.reason}" if row.reason else row.status
    baseline = " (baseline)" if row.baseline else ""
    chance = percent(row.p_best) if row.p_best == row.p_best else ""
    return [
        Cell(str(row.rank), row.rank, True),
        Cell(row.trial[:6], row.trial, expands=True),
        Cell(row.title + baseline, row.title),
        Cell(bounds if scored else "", _value(row.balanced_accuracy), True),
        Cell(short(row.auc), _value(row.auc), True),
        Cell(short(row.log_loss), _value(row.log_loss), True),
        Cell(chance, _value(row.p_best), True),
        Cell(f"{row.epochs}{mark}", row.epochs, True),
        Cell(f"{row.seconds:.0f}", row.seconds, True),
        Cell(status, status),
    ]


def _value(number: float) -> float | str:
    """Return the value that sorts a column; "" comes last."""
    return "" if number != number else float(number)


def _details(facts: Facts, trial: str) -> dict[str, Any]:
    """Return a trial's configuration and curves, without those that are damaged."""
    curves = facts.curves(trial)
    try:
        text = (facts.run.trial(trial) / "config.yaml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        curves = None
    if curves is None:
        return {"configuration": "not readable", "curves": {}}
    names = [name for name in CURVES if name in curves]
    return {
        "configuration": text.partition("\nconfiguration:\n")[2],
        "curves": {name: [_rounded(value) for value in curves[name]] for name in names},
    }


def _rounded(value: float) -> float | None:
    return None if value != value else round(float(value), DIGITS)


def _exact(table: pd.DataFrame) -> Table:
    names = [
        "trial",
        "title",
        "status",
        "balanced_accuracy",
        "balanced_accuracy_low",
        "balanced_accuracy_high",
        "auc",
        "log_loss",
        "p_best",
        "tied",
        "epochs",
        "seconds",
        "reason",
    ]
    best = table.head(10)
    shown = pd.DataFrame(
        {
            "trial": best["trial"].str[:6],
            "model": best["title"],
            "balanced accuracy": best["balanced_accuracy"],
            "AUC": best["auc"],
            "log loss": best["log_loss"],
            "epochs": best["epochs"],
        }
    )
    caption = "The first ten by log loss; leaderboard.csv has all of them with their intervals."
    return Table("leaderboard-table-10", "The first ten", caption, table[names], shown)
