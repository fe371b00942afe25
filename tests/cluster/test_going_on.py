"""A search that was broken off, without Ray: whatever breaks it, it ends with the leaderboard of the unbroken one."""

import errno
import itertools
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lymphtune.cohort import Cohort
from lymphtune.errors import InputError
from lymphtune.runs.run import Run
from lymphtune.searching import past
from lymphtune.searching.board import Board, StopReason
from lymphtune.searching.epoch_report import Report
from lymphtune.searching.past import LEDGER
from lymphtune.searching.plan import Plan, Stage
from lymphtune.searching.prepare import prepare
from lymphtune.searching.settings import Settings
from lymphtune.searching.trial import CHECKPOINT, EPOCHS, WEIGHTS, Shared, train_on
from lymphtune.training.lockstep import Diverged, Protocol, train
from lymphtune.training.precision import Precision

SETTINGS = Settings(trials=6, epochs=4, folds=2, grace=1, reduction=2, keep_weights=2)


class Killed(BaseException):
    """kill -9 of everything."""


class Stop(Exception):
    """The board's word that a trial ends here."""


class Machine:
    """Drives a search as Ray would, trial after trial, in this process."""

    def __init__(self, folder: Path, cohort: Cohort, plan: Plan) -> None:
        self.run, self.cohort, self.plan = Run(folder), cohort, plan
        self.shared = Shared(cohort, plan, folder, "cpu", Precision("float32"))
        self.epochs_trained = 0

    def board(self, **how: Any) -> Board:
        board = Board(self.run, self.cohort, self.plan)
        board.restore(**how)
        return board

    def go(
        self, breaks_after: int | None = None, halts_after: int | None = None, backwards: bool = False, **how: Any
    ) -> Board:
        """Run all that waits; killed, or halted, when so many epochs have been reported."""
        board = self.board(**how)
        self.baselines(board)
        said = 0

        def hear(fact: dict[str, Any]) -> None:
            nonlocal said
            self.epochs_trained += 1
            if said == breaks_after:
                raise Killed  # the epoch is on the disk, and nobody has heard of it
            goes_on = board.report(number, Report.read(fact))
            said += 1
            if said == halts_after:
                board.halt = StopReason("interrupted", "a signal")
            if not goes_on or board.halt:
                raise Stop

        waiting = reversed(board.waiting) if backwards else board.waiting
        for trial in itertools.chain(waiting, iter(board.propose, None)):
            number = trial.number
            failure = ""
            try:
                train_on(trial, self.shared, hear, board.records[number].epochs)
            except Stop:
                pass
            except Diverged as error:
                failure = f"diverged: {error}"
            if board.halt:
                break
            board.end(number, failure)
        board.close()
        return board

    def baselines(self, board: Board) -> None:
        for trial in [trial for trial in board.waiting if trial.baseline]:
            for result in train(trial.configuration, self.cohort, Protocol(self.plan.folds_RP, 1, trial.seed)):
                board.report(trial.number, Report.of(result, {}))
            board.end(trial.number)

    def table(self) -> pd.DataFrame:
        return self.run.leaderboard.drop(columns="seconds")


@pytest.fixture(scope="session")
def planned(_tiny_cohort_files: Path) -> tuple[Cohort, Plan]:
    return prepare("tiny", _tiny_cohort_files, SETTINGS)


@pytest.fixture(scope="session")
def unbroken(planned: tuple[Cohort, Plan], tmp_path_factory: pytest.TempPathFactory) -> Machine:
    machine = Machine(tmp_path_factory.mktemp("unbroken") / "run", *planned)
    machine.go()
    statuses = machine.table().query("not baseline")["status"].value_counts()
    assert statuses["done"] >= 2 and statuses["stopped"] >= 2
    return machine


@pytest.fixture
def machine(planned: tuple[Cohort, Plan], tmp_path: Path) -> Machine:
    return Machine(tmp_path / "run", *planned)


def files(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file() and path.name != LEDGER)


def assert_same(machine: Machine, unbroken: Machine) -> None:
    """The leaderboard, the probabilities and the weights are those of the unbroken search; nothing is left over."""
    pd.testing.assert_frame_equal(machine.table(), unbroken.table())
    assert files(machine.run.path) == files(unbroken.run.path)
    for name in files(unbroken.run.path):
        if name.endswith(("oof.parquet", ".safetensors")):
            assert (machine.run.path / name).read_bytes() == (unbroken.run.path / name).read_bytes(), name


