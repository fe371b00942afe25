"""The parts of a report, independent of HTML: sections of drawings, tables, notes and blocks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawing:
    """A figure.

    name: of its files and its anchor; caption: what it shows and how it was made; alt: a description in words and
    numbers for readers who cannot see it.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure


@dataclass(frozen=True)
class Table:
    """A table, with text columns aligned left and numbers right.

    name: of its files and its anchor; frame: written to the csv file; shown: the table of the page (default: frame).
    """

    name: str
    title: str
    caption: str
    frame: pd.DataFrame
    shown: pd.DataFrame | None = None


@dataclass(frozen=True)
class Note:
    """A paragraph; warning: it qualifies the numbers; code: it is text to copy."""

    text: str
    warning: bool = False
    code: bool = False


@dataclass(frozen=True)
class Block:
    """A part with its own template.

    template: file in templates/, in which `block` is `data`; embedded: JSON data for the page's script, by id.
    """

    template: str
    data: Mapping[str, object]
    embedded: Mapping[str, object] = field(default_factory=dict)


Part = Drawing | Table | Note | Block


@dataclass(frozen=True)
class Section:
    """One question that the report answers; name: its anchor; lead: the answer in one or two sentences."""

    name: str
    title: str
    lead: str
    parts: Sequence[Part] = ()
