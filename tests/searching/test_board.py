"""The board without Ray: whose weights are kept, and what becomes of trials that never report."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lymphtune.runs.run import Run
from lymphtune.searching import racing
from lymphtune.searching.board import Board, StopReason
from lymphtune.searching.epoch_report import Report
from lymphtune.searching.prepare import prepare
from lymphtune.searching.settings import Settings
from lymphtune.searching.time_left import TimeLeft
from lymphtune.searching.trial import WEIGHTS_AT

CURVE = {"train_loss": 0.5, "train_loss_sd": 0.1, "learning_rate": 1e-3, "seconds": 1.0}


def board(folder: Path, cohort: Path, trials: int, keep_weights: int = 1, **more: Any) -> Board:
    """Return the board of a plan whose trials see images alone and attributes too, in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "two.yaml"
    given = {
        "training": {"weight_decay": {"choose": [0.001, 0.002, 0.003, 0.004]}},
        "model": {"encoder": "vanilla", "fusion": {"choose": ["none", "concat"]}},
        "data": {"crop_px": 40},
    }
    path.write_text(yaml.safe_dump({"grid": True, "configuration": given}, sort_keys=False))
    settings = Settings(**({"epochs": 1, "trials": trials, "keep_weights": keep_weights} | more))
    return Board(Run(folder / "run"), *prepare(str(path), cohort, settings))


def report(on: Board, number: int, skill: float, epochs: int = 1, ends: bool = True) -> None:
    """Let a trial say so many epochs, with probabilities of so much skill, and end."""
    trial = on.records[number].trial
    probability_RP = np.where(on.plan.folds_RP >= 0, 0.5 + skill * (on.labels_P - 0.5), np.nan)
    for epoch in range(1, epochs + 1):
        (on.run.trial(trial.hash) / WEIGHTS_AT.format(epoch)).mkdir(parents=True)
        on.report(number, Report(epoch, probability_RP, np.full_like(probability_RP, np.nan), CURVE))
    if ends:
        on.end(number)


def test_the_best_of_each_kind_keep_their_weights(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    found = board(tmp_path, tiny_cohort_folder, 4)
    for number, skill in enumerate((0.1, 0.9, 0.3, 0.8)):
        report(found, number, skill)
    kept = {}
    for row in found.table.rows().itertuples():
        kept[row.number] = (row.sees, (found.run.trial(row.trial) / "weights").exists())
    assert kept == {0: ("images", False), 1: ("mixed", True), 2: ("images", True), 3: ("mixed", False)}


def test_trials_that_are_written_down_tell_the_time_left(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    found = board(tmp_path, tiny_cohort_folder, 4)
    for number in range(3):
        report(found, number, 0.5)
    assert not any(found.records[number].curves for number in range(3))  # on the disk alone
    assert found.progress()[1] == TimeLeft(CURVE["seconds"], CURVE["seconds"])


def test_a_trial_that_never_reports_is_no_secret(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    for halt, statuses in ((None, ["done", "failed"]), (StopReason("interrupted", ""), ["done"])):
        found = board(tmp_path / str(halt), tiny_cohort_folder, 2)
        report(found, 0, 0.5)
        found.halt = halt
        found.close()
        table = found.table.rows().query("not baseline")
        assert table["status"].tolist() == statuses
        assert table["reason"].tolist() == ["", "never started"][: len(statuses)]


def test_the_leaderboard_says_which_rule_stopped_a_trial(
    tiny_cohort_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(racing, "FEWEST", 5)  # the cohort is tiny
    found = board(tmp_path, tiny_cohort_folder, 7, epochs=3, grace=1, scheduler="median", racing=True)
    best = found.records[0].trial.hash[:6]
    for number, skill in enumerate((0.9, 0.8, 0.8, 0.8, 0.7, -0.5, 0.8)):
        report(found, number, skill)
    assert found.rungs.reason == {4: "worse than the median at epoch 1", 5: "worse than the median at epoch 1"} | {
        number: f"worse than trial {best} on the same patients (p < .001) at epoch 1" for number in (1, 2, 3, 6)
    }
    table = found.table.rows().query("status == 'stopped'").set_index("number")
    assert table["reason"].to_dict() == found.rungs.reason