def trials(machine: Machine) -> list[Path]:
    return [machine.run.trial(trial.hash) for trial in machine.plan.trials]


def last_with(machine: Machine, name: str) -> Path:
    """Return the latest trial's file of that name."""
    return [folder / name for folder in trials(machine) if (folder / name).exists()][-1]


def test_nothing_that_has_ended_is_repeated(unbroken: Machine, planned: tuple[Cohort, Plan]) -> None:
    before = unbroken.epochs_trained
    unbroken.go()
    assert unbroken.epochs_trained == before
    assert not list(unbroken.run.path.rglob(EPOCHS)) and not list(unbroken.run.path.rglob(CHECKPOINT))
    kept = [folder for folder in trials(unbroken) if (folder / WEIGHTS).exists()]
    assert 2 <= len(kept) <= 4  # the best two, and the best of each kind


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_killed_again_and_again_it_ends_the_same(machine: Machine, unbroken: Machine, seed: int) -> None:
    draw = random.Random(seed)
    kills = 0
    for _ in range(40):
        try:
            machine.go(breaks_after=draw.randrange(4), backwards=draw.random() < 0.3)
            break
        except Killed:
            kills += 1
    assert kills >= 2
    assert_same(machine, unbroken)
    # an epoch that was written and not heard of is not trained twice; those told again are counted here, too
    assert machine.epochs_trained <= unbroken.epochs_trained + 3 * kills + 8


