"""Delivery of records: a tracker that raises or hangs neither stops nor delays who sends them."""

import threading
from collections.abc import Mapping

import pytest

from lymphtune.searching.trackers.tracker import Delivered, Delivery, Ending, TrackedTrial, Undelivered

TRIAL = TrackedTrial("0123456789abcdef", "012345 tiny", "search", {"seed": 1}, {})
PATIENCE_S = 60.0


class Memory:
    """A tracker that keeps what it is told; failures: what it raises first, once each."""

    place = "a memory"

    def __init__(self, *failures: Exception) -> None:
        self.failures, self.epochs, self.closed = list(failures), list[int](), False
        self.second = threading.Event()  # epoch 2 has arrived

    def delivered(self, trial: TrackedTrial) -> Delivered:
        return Delivered(len(self.epochs))

    def trial_started(self, trial: TrackedTrial, at_s: float) -> None: ...

    def epoch(self, trial: TrackedTrial, metrics: Mapping[str, float], at_s: float) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.epochs.append(int(metrics["epoch"]))
        if metrics["epoch"] == 2:
            self.second.set()

    def trial_ended(self, trial: TrackedTrial, ending: Ending, at_s: float) -> None: ...

    def close(self) -> None:
        self.closed = True


class Hanging(Memory):
    """A tracker that does not return until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.released = threading.Event(), threading.Event()

    def epoch(self, trial: TrackedTrial, metrics: Mapping[str, float], at_s: float) -> None:
        self.reached.set()
        assert self.released.wait(PATIENCE_S)
        super().epoch(trial, metrics, at_s)


def send(delivery: Delivery, *epochs: int) -> None:
    for epoch in epochs:
        delivery.send(lambda tracker, epoch=epoch: tracker.epoch(TRIAL, {"epoch": epoch}, 0.0))


def test_records_arrive_in_their_order_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    memory = Memory()
    delivery = Delivery(memory)
    send(delivery, 1, 2, 3)
    assert delivery.close(PATIENCE_S) == 0
    assert memory.epochs == [1, 2, 3] and memory.closed
    assert capsys.readouterr().err == ""


def test_a_record_that_fails_is_sent_again_and_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    memory = Memory(OSError("no route"), OSError("no route"))
    delivery = Delivery(memory, pauses_s=(0.01, 0.01))
    send(delivery, 1, 2)
    assert memory.second.wait(PATIENCE_S)
    assert delivery.close(PATIENCE_S) == 0
    assert memory.epochs == [1, 2]
    err = capsys.readouterr().err
    assert err.splitlines() == ["a memory: reporting failed (no route). The search continues without waiting for it."]


def test_what_a_tracker_refuses_is_counted_and_what_follows_arrives(capsys: pytest.CaptureFixture[str]) -> None:
    memory = Memory(*[ValueError(f"refused {n}") for n in range(3)])
    delivery = Delivery(memory, pauses_s=(0.0, 0.0))
    send(delivery, 1, 2)
    assert memory.second.wait(PATIENCE_S)
    assert delivery.close(PATIENCE_S) == 1
    assert memory.epochs == [2]
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_cannot_be_sent_again_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    memory = Memory(Undelivered("kept in a folder"))
    delivery = Delivery(memory)
    send(delivery, 1, 2)
    assert memory.second.wait(PATIENCE_S)
    assert delivery.close(PATIENCE_S) == 1
    assert memory.epochs == [2]
    assert "(kept in a folder)" in capsys.readouterr().err


def test_a_tracker_that_hangs_holds_nobody_up(capsys: pytest.CaptureFixture[str]) -> None:
    hanging = Hanging()
    delivery = Delivery(hanging, room=5)
    send(delivery, 0)
    assert hanging.reached.wait(PATIENCE_S)
    send(delivery, *range(1, 101))  # would never return if it waited
    assert delivery.close(0.1) == 101
    assert capsys.readouterr().err.splitlines() == [
        "a memory: reporting failed (5 records wait already). The search continues without waiting for it."
    ]
    hanging.released.set()
    assert delivery.close(PATIENCE_S) == 100
    assert hanging.epochs == [0]  # a resumed search may send the others meanwhile
