"""A finished run, free to be reported on, with a failed trial; one a test file."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from lymphtune.reporting.facts import Facts, gather
from lymphtune.runs.run import Run
from tests.reporting.hostile import REASON


@pytest.fixture(scope="session")
def facts(searched: Run) -> Facts:
    """What a report knows of the finished run, gathered once for all sections."""
    return gather(searched, None, None, pictures=False)


@pytest.fixture(scope="module")
def run(searched: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A copy of the finished run whose last network has failed."""
    copy = Run(Path(shutil.copytree(searched.path, tmp_path_factory.mktemp("runs") / "copy")))
    leaderboard = copy.leaderboard
    last = leaderboard.index[leaderboard["kind"] == "network"][-1]
    leaderboard.loc[last, ["status", "reason"]] = "failed", REASON
    leaderboard.loc[last, ["balanced_accuracy", "auc", "log_loss"]] = float("nan")
    leaderboard.to_parquet(copy.path / "leaderboard.parquet")
    return copy


def hostile_name(word: str) -> str:
    """Return what a folder may be called and no page may obey."""
    return f'{word}"><img src=x onerror="document.title=\'harmed\'"><svg onload=alert(1)>'


@pytest.fixture(scope="module")
def hostile_run(run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """The run in a folder, and its cohort in another, whose names are markup."""
    folder = tmp_path_factory.mktemp("hostile")
    copy = Run(Path(shutil.copytree(run.path, folder / hostile_name("run"))))
    return copy, Path(shutil.copytree(run.description.cohort.data, folder / hostile_name("cohort")))


@pytest.fixture(scope="module")
def failed(run: Run) -> pd.Series:
    """The leaderboard's row of the failed trial."""
    return run.leaderboard.query("status == 'failed'").iloc[0]
