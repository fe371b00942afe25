"""Runs compared: the same patients, the same resamples, nothing picked in silence."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lymphtune.ensembling.candidates import Candidates
from lymphtune.ensembling.procedure import asked
from lymphtune.ensembling.score import Comparison
from lymphtune.errors import InputError
from lymphtune.files import write_table, write_yaml
from lymphtune.reporting import compare
from lymphtune.reporting.compare import METRICS, compare_runs
from lymphtune.runs.run import Run
from tests.ensembling.made_up import candidates


class Nothing:
    """A cohort of which only the name is asked for."""

    name, simulated = "made_up", True


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs whose candidates are drawn: the second is better than the first, the third of another cohort."""
    skills = {"first": 0.2, "second-with-a-name-that-is-long": 0.9, "third": 0.5}
    monkeypatch.setattr(compare, "trained_cohort", lambda run, data: Nothing())
    monkeypatch.setattr(compare, "check_roles", lambda cohort: None)
    monkeypatch.setattr(compare, "read_candidates", lambda run, cohort: candidates(skill=skills[run.name], patients=60))
    for name in skills:
        write(tmp_path / name, "other" if name == "third" else "made")
    return tmp_path


def write(path: Path, cohort_hash: str, fold: int = 5) -> None:
    cohort = {"name": "made_up", "simulated": True, "hash": cohort_hash, "data": "", "reference_date": "2020-01-01"}
    protocol = {"folds": fold, "repeats": 1, "epochs": 2, "trials": 3, "seed": 0}
    write_yaml(
        path / "run.yaml", {"created": "2026", "cohort": cohort, "protocol": protocol, "space": {"name": "mixed"}}
    )
    folds = pd.DataFrame({"patient": [f"P{row}" for row in range(60)], "repeat": 0, "fold": np.arange(60) % fold})
    write_table(path / "folds.parquet", folds, {})


def test_differences_are_paired_and_the_choice_is_named(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = compare_runs(["first", "second-with-a-name-that-is-long"], runs)
    first, second = result.values["runs"]
    assert first["minus_first"] == dict.fromkeys(METRICS) and result.values["n_patients"] == 60
    for metric, sign in zip(METRICS, (1, 1, -1), strict=True):
        gain = second["minus_first"][metric]
        assert gain.difference.low < gain.difference.value < gain.difference.high and gain.better > 0.9
        apart = second["honest"][metric].value - first["honest"][metric].value
        assert gain.difference.value == pytest.approx(apart) and apart * sign > 0
    assert all(len(line) <= 80 for line in result.text.splitlines())
    assert "not corrected for that choice" in " ".join(result.text.split())
    assert result.text.splitlines()[-1].startswith("SIMULATED")
    assert "split into folds differently" not in result.text and result.values["same_folds"]
    monkeypatch.setenv("COLUMNS", "60")
    narrow = compare_runs(["first", "second-with-a-name-that-is-long"], runs)
    assert max(map(len, narrow.text.splitlines())) <= 60 < max(map(len, result.text.splitlines()))


def test_a_run_is_judged_as_if_alone_where_all_judged_the_same(runs: Path) -> None:
    _, second = compare_runs(["first", "second-with-a-name-that-is-long"], runs).values["runs"]
    recipe_scores = Comparison.of(candidates(skill=0.9, patients=60))
    assert second["honest"] == recipe_scores.score(asked("top", top=5, source="networks")).honest


def test_only_patients_judged_in_all_runs_count(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "read_candidates", lambda run, cohort: some(run, slice(0, 45), slice(15, 60)))
    write(runs / "first", "made", fold=4)
    result = compare_runs(["first", "second-with-a-name-that-is-long"], runs)
    assert result.values["n_patients"] == 30 and "30 patients scored in all 2 runs" in result.text
    text = " ".join(result.text.split())
    assert "45 patients scored" in text and "split into folds differently" in text
    monkeypatch.setattr(compare, "read_candidates", lambda run, cohort: some(run, slice(0, 30), slice(30, 60)))
    with pytest.raises(InputError, match=r"no patient was held out in all of first, second.*; search with --folds 2"):
        compare_runs(["first", "second-with-a-name-that-is-long"], runs)


def some(run: Run, first: slice, second: slice) -> Candidates:
    whole: Any = candidates(patients=60)
    rows = first if run.name == "first" else second
    parts = {"patients": whole.patients[rows], "labels_P": whole.labels_P[rows], "fold_P": whole.fold_P[rows]}
    return replace(whole, **parts, oof_CP=whole.oof_CP[:, rows])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["first"], "compare: first is one run; name another"),
        (["first", "first"], "compare: first is named more than once"),
        (["first", "third"], r"compare: third is of the cohort made_up \(hash other\), first of made_up \(hash made\)"),
        (["first", "fourth"], "fourth: no such run; there are: first, second"),
    ],
)
def test_what_cannot_be_compared_is_refused(names: list[str], message: str, runs: Path) -> None:
    with pytest.raises(InputError, match=message):
        compare_runs(names, runs)
