"""The leaderboard: a row for each settled trial, in memory and as leaderboard.parquet."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lymphtune.files import write_table
from lymphtune.searching.record import Record

TABLE_SHARE = 0.05  # of the time, at most, goes into writing the table while trials run


class Leaderboard:
    def __init__(self, path: Path, about: Mapping[str, str]) -> None:
        self.path, self.about = path, about
        self.settled: list[Record] = []  # in the order in which they got their row
        self._written, self._cost_s = 0.0, 0.0

    def rows(self) -> pd.DataFrame:
        """Return one row a settled trial, by class-balanced log loss; the failed ones last, by number."""
        table = pd.DataFrame([record.row for record in self.settled])
        table["last"] = table["status"] == "failed"
        return table.sort_values(["last", "log_loss", "number"], ignore_index=True).drop(columns="last")

    @property
    def best(self) -> dict[str, Any] | None:
        """The first row, None where every trial that ended has failed."""
        rows = [record.row for record in self.settled if record.status != "failed"]
        return min(rows, key=lambda row: (row["log_loss"], row["number"]), default=None)

    def write_in_time(self) -> None:
        """Write the table, unless that would take more than TABLE_SHARE of the time since it was written last."""
        if time.monotonic() - self._written > self._cost_s / TABLE_SHARE:
            self.write()

    def write(self) -> None:
        began = time.monotonic()
        if self.settled:
            write_table(self.path, self.rows(), self.about)
        self._written = time.monotonic()
        self._cost_s = self._written - began
