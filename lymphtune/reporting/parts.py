"""What a report is made of: sections of drawings, tables, notes and blocks; nothing here knows HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawing:
    """A figure. name: of its files and its anchor; caption: what it shows and how it was made; alt: what a person
    who cannot see it should know, numbers included."""

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure


@dataclass(frozen=True)
class Table:
    """A table; name: of its files and its anchor. Text columns are left aligned, numbers right. exact: written to the
    files as `frame` is, while the page shows `shown` where that is given."""

    name: str
    title: str
    caption: str
    frame: pd.DataFrame
    shown: pd.DataFrame | None = None


@dataclass(frozen=True)
class Note:
    """A paragraph; `warning` where it qualifies the numbers, `code` where it is to be copied."""

    text: str
    warning: bool = False
    code: bool = False


@dataclass(frozen=True)
class Block:
    """A part with a template of its own: templates/<template>, which sees `data` as `block`. embedded: by id, what the
    page's script reads."""

    template: str
    data: Mapping[str, Any]
    embedded: Mapping[str, Any] = field(default_factory=dict)


Part = Drawing | Table | Note | Block


@dataclass(frozen=True)
class Section:
    """One question that the report answers; name: its anchor; lead: the answer in a sentence or two."""

    name: str
    title: str
    lead: str
    parts: Sequence[Part] = ()
