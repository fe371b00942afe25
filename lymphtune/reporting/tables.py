"""Tables as files for other programs: csv and LaTeX."""

from pathlib import Path

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from lymphtune.files import write_csv, write_text
from lymphtune.reporting.parts import Table

LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def save_table(folder: Path, table: Table, cohort: str) -> None:
    """Write the table as .csv in full precision and as .tex (booktabs) as shown; both name the cohort."""
    write_csv(folder / f"{table.name}.csv", table.frame.assign(cohort=cohort), "%.6g")
    shown = as_shown(table)
    columns = "".join("r" if number else "l" for number in numeric(table).values())
    latex = shown.to_latex(
        index=False,
        escape=True,
        column_format=columns,
        label=f"tab:{table.name}",
        caption=f"{_escaped(table.title)}. Cohort: {_escaped(cohort)}",
    )
    write_text(folder / f"{table.name}.tex", latex)


def as_shown(table: Table) -> pd.DataFrame:
    """Return the shown table with every cell as text."""
    given = table.frame if table.shown is None else table.shown
    return pd.DataFrame({name: [_cell(value) for value in given[name]] for name in given.columns})


def numeric(table: Table) -> dict[str, bool]:
    """Return for each shown column whether it holds numbers."""
    given = table.frame if table.shown is None else table.shown
    return {str(name): is_numeric_dtype(given[name]) and not is_bool_dtype(given[name]) for name in given.columns}


def _escaped(text: str) -> str:
    """Return the text escaped for LaTeX."""
    return "".join(LATEX.get(letter, letter) for letter in text)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.3f}"
    return str(value)
