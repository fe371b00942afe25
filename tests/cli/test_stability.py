"""lymphtune stability from the command line: what is printed, what is trained first, what is refused."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from lymphtune.cli import main
from lymphtune.runs.run import Run


@pytest.fixture
def runs(searched: Run, tmp_path: Path) -> Path:
    """A folder with a copy of the finished run, free to be added to."""
    shutil.copytree(searched.path, tmp_path / "runs" / "copy")
    return tmp_path / "runs"


def call(runs: Path, *more: object) -> int:
    return main(["stability", "--runs", str(runs), "--run", "copy", *map(str, more)])


def test_report_and_folder_are_printed(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("--from", "all", "--sizes", "1,2", "--pool", 4, "--draws", 5, "--seed", 3)
    assert call(runs, *given) == 0
    said = capsys.readouterr()
    assert said.err == "" and "4 single runs (4 trials x 1 seed), 12 patients scored" in said.out
    assert said.out.splitlines()[-1] == str(runs / "copy" / "stability")
    table = pd.read_csv(runs / "copy" / "stability" / "stability.csv")
    assert list(table["size"]) == [1, 2] and list(table["draws"]) == [4, 5]
    assert call(runs, *given[:-1], 4) == 0
    assert capsys.readouterr().out != said.out  # another seed draws others


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--sizes", "1,50"), "--sizes 50: the run copy has"),
        (("--sizes", "1,50", "--retrain"), "the largest possible size is"),
        (("--retrain", 1), "--retrain 1: expected 2 seeds or more"),
        (("--retrain", 3, "--draws", 0), "--draws 0: expected 2 or more"),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_trained(
    given: tuple, message: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(runs, *given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("lymphtune: ") and message in line
    assert [path.name for path in runs.iterdir()] == ["copy"] and not (runs / "copy" / "stability").exists()


def test_sizes_that_are_no_numbers_are_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call(runs, "--sizes", "1,x")
    assert ended.value.code == 2 and "'1,x': expected whole numbers such as 1,2,3,5,10" in capsys.readouterr().err


@pytest.mark.slow
def test_retraining_first_tells_seed_from_configuration(
    runs: Path, ray_session: None, capsys: pytest.CaptureFixture[str]
) -> None:
    done = (Run(runs / "copy").leaderboard.query("kind == 'network'")["status"] == "done").sum()
    assert call(runs, "--sizes", "1,2", "--retrain", 2) == 0
    said = capsys.readouterr().out
    assert f"{2 * done} single runs ({done} trials x 2 seeds), 12 patients scored" in said
    assert said.splitlines()[-1] == str(runs / "copy-retrained" / "stability")
    assert not (runs / "copy" / "stability").exists()
    assert call(runs, "--sizes", "1,2", "--retrain", 2) == 2
    assert "copy-retrained: is there already" in capsys.readouterr().err
