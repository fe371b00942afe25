"""Real searches that are killed, interrupted and damaged from outside: each ends like one that nothing happened to."""

import os
import random
import signal
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from lymphtune.runs.run import DRIVER
from lymphtune.scratch import scratch_path
from lymphtune.searching.past import LEDGER
from lymphtune.searching.trial import CHECKPOINT, EPOCHS
from tests.cluster.processes import Search, assert_same

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]


# ---- kill -9


def test_killed_it_goes_on_to_the_same(search: Search, undisturbed: Search) -> None:
    search.start().until_trained(15).kill()
    assert search.run.status == "broken off"
    assert_same(search.finish(), undisturbed)


@pytest.mark.timeout(1800)
def test_killed_ten_times_it_goes_on_to_the_same(search: Search, undisturbed: Search) -> None:
    draw = random.Random(0)
    for kill in range(10):
        search.resume() if search.run.path.exists() else search.start()
        if kill % 2:
            search.until_trained(draw.randint(1, 10)).kill()
        else:  # while Ray starts, or early in training
            search.until((search.run.path / "run.yaml").exists)
            search.wait(draw.uniform(0, 12)).kill()
    assert_same(search.finish(), undisturbed)


def test_a_trial_whose_worker_dies_goes_on(search: Search, undisturbed: Search) -> None:
    search.start().until_trained(15)
    for worker in search.named("ray::ImplicitFunc"):
        os.kill(worker, signal.SIGKILL)
    ended = search.end()
    assert ended.code == 0 and "Traceback" not in ended.err
    assert "tried_again" in (search.run.path / LEDGER).read_text()
    assert_same(search, undisturbed)


def test_a_trial_whose_worker_may_not_die_fails_alone(search: Search, undisturbed: Search) -> None:
    search.start("--max-failures", 0, "--max-concurrent", 1).until_trained(1)
    for worker in search.named("ray::ImplicitFunc"):
        os.kill(worker, signal.SIGKILL)
    ended = search.end()
    assert ended.code == 0 and "Traceback" not in ended.err
    networks = search.run.leaderboard.query("kind == 'network'").set_index("number")
    assert list(networks["status"] == "failed") == [False, False, False, True]
    failed = networks.index[networks["status"] == "failed"][0]
    assert networks.loc[failed, "reason"] == "its worker died"
    for number in networks.index.drop(failed):  # who is stopped may differ without the one that failed
        ours, theirs = (
            pd.read_parquet(s.run.trial(networks.loc[number, "trial"]) / "oof.parquet") for s in (search, undisturbed)
        )
        rows = min(len(ours), len(theirs))
        pd.testing.assert_frame_equal(ours[:rows], theirs[:rows])
    ended = search.resume("--retry-failed").end()
    assert ended.code == 0, ended.err
    assert not (search.run.leaderboard["status"] == "failed").any()


@pytest.mark.parametrize("which", ["raylet/raylet", "gcs/gcs_server"])
def test_ray_dies_and_the_search_says_so(search: Search, undisturbed: Search, which: str) -> None:
    (process,) = search.start().until_trained(10).named(which)
    os.kill(process, signal.SIGKILL)
    ended = search.end()
    assert ended.code == 2 and ended.only_line().startswith("lymphtune: failed: Ray"), ended.err
    assert "`lymphtune search --resume harmed --runs" in ended.only_line()
    assert search.run.description.status == "failed"
    assert_same(search.finish(), undisturbed)


# ---- signals


def interrupted(search: Search, *signals: signal.Signals, group: bool = False) -> None:
    """Send the signals to the driver, or as a terminal does to its whole group; check that it ends cleanly."""
    for number in signals:
        (os.killpg if group else os.kill)(search.process.pid, number)
        search.wait(0.3)
    ended = search.end(60)
    assert ended.code == 130, ended.err
    assert ended.only_line() == "lymphtune: interrupted"
    assert "`lymphtune search --resume harmed --runs" in ended.err
    assert search.run.description.status == "interrupted"
    assert [str(path) for path in search.run.path.rglob(".*")] == []
    assert [path.name for path in search.scratch.iterdir() if path.name.startswith("l")] == []  # of Ray, of Tune


def test_interrupted_it_goes_on_to_the_same(search: Search, undisturbed: Search) -> None:
    interrupted(search.start().until_trained(15), signal.SIGINT)
    assert_same(search.finish(), undisturbed)


