"""A training that was broken off goes on as if it had not been: the same probabilities, to the bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lymphtune import registry
from lymphtune.cohort import Cohort
from lymphtune.config import Configuration
from lymphtune.training.lockstep import CheckpointError, EpochResult, Protocol, Start, pooled_log_loss, train
from tests.training.networks import protocol, small


def whole(chosen: Configuration, cohort: Cohort, wanted: Protocol, folder: Path) -> list[EpochResult]:
    """Return all results; every epoch's checkpoint and weights are left in the folder."""
    results = []
    for result in train(chosen, cohort, wanted):
        assert result.checkpoint is not None
        result.checkpoint(folder / f"{result.epoch}.checkpoint")
        result.save(folder / f"{result.epoch}")
        results.append(result)
    return results


def assert_same(first: list[EpochResult], second: list[EpochResult]) -> None:
    assert [result.epoch for result in first] == [result.epoch for result in second]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.probabilities_RP, other.probabilities_RP)
        for name in ("train_loss", "train_loss_sd", "learning_rate"):
            assert getattr(one, name) == getattr(other, name)


def same_weights(first: Path, second: Path) -> bool:
    files = sorted(path.name for path in first.iterdir())
    assert files and files == sorted(path.name for path in second.iterdir())
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in files)


@pytest.mark.parametrize("schedule", registry.schedules.words())
@pytest.mark.parametrize("optimiser", ["adamw", pytest.param("sgd", marks=pytest.mark.slow)])
def test_from_any_epoch_it_comes_out_the_same(
    tiny_cohort: Cohort, tmp_path: Path, schedule: str, optimiser: str
) -> None:
    chosen = small(encoder={"resnet": {"filters": 4}}, schedule=schedule, optimiser=optimiser)
    wanted = protocol(tiny_cohort, epochs=4, folds=2)
    unbroken = whole(chosen, tiny_cohort, wanted, tmp_path / "unbroken")
    for epoch in (1, 3):
        start = Start(epoch, tmp_path / "unbroken" / f"{epoch}.checkpoint")
        torch.manual_seed(99)  # what else happened in the process does not matter
        rest = []
        for result in train(chosen, tiny_cohort, wanted, start=start):
            result.save(tmp_path / f"from-{epoch}" / f"{result.epoch}")
            rest.append(result)
        assert_same(unbroken[epoch:], rest)
        assert same_weights(tmp_path / "unbroken" / "4", tmp_path / f"from-{epoch}" / "4")


@pytest.mark.parametrize("changes", [{"moving_average": 0.0}, {"checkpoint": "best"}], ids=str)
def test_averages_and_best_epochs_go_on_too(tiny_cohort: Cohort, tmp_path: Path, changes: dict[str, Any]) -> None:
    chosen = small(learning_rate=0.05, **changes)
    wanted = protocol(tiny_cohort, epochs=5, folds=2, repeats=2)
    unbroken = whole(chosen, tiny_cohort, wanted, tmp_path / "unbroken")
    start = Start(3, tmp_path / "unbroken" / "3.checkpoint")
    rest = []
    for result in train(chosen, tiny_cohort, wanted, start=start):
        result.save(tmp_path / "again" / f"{result.epoch}")
        rest.append(result)
    assert_same(unbroken[3:], rest)
    assert same_weights(tmp_path / "unbroken" / "5", tmp_path / "again" / "5")


@pytest.mark.parametrize("checkpoint", ["last", "best"])
def test_another_cycle_comes_out_the_same_in_one_go_or_from_the_weights(
    tiny_cohort: Cohort, tmp_path: Path, checkpoint: str
) -> None:
    chosen = small(checkpoint=checkpoint, learning_rate=0.02)
    first = protocol(tiny_cohort, epochs=2, folds=2)
    both = replace(first, further_cycles=(5,))
    unbroken = whole(chosen, tiny_cohort, both, tmp_path / "unbroken")
    short = whole(chosen, tiny_cohort, first, tmp_path / "short")
    assert_same(unbroken[:2], short)
    lowest = min(pooled_log_loss(result.probabilities_RP, tiny_cohort.labels) for result in short)
    assert_same(unbroken[2:], list(train(chosen, tiny_cohort, both, start=Start(2, tmp_path / "short" / "2", lowest))))
    inside = Start(4, tmp_path / "unbroken" / "4.checkpoint")
    assert_same(unbroken[4:], list(train(chosen, tiny_cohort, both, start=inside)))


def test_a_new_cycle_starts_at_the_full_learning_rate(tiny_cohort: Cohort, tmp_path: Path) -> None:
    chosen = small(schedule="cosine", learning_rate=0.01)
    wanted = replace(protocol(tiny_cohort, epochs=2, folds=2), further_cycles=(4,))
    rates = [result.learning_rate for result in train(chosen, tiny_cohort, wanted)]
    assert rates[1] == pytest.approx(0, abs=1e-9) and rates[2] > 0.004 and rates[3] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("damage", ["cut", "bytes", "empty", "missing", "other epoch", "other network", "no weights"])
def test_a_damaged_checkpoint_is_refused(tiny_cohort: Cohort, tmp_path: Path, damage: str) -> None:
    chosen, wanted = small(), protocol(tiny_cohort, epochs=3, folds=2)
    whole(chosen, tiny_cohort, wanted, tmp_path)
    path, epoch = tmp_path / "1.checkpoint", 1
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "bytes":
        path.write_bytes(b"\x00" * 4096 + content[4096:])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "missing":
        path.unlink()
    elif damage == "other epoch":
        epoch = 2
    elif damage == "other network":
        chosen = small(encoder={"resnet": {"filters": 4}})
    else:
        path = tmp_path / "1"
        next(path.iterdir()).unlink()
    with pytest.raises(CheckpointError, match=str(path)):
        list(train(chosen, tiny_cohort, wanted, start=Start(epoch, path)))


def test_a_checkpoint_with_code_in_it_is_refused(tiny_cohort: Cohort, tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "harm").touch, ())

    path = tmp_path / "evil.checkpoint"
    torch.save({"epoch": 1, "members": Evil()}, path)
    with pytest.raises(CheckpointError):
        list(train(small(), tiny_cohort, protocol(tiny_cohort, epochs=2), start=Start(1, path)))
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError):
        list(train(small(), tiny_cohort, protocol(tiny_cohort, epochs=2), start=Start(1, path)))
    assert not (tmp_path / "harm").exists()
