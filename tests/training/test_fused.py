"""Fold models side by side: the same as one after the other."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lymphtune.cohort import Cohort
from lymphtune.config import Configuration
from lymphtune.models import bag_classifier
from lymphtune.training.arithmetic import Arithmetic
from lymphtune.training.batches import Bags
from lymphtune.training.frozen import features
from lymphtune.training.fused import Fused
from lymphtune.training.lockstep import fold_models
from lymphtune.training.network import NetworkMember
from tests.training.networks import CPU, FOLDS, probabilities, protocol, small, trained

PLAIN_HEAD = {"mlp": {"hidden": [8], "dropout": 0.0}}
KINDS = ("batch", "group", "gated", "frozen")
FIRST = Arithmetic("float32", channels_last=False)  # group norm's gradient is good to 1 % with channels last


def chosen_of(kind: str, weights: Path, **given: Any) -> Configuration:
    if kind == "frozen":
        encoder: Any = {"timm:test_resnet": {"weights": str(weights / "test_resnet.safetensors"), "frozen": True}}
        given["data"] = {"crop_px": 64, "flips": False, "quarter_turns": False} | given.get("data", {})
        return small("concat", encoder, PLAIN_HEAD, **given)
    if kind == "gated":
        return small("gated", "vanilla", "linear", **given)
    return small("concat", {"resnet": {"filters": 8, "norm": kind}}, PLAIN_HEAD, **given)


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each step was taken together, in their order."""
    real, steps = Fused.alike, []

    def alike(*given: Any) -> bool:
        steps.append(real(*given))
        return steps[-1]

    monkeypatch.setattr(Fused, "alike", alike)
    return steps