@pytest.mark.parametrize("backwards", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("after", [5, pytest.param(1, marks=pytest.mark.slow), pytest.param(9, marks=pytest.mark.slow)])
def test_interrupted_it_goes_on_to_the_same(machine: Machine, unbroken: Machine, after: int, backwards: bool) -> None:
    board = machine.go(halts_after=after, backwards=backwards)
    assert board.waiting and (machine.run.path / "leaderboard.parquet").is_file()
    assert not (machine.run.leaderboard["status"] == "failed").any()
    for row in machine.run.leaderboard.query("kind == 'network'").itertuples():
        assert (machine.run.trial(row.trial) / WEIGHTS).is_dir()  # an ensemble can be made of what there is
    machine.go()
    assert_same(machine, unbroken)


def test_a_read_that_fails_for_a_moment_removes_nothing(
    unbroken: Machine, planned: tuple[Cohort, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: Path) -> None:
        raise InputError(f"{path}: cannot be read") from OSError(errno.EIO, "Input/output error")

    before, trial, removed = files(unbroken.run.path), unbroken.plan.trials[0], list[str]()
    reader = past.RunHistory(unbroken.run, planned[1], False, removed.append)
    with monkeypatch.context() as patch:
        patch.setattr(past, "read_table", failing)
        with pytest.raises(InputError, match=r"at the moment \(Input/output error\); nothing was changed"):
            reader.of(trial)
    assert files(unbroken.run.path) == before
    assert reader.of(trial).row and not removed


def damage_checkpoint(machine: Machine) -> None:
    path = last_with(machine, CHECKPOINT)
    path.write_bytes(path.read_bytes()[:-100])


def damage_ledger(machine: Machine) -> None:
    path = last_with(machine, EPOCHS)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lose_ledger(machine: Machine) -> None:
    last_with(machine, EPOCHS).unlink()


def damage_rung(machine: Machine) -> None:
    path = next(last_with(machine, "weights-epoch-1").iterdir())
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


def damage_kept_weights(machine: Machine) -> None:
    path = next(last_with(machine, WEIGHTS).glob("repeat-*"))
    path.write_bytes(path.read_bytes()[:-1])


def damage_oof(machine: Machine) -> None:
    path = last_with(machine, "oof.parquet")
    path.write_bytes(path.read_bytes()[:-30])


def damage_config(machine: Machine) -> None:
    path = last_with(machine, "config.yaml")
    path.write_text(path.read_text()[:50])


def lose_leaderboard(machine: Machine) -> None:
    (machine.run.path / "leaderboard.parquet").unlink(missing_ok=True)


def truncate_run_ledger(machine: Machine) -> None:
    (machine.run.path / LEDGER).write_text('0badc0de {"trial":')


@pytest.mark.parametrize(
    "harm",
    [
        damage_oof,
        *(
            pytest.param(harm, marks=pytest.mark.slow)
            for harm in (
                damage_checkpoint,
                damage_ledger,
                damage_rung,
                lose_ledger,
                damage_kept_weights,
                damage_config,
                lose_leaderboard,
                truncate_run_ledger,
            )
        ),
    ],
)
@pytest.mark.parametrize("after", [11, pytest.param(7, marks=pytest.mark.slow)])
def test_what_is_damaged_is_done_again(
    machine: Machine, unbroken: Machine, harm: Callable[[Machine], None], after: int
) -> None:
    with pytest.raises(Killed):
        machine.go(breaks_after=after)
    harm(machine)
    machine.go()
    assert_same(machine, unbroken)


def test_a_kill_between_any_two_writes_of_an_ending_is_survived(
    machine: Machine, unbroken: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call that settles a trial on the disk may be the last one."""
    from lymphtune.searching import trial_store as module

    for name in ("write_table", "write_yaml", "_place_weights"):
        for nth in (1, 2, 5, 11):
            seen = []
            real = getattr(module, name)

            def dying(*given: Any, real: Any = real, seen: list[int] = seen, nth: int = nth, **how: Any) -> None:
                seen.append(1)
                if len(seen) == nth:
                    raise Killed
                real(*given, **how)

            monkeypatch.setattr(module, name, dying)
            with suppress(Killed):
                machine.go()
            monkeypatch.setattr(module, name, real)
    machine.go()
    assert_same(machine, unbroken)


# ---- extended


@pytest.fixture
def folder(_tiny_cohort_files: Path) -> Path:
    return _tiny_cohort_files


def more(machine: Machine, folder: Path, trials: int, epochs: int) -> Machine:
    """Return the machine of the same run, extended."""
    settings = replace(SETTINGS, trials=trials, epochs=epochs)
    return Machine(machine.run.path, *prepare("tiny", folder, settings, machine.plan.stages))


@pytest.fixture
def finished(unbroken: Machine, planned: tuple[Cohort, Plan], tmp_path: Path) -> Machine:
    """A copy of the finished run."""
    shutil.copytree(unbroken.run.path, tmp_path / "run")
    return Machine(tmp_path / "run", *planned)


@pytest.mark.slow
def test_more_trials_leave_the_first_ones_as_they_are(finished: Machine, folder: Path, tmp_path: Path) -> None:
    first = finished.table()
    larger = more(finished, folder, 9, 4)
    larger.go()
    table = larger.table()
    old = table[table["number"] < 6].reset_index(drop=True)
    pd.testing.assert_frame_equal(old, first)
    anew = Machine(tmp_path / "anew", *prepare("tiny", folder, replace(SETTINGS, trials=9)))
    anew.go()
    pd.testing.assert_frame_equal(table, anew.table())
    assert larger.epochs_trained == table.query("number >= 6")["epochs"].sum()


def test_more_epochs_go_on_with_those_that_are_left(finished: Machine, folder: Path) -> None:
    first = finished.table().set_index("number")
    longer = more(finished, folder, 6, 7)
    longer.go()
    table = longer.table().set_index("number")
    ran = [n for n in table.index if n >= 0 and table.loc[n, "epochs"] > first.loc[n, "epochs"]]
    assert ran
    assert longer.epochs_trained == sum(table.loc[n, "epochs"] - first.loc[n, "epochs"] for n in ran)
    for n in ran:
        trial = longer.plan.trials[n]
        before = pd.read_parquet(finished.run.trial(trial.hash) / "oof.parquet")
        assert before["epoch"].max() == table.loc[n, "epochs"] == 7
        assert (longer.run.trial(trial.hash) / WEIGHTS).is_dir()
    stopped = first.index[first["status"] == "stopped"]
    pd.testing.assert_frame_equal(table.loc[stopped], first.loc[stopped])
    again = longer.table()
    longer.go()
    pd.testing.assert_frame_equal(longer.table(), again)


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_extension_that_is_killed_goes_on_to_the_same(
    finished: Machine, folder: Path, tmp_path: Path, after: int
) -> None:
    shutil.copytree(finished.run.path, tmp_path / "other")
    straight = more(Machine(tmp_path / "other", finished.cohort, finished.plan), folder, 7, 7)
    straight.go()
    broken = more(finished, folder, 7, 7)
    with pytest.raises(Killed):
        broken.go(breaks_after=after)
    broken.go()
    assert_same(broken, straight)


def test_an_extension_that_fails_leaves_what_was_there(
    finished: Machine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = finished.table()
    longer = more(finished, folder, 6, 7)

    def diverges(self: Shared, trial: Any, start: Any = None) -> Any:
        raise Diverged("loss is nan in epoch 5")
        yield

    monkeypatch.setattr(Shared, "train", diverges)
    board = longer.go()
    assert board.halt is None
    table = longer.table()
    went = table["reason"].str.startswith("not beyond epoch 4: diverged: loss is nan in epoch 5")
    assert went.any()
    pd.testing.assert_frame_equal(table.drop(columns="reason"), first.drop(columns="reason"))
    longer.go()  # and is not tried again
    pd.testing.assert_frame_equal(longer.table(), table)


def test_fewer_are_refused(finished: Machine, folder: Path) -> None:
    with pytest.raises(InputError, match=r"the run has 6 trials of 4 epochs already.*ask for as many or more"):
        more(finished, folder, 5, 4)
    with pytest.raises(InputError, match="none is taken back"):
        more(finished, folder, 6, 3)


def test_stages_say_what_each_trial_is_made_of(finished: Machine, folder: Path) -> None:
    plan = more(finished, folder, 8, 9).plan
    assert plan.stages == (Stage(6, 4), Stage(8, 9))
    assert [trial.cycles for trial in plan.trials] == [(4, 9)] * 6 + [(9,)] * 2
    assert [trial.hash for trial in plan.trials[:6]] == [trial.hash for trial in finished.plan.trials]


# ---- failures


def failing(numbers: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    real = Shared.train

    def train_or_not(self: Shared, trial: Any, start: Any = None) -> Any:
        if trial.number in numbers:
            raise Diverged("loss is nan in epoch 1")
        return real(self, trial, start)

    monkeypatch.setattr(Shared, "train", train_or_not)


def test_failed_trials_stay_failed_unless_forgiven(
    machine: Machine, unbroken: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        failing({1, 4}, patch)
        machine.go()
    assert set(machine.table().query("status == 'failed'")["number"]) == {1, 4}
    assert machine.go().waiting == []
    assert set(machine.table().query("status == 'failed'")["number"]) == {1, 4}
    machine.go(forgiven=True)
    assert not (machine.table()["status"] == "failed").any()


def test_a_failure_is_remembered_before_the_trial_is_settled(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    failing({5}, monkeypatch)
    board = machine.board()
    machine.baselines(board)
    board.end(5, "diverged: loss is nan in epoch 1")  # earlier ones are not decided, so nothing is settled
    assert [trial.number for trial in machine.board().waiting] == [0, 1, 2, 3, 4]


def test_a_search_in_which_most_fail_ends_early_and_says_why(
    planned: tuple[Cohort, Plan], tmp_path: Path, _tiny_cohort_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path / "run", *prepare("tiny", _tiny_cohort_files, replace(SETTINGS, trials=20)))
    failing(set(range(1, 20)), monkeypatch)
    board = machine.go()
    assert board.halt == StopReason(
        "failed", "5 of the 6 trials that ended have failed (5: diverged: loss is nan in epoch 1)"
    )
    assert (machine.table()["status"] == "failed").sum() == 5


# ---- a searcher that learns


def learning(folder: Path, cohort_folder: Path, trials: int = 14) -> Machine:
    settings = replace(SETTINGS, trials=trials, epochs=2, searcher="tpe")
    return Machine(folder, *prepare("tiny", cohort_folder, settings))


@pytest.mark.slow
def test_tpe_goes_on_with_what_it_had_proposed(_tiny_cohort_files: Path, tmp_path: Path) -> None:
    unbroken = learning(tmp_path / "unbroken", _tiny_cohort_files)
    board = unbroken.go()
    assert board.tpe is not None
    table = unbroken.table().query("not baseline").set_index("number")
    fates = {"done": "COMPLETE", "stopped": "PRUNED", "failed": "FAIL"}
    told = {number: trial.state.name for number, trial in board.tpe.trials.items()}
    assert told == {number: fates[status] for number, status in table["status"].items()}
    assert {"COMPLETE", "PRUNED"} <= set(told.values())
    random_draws = [trial.hash for trial in unbroken.plan.trials]
    assert not set(table["trial"]) & set(random_draws)

    broken = learning(tmp_path / "broken", _tiny_cohort_files)
    for after in (3, 9, 4):
        with pytest.raises(Killed):
            broken.go(breaks_after=after)
    broken.go()
    assert_same(broken, unbroken)
    first = broken.table()
    settings = replace(SETTINGS, trials=16, epochs=2, searcher="tpe")
    larger = Machine(broken.run.path, *prepare("tiny", _tiny_cohort_files, settings, broken.plan.stages))
    larger.go()
    table = larger.table()
    pd.testing.assert_frame_equal(table[table["number"] < 14].reset_index(drop=True), first)
    assert (table["number"] >= 14).sum() == 2
