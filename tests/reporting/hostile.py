"""A page in which every text that could come from outside tries to be markup."""

import pandas as pd

from lymphtune.reporting.drawing import canvas, styled, svg_of
from lymphtune.reporting.page import page
from lymphtune.reporting.parts import Block, Drawing, Note, Section, Table
from lymphtune.reporting.sections.leaderboard import Cell

REASON = "loss is nan in epoch 2 <b>&"  # of a failed trial
EVIL = (
    "</title></style></script><script>document.title='harmed'</script>"
    '"><img src=x onerror="document.title=\'harmed\'">'
    "'onmouseover='document.title=1 </svg></text><!-- ]]> {{ 7*7 }}"
)


def hostile_page() -> str:
    """Return a page of every kind of part, all of whose texts are EVIL."""
    with styled():
        figure = canvas(6.0, 40.0)
        axes = figure.add_subplot(title=EVIL, xlabel=EVIL)
        axes.plot([0, 1], [0, 1], label=EVIL)
        axes.legend()
        drawing = Drawing("drawing", EVIL, EVIL, EVIL, figure)
        svg = svg_of(drawing)
    frame = pd.DataFrame({EVIL: [EVIL], "number": [1.0]})
    parts = [drawing, Table("table", EVIL, EVIL, frame), Note(EVIL), Note(EVIL, warning=True), Note(EVIL, code=True)]
    trials = {EVIL: {"configuration": EVIL, "curves": {"auc": [0.5, None, 0.7], EVIL: [1.0]}}}
    section = Section("leaderboard", EVIL, EVIL, [_leaderboard(trials), *parts])
    return page(EVIL, [EVIL], [section], {"drawing": svg}, live=False)


def _leaderboard(trials: dict) -> Block:
    row = {"trial": EVIL, "status": EVIL, "kind": EVIL, "tied": True, "cells": [Cell(EVIL, EVIL, expands=True)]}
    columns = {EVIL: {"number": False}}
    data = {"columns": columns, "rows": [row], "statuses": [EVIL], "kinds": [EVIL], "caption": EVIL}
    return Block("leaderboard.html", data, {"trials": trials})
