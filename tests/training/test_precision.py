"""Precision and layout: measured once a machine, overruled by a configuration, and of no consequence to an answer."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lymphtune.cohort import Cohort
from lymphtune.models.bag_classifier import BagClassifier
from lymphtune.training import network, precision
from lymphtune.training.batches import Bags
from lymphtune.training.loading import predict_cells_with, predict_with
from lymphtune.training.lone_cells import predict_lone_cells_with
from lymphtune.training.network import NetworkMember
from lymphtune.training.precision import Precision, default_precision, fastest_precision
from tests.training.networks import CPU, member_of, small

PLAIN = Precision("float32", channels_last=False)
LAST = Precision("float32", channels_last=True)
BRIEF = Precision("bfloat16", channels_last=True)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LYMPHTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def take(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> list[Precision]:
    """Let every candidate take 1 s, or the seconds given for it; return those that are timed."""
    timed: list[Precision] = []

    def took(tried: Precision, device: torch.device) -> float:
        timed.append(tried)
        return seconds.get(f"{tried.precision}_{'last' if tried.channels_last else 'first'}", 1.0)

    monkeypatch.setattr(precision, "_step_seconds", took)
    return timed


def test_a_machine_is_measured_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = take(monkeypatch, bfloat16_last=0.4, float32_last=0.6)
    assert fastest_precision(CPU, 1) == BRIEF
    assert len(timed) == len(set(timed)) == 4
    (kept,) = cache.glob("arithmetic-*.json")
    cached = json.loads(kept.read_text())
    assert cached["fastest"] == ["bfloat16", True] and sorted(cached["seconds"]) == [0.4, 0.6, 1.0, 1.0]

    def never(*_: object) -> float:
        raise AssertionError("measured again")

    monkeypatch.setattr(precision, "_step_seconds", never)
    assert fastest_precision(CPU, 1) == BRIEF and isinstance(fastest_precision(CPU, 1), Precision)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({}, PLAIN),
        ({"float32_last": 0.95}, PLAIN),
        ({"float32_last": 0.89}, LAST),
        ({"bfloat16_last": 0.5}, BRIEF),
        ({"bfloat16_last": 2.0, "bfloat16_first": 3.0, "float32_last": 1.1}, PLAIN),
    ],
)
def test_plain_float32_is_left_for_a_tenth_at_least(
    cache: Path, monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float], expected: Precision
) -> None:
    take(monkeypatch, **seconds)
    assert fastest_precision(CPU, 1) == expected


@pytest.mark.parametrize("damaged", ["", "{", "[]", "{}", '{"fastest": 3}', '{"fastest": ["float32"]}', "\x00"])
def test_a_damaged_note_is_measured_anew(cache: Path, monkeypatch: pytest.MonkeyPatch, damaged: str) -> None:
    take(monkeypatch, float32_last=0.5)
    fastest_precision(CPU, 1)
    (kept,) = cache.glob("arithmetic-*.json")
    kept.write_text(damaged)
    take(monkeypatch, bfloat16_last=0.5)
    assert fastest_precision(CPU, 1) == BRIEF
    assert json.loads(kept.read_text())["fastest"] == ["bfloat16", True]


def test_what_cannot_be_kept_is_taken_all_the_same(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A search must not end here for a cache folder that can only be read."""
    take(monkeypatch, bfloat16_last=0.4, float32_last=0.6)
    cache.write_text("in the way")
    assert fastest_precision(CPU, 1) == BRIEF
    assert re.search("The measured precision is not cached: .*cannot be written", capsys.readouterr().err)


def test_a_step_is_really_timed() -> None:
    assert 0 < precision._step_seconds(LAST, CPU) < 60


def test_a_step_that_does_not_fit_takes_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> float:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(precision, "_timed_step", full)
    assert precision._step_seconds(LAST, CPU) == precision.OUT_OF_MEMORY_S


def test_saved_networks_are_asked_in_unrounded_float32(
    tiny_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU convolutions round to 10 bits unless told otherwise."""
    chosen, seen = small(head="linear"), []

    def flags() -> tuple[bool, bool]:
        return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    monkeypatch.setattr(BagClassifier, "encode", watched(BagClassifier.encode, lambda: seen.append(flags())))
    before, path = flags(), tmp_path / "a.safetensors"
    NetworkMember.save(member_of(chosen, tiny_cohort).state(), path)
    rows = tiny_cohort.labelled
    predict_with(path, chosen, tiny_cohort, rows)
    predict_cells_with(path, chosen, tiny_cohort, rows)
    predict_lone_cells_with(path, chosen, tiny_cohort, rows, {})
    assert len(seen) == 3 and set(seen) == {(False, False)} and flags() == before


def watched(work: Callable[..., Any], note: Callable[[], None]) -> Callable[..., Any]:
    def both(*given: Any) -> Any:
        note()
        return work(*given)

    return both


def test_what_is_usual_is_one_of_those_that_are_tried() -> None:
    assert default_precision(CPU) in precision._candidates(CPU)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_configuration_overrules_the_precision(tiny_cohort: Cohort, precision: str) -> None:
    for given in (PLAIN, LAST, BRIEF):
        member = member_of(small(precision=precision), tiny_cohort, precision=given)
        assert member.precision == Precision(precision, given.channels_last)
        assert member_of(small(precision="auto"), tiny_cohort, precision=given).precision == given


@pytest.mark.parametrize("encoder", ["vanilla", {"resnet": {"filters": 8}}], ids=["vanilla", "resnet"])
def test_the_layout_changes_no_probability(tiny_cohort: Cohort, encoder: object) -> None:
    chosen = small(encoder=encoder, head="linear")
    torch.manual_seed(0)
    model = BagClassifier(chosen)
    bags, predictions = Bags(tiny_cohort, chosen.data, CPU), []
    model.fit_attributes(bags.attributes_PA)
    for last in (True, False):
        model.set_memory_format(last)
        predictions.append(network.predict(model, bags, tiny_cohort.labelled, Precision("float32", last)).probability_P)
    np.testing.assert_allclose(predictions[0], predictions[1], rtol=0, atol=1e-5)
