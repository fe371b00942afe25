"""What a person sees of a search: a live table on a terminal, a line a trial elsewhere, and the closing leaderboard."""

import sys
import time
from typing import Any

import pandas as pd

from lymphtune import console
from lymphtune.errors import shortened
from lymphtune.searching.board import Board

LINES_EVERY_S = 30.0
DRAWN_EVERY_S = 0.5
SHOWN = 10  # rows of the closing leaderboard
BASELINE = " (baseline)"
RUNNING_SHOWN = 20  # rows of the live table


class Display:
    """Call it with the board whenever something may have happened."""

    def __init__(self, shown: int = 0) -> None:
        self.shown = shown  # of the settled trials
        self.last_line, self.redrawn_s = time.monotonic(), -DRAWN_EVERY_S
        self.live: Any = None

    def __call__(self, board: Board) -> None:
        if sys.stderr.isatty():
            self._draw(board)
            return
        for record in board.table.settled[self.shown :]:
            self.shown += 1
            console.say(_ended(record.row, self.shown, board.plan.count + len(board.plan.baselines)))
            self.last_line = time.monotonic()
        if time.monotonic() - self.last_line > LINES_EVERY_S:
            self.last_line = time.monotonic()
            running = [r for r in board.records.values() if r.status == "running"]
            now = ", ".join(f"{r.trial.hash[:6]} epoch {len(r.curves)}/{r.trial.epochs}" for r in running)
            console.say(f"  running: {now or 'first epochs'}; {_progress(board)}")

    def close(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None

    def _draw(self, board: Board) -> None:
        if time.monotonic() - self.redrawn_s < DRAWN_EVERY_S:
            return
        self.redrawn_s = time.monotonic()
        from rich.console import Console
        from rich.live import Live

        if self.live is None:
            self.live = Live(console=Console(stderr=True), refresh_per_second=2, transient=True)
            self.live.start()
        self.live.update(_table(board))


def _table(board: Board) -> Any:
    from rich.table import Table

    table = Table(title=f"{board.run.name}: {_progress(board)}", title_justify="left", expand=False)
    for column in ("trial", "model", "epoch", "BA", "log loss"):
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    running = [record for record in board.records.values() if record.status == "running"]
    for record in running[:RUNNING_SHOWN]:
        last = record.curves[-1]
        epoch = f"{len(record.curves)}/{record.trial.epochs}"
        scores = (f"{last['balanced_accuracy']:.3f}", f"{last['log_loss']:.3f}")
        table.add_row(record.trial.hash[:6], record.trial.configuration.title, epoch, *scores)
    if len(running) > RUNNING_SHOWN:
        table.add_row("...", f"and {len(running) - RUNNING_SHOWN} more")
    if best := board.table.best:
        table.caption = f"best so far: {best['trial'][:6]} {best['title']}, BA {_bounded(best)}"
    return table


def _progress(board: Board) -> str:
    share, left = board.progress()
    return f"{int(100 * share)} % done" + (f", {left}" if left else "")


def _ended(row: dict[str, Any], done: int, total: int) -> str:
    epochs = console.counted(row["epochs"], "epoch")
    start = f"[{done:3}/{total}] {row['trial'][:6]} {row['title']}: {row['status']} after {epochs}"
    if pd.isna(row["balanced_accuracy"]):
        return f"{start} ({row['reason']})"
    failed = f" ({row['reason']})" if row["status"] == "failed" else ""
    return f"{start}{failed}, BA {_bounded(row)}, log loss {row['log_loss']:.3f}, {console.duration(row['seconds'])}"


def _bounded(row: dict[str, Any]) -> str:
    return f"{row['balanced_accuracy']:.3f} ({row['balanced_accuracy_low']:.2f}-{row['balanced_accuracy_high']:.2f})"


def leaderboard_text(table: pd.DataFrame) -> str:
    """Return the best trials and all baselines as lines of at most 80 columns."""
    wide = console.column(36)
    heading = f"{'':2} {'trial':6} {'model':{wide}} {'BA (95 %)':17} {'AUC':5} {'loss':5} ep"
    lines = [console.painted(heading, "heading")]
    rank = 0
    for row in table.itertuples():
        rank += not row.baseline and row.status != "failed"
        if row.status == "failed" or (rank > SHOWN and not row.baseline):
            continue
        bounds = f"{row.balanced_accuracy:.3f} ({row.balanced_accuracy_low:.2f}-{row.balanced_accuracy_high:.2f})"
        place, mark = ("", BASELINE) if row.baseline else (str(rank), "")
        if row.baseline and wide < len(row.title) + len(BASELINE):  # no room for the word
            place, mark = "b", ""
        lines.append(
            f"{place:>2} {row.trial[:6]} {console.cut(row.title, wide - len(mark)) + mark:{wide}} {bounds:17} "
            f"{row.auc:.3f} {row.log_loss:.3f} {row.epochs:2}{'*' if row.best_epoch_picked else ''}"
        )
    if any(line.startswith(" b ") for line in lines):
        lines.append("b: baseline")
    for row in table[table["status"] == "failed"].itertuples():
        failed = f"   {row.trial[:6]} {console.cut(row.title, wide):{wide}} failed: {row.reason}"
        lines.append(shortened(failed, console.width()) if len(failed) > console.width() else failed)
    counts = table[~table["baseline"]]["status"].value_counts()
    lines.append("trials: " + ", ".join(f"{counts.get(s, 0)} {s}" for s in ("done", "stopped", "failed")))
    if table["best_epoch_picked"].any():
        lines += console.wrapped("* at the epoch that scored best on these same patients: flattered by that choice")
    return "\n".join(lines)