def assert_the_same(chosen: Configuration, cohort: Cohort, **wanted: Any) -> None:
    apart, side_by_side = (trained(chosen, cohort, fused=way, arithmetic=FIRST, **wanted) for way in (False, True))
    np.testing.assert_allclose(probabilities(side_by_side), probabilities(apart), rtol=0, atol=1e-4)
    np.testing.assert_allclose([r.train_loss for r in side_by_side], [r.train_loss for r in apart], rtol=0, atol=1e-4)
    np.testing.assert_allclose([r.gates_RP for r in side_by_side], [r.gates_RP for r in apart], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_fused_training_says_the_same(
    tiny_cohort: Cohort, backbone_weights: Path, kind: str, together: list[bool]
) -> None:
    assert_the_same(chosen_of(kind, backbone_weights, learning_rate=1e-3), tiny_cohort)
    assert together == [True] * 4  # two epochs of two steps


@pytest.mark.parametrize("kind", ["group", "frozen"])
def test_bags_of_unequal_size_are_learnt_one_after_the_other(
    tiny_cohort: Cohort, backbone_weights: Path, kind: str, together: list[bool]
) -> None:
    assert_the_same(chosen_of(kind, backbone_weights, learning_rate=1e-3, data={"bag_size": None}), tiny_cohort)
    assert False in together


def test_a_last_batch_that_some_models_lack_is_learnt_by_the_others(
    tiny_cohort: Cohort, backbone_weights: Path, together: list[bool]
) -> None:
    """12 patients in 5 folds: 9 or 10 to learn from."""
    chosen = chosen_of("gated", backbone_weights, patients_per_step=3, learning_rate=1e-3)
    assert_the_same(chosen, tiny_cohort, folds=5)
    assert together == [True, True, True, False] * 2


def test_more_cells_than_a_chunk_are_learnt_one_after_the_other(tiny_cohort: Cohort, together: list[bool]) -> None:
    chosen = small("concat", "vanilla", PLAIN_HEAD)
    assert_the_same(chosen, tiny_cohort, chunk_pixels=5 * 40 * 40)
    assert together == [False] * 4


def test_the_cells_of_all_models_together_count_against_the_chunk(tiny_cohort: Cohort, together: list[bool]) -> None:
    chosen = small("concat", "vanilla", PLAIN_HEAD)
    everyone = FOLDS * 4 * 3  # patients a step, cells of each
    assert_the_same(chosen, tiny_cohort, chunk_pixels=everyone * 40 * 40)
    assert together == [True] * 4
    together.clear()
    assert_the_same(chosen, tiny_cohort, chunk_pixels=(everyone - 1) * 40 * 40)
    assert together == [False] * 4


def members_of(chosen: Configuration, cohort: Cohort, arithmetic: Arithmetic = FIRST) -> list[NetworkMember]:
    folds_RP = protocol(cohort).folds_RP
    bags = Bags(cohort, chosen.data, CPU, features(chosen, cohort, CPU))
    rows = [np.setdiff1d(cohort.labelled, np.flatnonzero(folds_RP[0] == fold)) for _, fold in fold_models(folds_RP)]
    return [NetworkMember(chosen, bags, of, 2, [0, 0, number], arithmetic) for number, of in enumerate(rows)]


def test_a_result_says_whether_steps_were_taken_together(tiny_cohort: Cohort, together: list[bool]) -> None:
    for bag_size, expected in ((3, True), (None, False)):
        results = trained(small(head=PLAIN_HEAD, data={"bag_size": bag_size}), tiny_cohort, fused=True)
        assert [result.fused for result in results] == [expected] * 2 == [any(together)] * 2
        together.clear()


@pytest.mark.parametrize("pooling", ["average", "flatten"])
def test_batch_norm_goes_together_in_bfloat16_and_with_channels_last(tiny_cohort: Cohort, pooling: str) -> None:
    chosen = small(encoder={"resnet": {"filters": 16, "pooling": pooling}}, head=PLAIN_HEAD, precision="auto")
    members = members_of(chosen, tiny_cohort, Arithmetic("bfloat16", channels_last=True))
    batches = [next(member.batches(1)) for member in members]
    losses = [float(member.learn(batch)) for member, batch in zip(members, batches, strict=True)]
    apart = [gradient(member) for member in members]
    np.testing.assert_allclose([float(loss) for loss in Fused(members).learn(batches)], losses, rtol=1e-3)
    for member, expected in zip(members, apart, strict=True):
        assert float((gradient(member) - expected).norm() / expected.norm()) < 0.1  # 8 bits


def gradient(member: NetworkMember) -> torch.Tensor:
    return torch.cat([p.grad.ravel() for p in member.live.parameters() if p.grad is not None])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_each_model_alone(tiny_cohort: Cohort, backbone_weights: Path, kind: str) -> None:
    members = members_of(chosen_of(kind, backbone_weights), tiny_cohort)
    batches = [next(member.batches(1)) for member in members]
    losses = [float(member.learn(batch)) for member, batch in zip(members, batches, strict=True)]
    apart = [[p.grad.clone() for p in member.live.parameters() if p.grad is not None] for member in members]
    fused_losses = [float(loss) for loss in Fused(members).learn(batches) if loss is not None]
    assert len(members) == FOLDS and len(set(losses)) == FOLDS
    np.testing.assert_allclose(fused_losses, losses, rtol=1e-5)
    for member, expected in zip(members, apart, strict=True):
        given = [p.grad for p in member.live.parameters() if p.grad is not None]
        for one, other in zip(given, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["batch", "gated"])
def test_finding_out_what_is_faster_changes_nothing_learnt(
    tiny_cohort: Cohort, backbone_weights: Path, kind: str
) -> None:
    chosen = chosen_of(kind, backbone_weights)
    members, fresh = (members_of(chosen, tiny_cohort) for _ in range(2))
    assert Fused(members).faster() in (True, False)
    for one, other in zip(members, fresh, strict=True):
        for (name, value), (_, expected) in zip(
            one.live.named_parameters(), other.live.named_parameters(), strict=True
        ):
            assert value.equal(expected), name
    assert [member.train_epoch(1) for member in members] == [member.train_epoch(1) for member in fresh]
    rows = tiny_cohort.labelled
    for one, other in zip(members, fresh, strict=True):
        np.testing.assert_array_equal(one.judge(rows).probability_P, other.judge(rows).probability_P)


def test_what_takes_far_longer_together_is_not_tried_for_long(
    tiny_cohort: Cohort, backbone_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side_by_side, tried = Fused(members_of(chosen_of("gated", backbone_weights), tiny_cohort)), []

    def slow(*_: Any) -> None:
        tried.append(1)
        time.sleep(0.5)

    monkeypatch.setattr(side_by_side, "learn", slow)
    monkeypatch.setattr(NetworkMember, "learn", lambda *_: None)
    assert not side_by_side.faster()
    assert len(tried) == 2  # of WARM + TIMED


def test_one_model_alone_is_never_faster_together(tiny_cohort: Cohort, backbone_weights: Path) -> None:
    assert not Fused(members_of(chosen_of("gated", backbone_weights), tiny_cohort)[:1]).faster()


def test_fused_losses_and_gradients_hold_no_graph(tiny_cohort: Cohort, backbone_weights: Path) -> None:
    members = members_of(chosen_of("gated", backbone_weights), tiny_cohort)
    losses = Fused(members).learn([next(member.batches(1)) for member in members])
    assert not any(loss is None or loss.requires_grad for loss in losses)
    gradients = [parameter.grad for member in members for parameter in member.live.parameters()]
    assert not any(gradient is None or gradient.requires_grad for gradient in gradients)


def test_more_cells_than_are_free_to_count_are_learnt_together(tiny_cohort: Cohort, together: list[bool]) -> None:
    chosen = small("none", {"resnet": {"filters": 4}}, "linear", patients_per_step=8, data={"bag_size": 3})
    assert bag_classifier.FREE_CELLS < 8 * 3
    assert_the_same(chosen, tiny_cohort, epochs=1)
    assert any(together)


def test_where_all_together_do_not_fit_they_learn_apart(
    tiny_cohort: Cohort, backbone_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = members_of(chosen_of("gated", backbone_weights), tiny_cohort)
    side_by_side, tried = Fused(members), []

    def full(*_: Any) -> Any:
        tried.append(1)
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(side_by_side, "learn", full)
    expected = [member.train_epoch(1) for member in members_of(chosen_of("gated", backbone_weights), tiny_cohort)]
    assert side_by_side.train_epoch(1) == expected
    assert len(tried) == 1  # and not again
