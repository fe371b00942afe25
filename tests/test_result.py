"""A result as plain values: nothing rounded, nothing that JSON does not know."""

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lymphtune.result import Result, plain
from lymphtune.statistics.bootstrap import Interval
from lymphtune.statistics.honest import Gain


@dataclass
class Given:
    path: Path
    counts: np.ndarray


def test_tables_and_our_own_types_become_plain_values() -> None:
    table = pd.DataFrame({"trial": ["a", "b"], "score": [1 / 3, np.nan], "done": [True, False]})
    gain = Gain(Interval(0.1, -np.inf, 0.2), np.float64(0.7))
    found = plain({"table": table, "gain": gain, "given": Given(Path("x/y"), np.arange(2)), 3: date(2020, 1, 1)})
    assert found == {
        "table": [{"trial": "a", "score": 1 / 3, "done": True}, {"trial": "b", "score": None, "done": False}],
        "gain": {"difference": {"value": 0.1, "low": None, "high": 0.2}, "better": 0.7},
        "given": {"path": "x/y", "counts": [0, 1]},
        "3": "2020-01-01",
    }
    told = Result("a line", {"score": 1 / 3, "none": float("nan"), "name": "é"})
    assert told.text == "a line" and json.loads(told.document) == {"score": 1 / 3, "none": None, "name": "é"}


def test_what_is_no_plain_value_is_a_fault() -> None:
    with pytest.raises(TypeError, match="set is no plain value"):
        plain([{1, 2}])
