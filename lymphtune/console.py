"""What a person sees while waiting: a bar on a terminal, plain lines elsewhere; always on stderr."""

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from lymphtune.masking import masked

T = TypeVar("T")
QUIET_SECONDS = 2.0  # nothing is said of work that ends sooner
WIDTH = 80  # columns of what is printed, at most
NARROWEST = 40  # columns that tables are made for
ELLIPSIS = "..."
LINE_SECONDS = 10.0  # between two plain lines
SIMULATED = "SIMULATED cohort: these numbers say nothing about people."
COLOURS = {"heading": "\x1b[1m", "warning": "\x1b[33m"}  # bold, yellow
PLAIN = "\x1b[0m"


class Bar(Protocol):
    def advance(self, steps: int = 1) -> None: ...


class _Lines:
    """Plain progress: one line every LINE_SECONDS once the work has lasted QUIET_SECONDS."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.done = label, total, 0
        self.started = time.monotonic()
        self.next_line = self.started + QUIET_SECONDS

    def advance(self, steps: int = 1) -> None:
        self.done += steps
        now = time.monotonic()
        if now >= self.next_line and self.done < self.total:
            left = (now - self.started) / self.done * (self.total - self.done) if self.done else 0
            say(f"{self.label}: {self.done} of {self.total}, about {duration(left)} left")
            self.next_line = now + LINE_SECONDS


class _Nothing:
    def advance(self, steps: int = 1) -> None: ...


class _Live:
    """A rich progress bar; imported only where there is a terminal to show it on."""

    def __init__(self, label: str, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self.task = self.progress.add_task(label, total=total)
        self.progress.start()

    def advance(self, steps: int = 1) -> None:
        self.progress.advance(self.task, steps)


SILENT = _Nothing()  # for work inside other work that has a bar


@contextmanager
def bar(label: str, total: int) -> Iterator[Bar]:
    """Yield something to `advance`; for any work that may last over two seconds.

    Without a label nothing is shown: for work inside other work that has a bar.
    """
    if not label:
        yield SILENT
        return
    if not sys.stderr.isatty():
        yield _Lines(label, total)
        return
    live = _Live(label, total)
    try:
        yield live
    finally:
        live.progress.stop()


def each(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    """Yield the items, showing how far it is."""
    with bar(label, total) as progress:
        for item in items:
            yield item
            progress.advance()


def say(text: str) -> None:
    """A line for the person, not for a program: stderr."""
    print(masked(text), file=sys.stderr, flush=True)


def painted(text: str, colour: str) -> str:
    """Return the text as a heading or a warning of what is printed; as it is where stdout is no terminal, or NO_COLOR
    is set (no-color.org)."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"{COLOURS[colour]}{text}{PLAIN}"


def width() -> int:
    """Return the columns to print in: the terminal's (or COLUMNS), from NARROWEST to WIDTH."""
    return max(NARROWEST, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))


def column(at_most: int, least: int = 12) -> int:
    """Return the width of a table's column of words: less than `at_most` by what the terminal lacks of WIDTH."""
    return max(least, at_most - (WIDTH - width()))


def tabular(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table as lines of at most `width()` columns, its cells left-aligned, the titles as a heading.

    Columns for which there is no room stand below in a table of their own, beside the first column again.
    """
    cells, lines, at = [titles, *rows], list[str](), 1
    wide = [max(map(len, column)) for column in zip(*cells, strict=True)]
    while at < len(wide):
        end = at + 1
        while end < len(wide) and wide[0] + sum(wide[at : end + 1]) + end + 1 - at <= width():
            end += 1
        chosen = [0, *range(at, end)]
        heading, *others = [" ".join(row[number].ljust(wide[number]) for number in chosen).rstrip() for row in cells]
        lines += [painted(heading, "heading"), *others]
        at = end
    return lines


def cut(text: str, columns: int) -> str:
    """Return the text in so many columns, its middle replaced by an ellipsis: titles differ by their ends."""
    if len(text) <= columns:
        return text
    kept = columns - len(ELLIPSIS)
    return text[: kept - kept // 2] + ELLIPSIS + text[len(text) - kept // 2 :]


def wrapped(text: str) -> list[str]:
    """Return the text as lines of at most `width()` columns."""
    return textwrap.wrap(text, width())


def hanging(text: str) -> list[str]:
    """Return the text as lines of at most `width()` columns, all but the first indented; a path is left whole."""
    return textwrap.wrap(text, width(), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def counted(count: int, noun: str) -> str:
    """Return so many of a noun in words: 1 picture, 13,000 pictures."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return seconds as a person says them: 8 s, 3 min 20 s, 2 h 05 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def size(n_bytes: float) -> str:
    """Return a number of bytes as a person says it: 640 kB, 1.2 GB."""
    for unit in ("B", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if n_bytes >= 10 or unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} GB"
