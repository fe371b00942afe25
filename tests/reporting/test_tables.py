"""Tables as files: every digit in csv, LaTeX that any text may stand in, the cohort in both."""

from pathlib import Path

import pandas as pd

from lymphtune.reporting.parts import Table
from lymphtune.reporting.tables import save_table


def test_a_table_is_written_exactly_and_names_its_cohort(tmp_path: Path) -> None:
    frame = pd.DataFrame({"trial": ["a_b & 50 %"], "auc": [0.123456], "said": ["=1+1"]})
    save_table(tmp_path, Table("scores", "Scores of 5 %", "", frame), r"P_1 {x}\input{y} (SIMULATED)")
    back = pd.read_csv(tmp_path / "scores.csv")
    assert back["auc"][0] == 0.123456 and back["cohort"][0].endswith("(SIMULATED)")
    assert back["said"][0] == "'=1+1"
    latex = (tmp_path / "scores.tex").read_text(encoding="utf-8")
    assert r"a\_b \& 50 \%" in latex and "0.123" in latex and "0.1234" not in latex
    assert r"Scores of 5 \%. Cohort" in latex
    assert r"P\_1 \{x\}\textbackslash{}input\{y\} (SIMULATED)" in latex