@pytest.mark.parametrize(
    ("number", "group"),
    [(signal.SIGTERM, False), (signal.SIGINT, True), (signal.SIGTERM, True), (signal.SIGHUP, True)],
    ids=["SIGTERM", "SIGINT-group", "SIGTERM-group", "SIGHUP-group"],
)
def test_a_signal_ends_it_cleanly(search: Search, undisturbed: Search, number: signal.Signals, group: bool) -> None:
    interrupted(search.start().until_trained(15), number, group=group)
    assert_same(search.finish(), undisturbed)


def test_a_second_signal_ends_it_at_once(search: Search, undisturbed: Search) -> None:
    interrupted(search.start().until_trained(15), signal.SIGINT, signal.SIGINT, group=True)
    assert_same(search.finish(), undisturbed)


def test_a_signal_while_ray_starts(search: Search, undisturbed: Search) -> None:
    search.start().until(lambda: search.named("gcs/gcs_server"))
    interrupted(search, signal.SIGINT, group=True)
    search.resume().until(lambda: search.named("raylet/raylet"))
    interrupted(search, signal.SIGTERM)
    assert_same(search.finish(), undisturbed)


def test_a_signal_while_a_run_is_taken_up(search: Search, undisturbed: Search) -> None:
    search.start().until_trained(15).kill()
    before = search.run.driver["pid"]
    search.resume().until(lambda: search.run.driver.get("pid", before) != before)
    search.process.send_signal(signal.SIGINT)
    ended = search.end()
    assert ended.code == 130 and ended.only_line() == "lymphtune: interrupted"
    assert search.run.status in ("interrupted", "broken off")  # nothing has been begun yet
    assert_same(search.finish(), undisturbed)


# ---- other words from outside


def test_one_search_has_one_driver_and_heeds_other_processes(search: Search) -> None:
    search.start("--epochs", 4000, "--scheduler", "none").until_trained(5)

    def other(*arguments: str) -> subprocess.CompletedProcess[str]:
        return search.beside(*arguments, "--runs", str(search.runs))

    second = other("search", "--resume", "harmed")
    assert second.returncode == 2 and second.stdout == "" and "Traceback" not in second.stderr
    assert f"{DRIVER}: held by another process" in second.stderr.splitlines()[-1]
    assert second.stderr.splitlines()[-1].count(str(search.process.pid)) == 1
    assert f"harmed: running (process {search.process.pid} on" in other("status", "harmed").stdout
    assert " running " in other("runs").stdout
    stopped = other("stop", "harmed")
    assert stopped.returncode == 0 and "harmed: stopped; `lymphtune search --resume harmed" in stopped.stdout
    ended = search.end()
    assert ended.code == 0 and "`lymphtune stop` asked for it" in ended.err
    search.resume().until_trained(5).kill()
    assert " broken off " in other("runs").stdout
    assert "harmed: broken off" in other("status", "harmed").stdout
    refused = other("stop", "harmed")
    assert refused.returncode == 2 and "no search to stop, it is broken off" in refused.stderr


def test_a_time_budget_ends_it(search: Search) -> None:
    ended = search.start("--epochs", 4000, "--scheduler", "none", "--time-budget", "45s").end()
    assert ended.code == 0 and "time budget" in ended.err
    assert "`lymphtune search --resume harmed --runs" in ended.err
    assert search.run.description.status == "out of time"


# ---- damage


def test_all_that_a_crash_may_damage_is_done_again(search: Search, undisturbed: Search) -> None:
    search.start().until_trained(40).kill()
    ledger = search.run.path / LEDGER
    ledger.write_bytes(b'0badc0de {"trial":')
    harmed = []
    for path in search.run.path.glob(f"trials/*/{EPOCHS}"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        harmed.append(path)
    for path in [*search.run.path.glob(f"trials/*/{CHECKPOINT}"), *search.run.path.rglob("*.safetensors")]:
        _turn_a_bit(path)
        harmed.append(path)
    (search.run.path / "leaderboard.parquet").write_bytes(b"PAR1")
    _half_written(search.run.path / "leaderboard.parquet").write_bytes(b"PAR1")
    assert len(harmed) >= 4
    assert_same(search.finish(), undisturbed)


def _half_written(path: Path) -> Path:
    """Return what a process that has ended left of a file."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    name = scratch_path(path).name.replace(f"-{os.getpid()}-", f"-{ended.pid}-")
    return path.with_name(name)


def _turn_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
