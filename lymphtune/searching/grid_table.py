"""A grid's points as a table: mean and spread over seeds beside the published figures.

Shapes: R repeats, S resamples, P patients judged.
"""

import textwrap

import numpy as np

from lymphtune.console import column, counted, cut, painted, width
from lymphtune.runs.run import read_table
from lymphtune.searching.board import Board
from lymphtune.searching.record import Record
from lymphtune.spaces import Published
from lymphtune.statistics.bootstrap import RESAMPLES, percentile_interval, resample
from lymphtune.statistics.metrics import METRICS, balanced_accuracy

NAME = 20  # columns of a row's name
SCORES = 39  # columns of a row's own figures


def table_text(board: Board) -> str:
    """Return the rows that the space names, in its order, as lines of at most 80 columns."""
    folds_RP = board.plan.folds_RP
    n_scored = int((folds_RP[0] >= 0).sum())
    way = "one hold-out" if board.plan.n_folds == 1 else f"{board.plan.n_folds} folds"
    wide = column(NAME)
    lines = [
        f"Balanced accuracy, {way}, {n_scored} patients judged: mean and sd of {counted(len(folds_RP), 'seed')},",
        "95 % over patients; avg.: of the mean of the seeds' probabilities.",
        f"{'':{wide + SCORES}}published",
        painted(f"{'':{wide}}{'mean':5} {'sd':5} {'95 %':9} avg.  rec. {'AUC':5} BA   rec. AUC  kaggle", "heading"),
    ]
    records = [board.records[trial.number] for trial in board.plan.trials]
    for row, record in zip(board.plan.space.rows, records, strict=False):
        lines.append(f"{cut(row.name, wide - 1):{wide}}{_scores(board, record):{SCORES}}{_published(row.published)}")
    if any(record.row.get("best_epoch_picked") for record in records):
        lines.append("* at the epoch that scored best on these same patients: flattered")
    return "\n".join([*lines, *textwrap.wrap(board.plan.space.note, width())])


def _scores(board: Board, record: Record) -> str:
    if record.row.get("status") != "done":
        status = "cut short" if board.halt and record.status == "running" else record.status
        return f"{status} after {record.epochs} of {counted(record.trial.epochs, 'epoch')}"
    probabilities_RP, labels_P = _scored(board, record)
    score_R = balanced_accuracy(probabilities_RP, labels_P)
    counts_SP = resample(labels_P, RESAMPLES, seed=0)
    resampled_S = balanced_accuracy(probabilities_RP[:, None], labels_P, counts_SP).mean(axis=0)
    bounds = percentile_interval(float(score_R.mean()), resampled_S)
    sd = f"{score_R.std(ddof=1):.3f}" if len(score_R) > 1 else "-"
    averaged = balanced_accuracy(probabilities_RP.mean(axis=0), labels_P)
    recall, auc = (METRICS[name](probabilities_RP, labels_P).mean() for name in ("recall", "auc"))
    mark = "*" if record.row["best_epoch_picked"] else " "
    return f"{bounds.value:.3f}{mark}{sd:5} {bounds.low:.2f}-{bounds.high:.2f} {averaged:.3f} {recall:.2f} {auc:.3f}"


def _published(given: Published | None) -> str:
    """Return the published figures in the heading's columns; a dash where a figure was not published."""
    figures = (given or Published()).model_dump().values()
    return " ".join(f"{_fraction(value):4}" for value in figures).rstrip()


def _fraction(value: float | None) -> str:
    """Return a fraction without the zero before its point (.842), in at most five columns."""
    return "-" if value is None else f"{value:.3f}".removeprefix("0")


def _scored(board: Board, record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Return the trial's out-of-fold probabilities [R, P] as they are scored, and the labels of those judged."""
    path = board.run.trial(record.trial.hash) / "oof.parquet"
    oof = read_table(path, [("epoch", "==", record.row["epoch"])])
    probability = oof.pivot(index="repeat", columns="patient", values="probability")
    labels = oof.drop_duplicates("patient").set_index("patient")["label"]
    return probability.to_numpy(), labels[probability.columns].to_numpy()
