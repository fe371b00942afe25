"""The style of figures, for page and paper, and their output: SVG and PNG files, SVG inside the page."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from lymphtune.files import atomic_file
from lymphtune.reporting.parts import Drawing

DPI = 300
MARK_INCHES = 0.16  # height of the line that marks a cohort as simulated
WIDTH = 6.7  # inches: the width of a page's text
INK, LINE, PALE = "#22262b", "#c5cad0", "#eceef1"  # text and axes; grids; fills: the page replaces them by its own
# The colours of Okabe and Ito, which colour-blind readers can distinguish, on light and dark.
ENSEMBLE, SINGLE, BASELINE = "#0072b2", "#009e73", "#d55e00"
COLOURS = (ENSEMBLE, BASELINE, SINGLE, "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c")
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))  # with the colours, for print
STYLE: Any = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "hatch.linewidth": 0.6,
}
IN_PAGE = {INK: "currentColor", LINE: "var(--line)", PALE: "var(--pale)"}
NAMELESS = re.compile(r' id="(?:figure|axes|patch|text|line2d|legend|matplotlib\.axis|xtick|ytick)_\d+"')


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the report's style inside the block."""
    with mpl.rc_context(STYLE):
        yield


def canvas(height: float, width: float = WIDTH) -> Figure:
    """Return an empty figure, size in inches, without pyplot."""
    return Figure(figsize=(width, height), layout="constrained")


def mark_simulated(drawing: Drawing) -> None:
    """Write on the figure that its cohort is simulated, for copies of the figure outside the report."""
    engine = drawing.figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        fraction = MARK_INCHES / drawing.figure.get_figheight()
        engine.set(rect=(0, fraction, 1, 1 - fraction))
    drawing.figure.text(0.995, 0.0, "SIMULATED cohort", ha="right", va="bottom", fontsize=7, fontweight="bold")


def svg_of(drawing: Drawing, cohort: str = "") -> str:
    """Return the figure as reproducible SVG, with the cohort in its metadata."""
    with mpl.rc_context(STYLE | {"svg.hashsalt": drawing.name}):  # unique ids within a page
        out = io.StringIO()
        metadata = {
            "Title": drawing.title,
            "Description": drawing.alt,
            "Source": cohort,
            "Date": None,
            "Creator": "lymphtune",
        }
        drawing.figure.savefig(out, format="svg", transparent=True, metadata=metadata)
    drawing.figure.set_layout_engine("none")  # the layout is final: other formats need not compute it again
    return out.getvalue()


def in_page(svg: str, alt_id: str) -> str:
    """Return the SVG for the page, with the page's colours, without a fixed size, and with `alt_id` as its label."""
    body = svg[svg.index("<svg ") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<title>.*?</title>", "", body, flags=re.DOTALL)
    body = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", body, count=1)
    body = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", body, count=1)
    body = body.replace("<svg ", f'<svg role="img" aria-labelledby="{alt_id}" ', 1)
    for colour, own in IN_PAGE.items():
        body = body.replace(colour, own)
    return NAMELESS.sub("", body)


def save_drawing(folder: Path, drawing: Drawing, svg: str, cohort: str) -> None:
    """Write the figure as .svg and, for print, as .png of 300 dpi, on white."""
    with atomic_file(folder / f"{drawing.name}.svg") as scratch:
        scratch.write_text(svg, encoding="utf-8")
    with mpl.rc_context(STYLE), atomic_file(folder / f"{drawing.name}.png") as scratch:
        metadata = {"Title": drawing.title, "Source": cohort, "Software": "lymphtune"}
        drawing.figure.savefig(scratch, format="png", dpi=DPI, facecolor="white", metadata=metadata)
