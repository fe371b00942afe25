"""A time budget bounds the whole command, counted from its start; by a clock that the test sets."""

import math
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lymphtune.cluster.driver import _cut_short
from lymphtune.cohort import Cohort
from lymphtune.files import DiskFullError
from lymphtune.searching import budget as budgets
from lymphtune.searching.budget import Budget, process_started
from lymphtune.searching.live_report import LiveReport
from lymphtune.searching.stop_watcher import StopWatcher


def at(seconds: float, total_s: float | None, report: bool = False) -> Budget:
    return Budget(total_s, 100.0, report, clock=lambda: 100.0 + seconds)


@pytest.mark.parametrize(("total_s", "reserve_s"), [(300.0, budgets.STOPPING_S), (20.0, 4.0)])
def test_time_is_kept_back_for_what_follows_the_trials(total_s: float, reserve_s: float) -> None:
    assert not at(total_s - reserve_s - 0.1, total_s).over
    assert at(total_s - reserve_s + 0.1, total_s).over


def test_a_report_is_part_of_it_and_a_slow_start_tells_of_a_slow_end() -> None:
    assert at(0, 300.0, report=True).reserve_s == budgets.STOPPING_S + budgets.REPORT_S
    slow = at(0, 300.0)
    slow.start_up_s = 25.0
    assert slow.reserve_s == 25.0


def test_without_a_budget_there_is_time_for_ever() -> None:
    unlimited = at(1e9, None, report=True)
    assert unlimited.left_s == math.inf and not unlimited.over


def test_the_process_started_before_now_and_not_before_it_could() -> None:
    if os.path.exists("/proc/self/stat"):
        assert process_started() <= time.monotonic()


def a_board(path: Path, *records: SimpleNamespace) -> SimpleNamespace:
    run = SimpleNamespace(path=path)
    return SimpleNamespace(run=run, halt=None, mirror=None, records=dict(enumerate(records)))


def record(epochs: int, started: bool = True, row: dict | None = None) -> SimpleNamespace:
    trial = SimpleNamespace(hash="abcdef0123", epochs=9, baseline=False)
    return SimpleNamespace(trial=trial, epochs=epochs, curves=[1] * epochs, row=row or {}, started=started, status="")


def test_too_small_a_budget_is_said_with_what_took_its_time(tmp_path: Path) -> None:
    stop_watcher = StopWatcher(a_board(tmp_path, record(0)), at(60, 50.0))  # type: ignore[arg-type]
    assert stop_watcher.halted()
    assert "time budget of 50 s ended before a trial finished an epoch: 1 min" in stop_watcher.board.halt.why  # type: ignore
    stop_watcher = StopWatcher(a_board(tmp_path, record(1)), at(60, 50.0))  # type: ignore[arg-type]
    assert stop_watcher.halted() and stop_watcher.board.halt.why == "its time budget is spent"  # type: ignore[union-attr]


def test_a_request_to_stop_on_a_disk_that_turned_read_only_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: Path) -> None:
        raise DiskFullError(f"{path}: cannot be written")

    stop_watcher = StopWatcher(a_board(tmp_path, record(1)), at(10, 50.0))  # type: ignore[arg-type]
    monkeypatch.setattr("lymphtune.searching.stop_watcher.remove", read_only)
    assert stop_watcher.halted()
    assert stop_watcher.board.halt.status == "paused"  # type: ignore[union-attr]


def test_trials_cut_short_are_named_and_others_are_not(tmp_path: Path) -> None:
    ended, waiting = record(9, row={"status": "done"}), record(0, started=False)
    assert _cut_short(a_board(tmp_path, ended, waiting)) == ""  # type: ignore[arg-type]
    said = _cut_short(a_board(tmp_path, ended, record(4), waiting))  # type: ignore[arg-type]
    assert said == "cut short: abcdef after epoch 4 of 9; resumed from their last checkpoints"


def test_a_report_that_takes_too_long_is_ended(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    live = LiveReport(SimpleNamespace(path=tmp_path), "data", at(60, 50.0))  # type: ignore[arg-type]
    live.command = ["sleep", "600"]
    live.over(SimpleNamespace(table=SimpleNamespace(settled=[1]), mirror=None))  # type: ignore[arg-type]
    live.finish()
    assert "no report: the time budget ended; `lymphtune report --run" in capsys.readouterr().err
    assert live.process is not None and live.process.returncode is not None


def test_features_that_are_interrupted_leave_nothing(
    tiny_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from lymphtune.training import frozen

    class Halted(Exception):
        pass

    def check() -> None:
        raise Halted

    monkeypatch.setattr(frozen, "load_backbone", lambda *given: torch.nn.Identity())
    monkeypatch.setattr(frozen, "_cache_file", lambda *given: tmp_path / "features.npy")
    monkeypatch.setattr(torch.nn.Identity, "scale", torch.zeros(1), raising=False)
    chosen = SimpleNamespace(data=SimpleNamespace(crop_px=40), title="timm:x")
    with pytest.raises(Halted):
        frozen._cached_features(chosen, tiny_cohort, torch.device("cpu"), tmp_path, 0, check)  # type: ignore[arg-type]
    assert not list(tmp_path.glob("*.npy*")) or {p.suffix for p in tmp_path.iterdir()} == {".lock"}


def test_baselines_end_with_the_budget_and_are_trained_where_there_is_time(
    tiny_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lymphtune.cluster import driver as search
    from lymphtune.training import lockstep

    class Checked(Exception):
        pass

    def train_clinical(configuration: object, cohort: Cohort, protocol: object, check: Any) -> None:
        check()
        raise Checked

    monkeypatch.setattr(lockstep, "train_clinical", train_clinical)
    trial = SimpleNamespace(baseline=True, configuration=None, seed=0, hash="a", number=-1)
    board = SimpleNamespace(waiting=[trial])
    plan = SimpleNamespace(folds_RP=None)
    given = (board, tiny_cohort, plan)
    search._train_baselines(*given, SimpleNamespace(budget=at(60, 50.0)))  # type: ignore[arg-type]
    with pytest.raises(Checked):
        search._train_baselines(*given, SimpleNamespace(budget=at(1, 50.0)))  # type: ignore[arg-type]
