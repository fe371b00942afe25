"""A fold model's step: its loss, its gradient, its rates, and what it does when memory runs out."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lymphtune import registry
from lymphtune.cohort import Cohort
from lymphtune.cohort.folds import make_folds
from lymphtune.config import Configuration, configuration
from lymphtune.models.aggregators.feature_mean import FeatureMean
from lymphtune.models.bag_classifier import BagClassifier
from lymphtune.models.output import BagOutput
from lymphtune.statistics.metrics import auc
from lymphtune.training import network
from lymphtune.training.batches import FLIPS, SUBSAMPLES, Bags, Batch
from lymphtune.training.network import NetworkMember
from tests.training.networks import CPU, FOLDS, member_of, probabilities, small, trained

P_PLAIN = small(head="linear")


def first_batch(member: NetworkMember) -> Batch:
    return next(member.batches(1))


def gradients(module: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]


# ---- the loss


def test_label_smoothing_by_hand(tiny_cohort: Cohort) -> None:
    probability_B, labels_B = torch.tensor([0.9, 0.2]), torch.tensor([1.0, 0.0])
    first = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    second = -(0.1 * np.log(0.2) + 0.9 * np.log(0.8))
    smoothed = network.bag_loss(probability_B, labels_B, (1.0, 1.0), 0.2)
    assert float(smoothed) == pytest.approx((first + second) / 2, rel=1e-6)
    weighted = network.bag_loss(probability_B, labels_B, (1.0, 3.0), 0.2)
    assert float(weighted) == pytest.approx((3 * first + second) / 2, rel=1e-6)
    member = member_of(small(label_smoothing=0.2, class_weight="none"), tiny_cohort)
    assert member.loss(BagOutput(probability_B, torch.ones(2, 1)), labels_B) == smoothed


def test_late_experts_learn_each_by_themselves(tiny_cohort: Cohort) -> None:
    """The encoder's gradient is that of the pictures' expert's loss, whatever the attributes' expert says."""
    member = member_of(small("late", head="linear"), tiny_cohort)
    batch = first_batch(member)
    loss = member.backward(batch)
    given = gradients(member.live.encoder)
    output = member.live(batch.cells, batch.counts, batch.attributes_BA)
    of_each = [
        network.bag_loss(probability_B, batch.labels_B, member.class_weights)
        for probability_B in output.expert_probability_XB
    ]
    assert float(loss) == pytest.approx(sum(loss.item() for loss in of_each) / 2, rel=1e-6)
    alone = torch.autograd.grad(of_each[0] / 2, list(member.live.encoder.parameters()))
    assert any(gradient.abs().max() > 0 for gradient in alone)
    for one, other in zip(given, alone, strict=True):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        for parameter in member.live.fusion.clinical.parameters():
            parameter.add_(1.0)
    member.backward(batch)
    for one, other in zip(given, gradients(member.live.encoder), strict=True):
        assert one.equal(other)


@pytest.mark.parametrize("weight", [0.0, 0.5, 0.9])
def test_a_gated_model_weighs_its_own_loss_and_its_experts(tiny_cohort: Cohort, weight: float) -> None:
    member = member_of(small({"gated": {"expert_loss": weight}}, head="linear"), tiny_cohort)
    batch = first_batch(member)
    output = member.live(batch.cells, batch.counts, batch.attributes_BA)
    given = (batch.labels_B, member.class_weights)
    mixed = network.bag_loss(output.probability_B, *given).item()
    experts = np.mean(
        [network.bag_loss(probability_B, *given).item() for probability_B in output.expert_probability_XB]
    )
    assert mixed != pytest.approx(experts, rel=1e-4)
    assert float(member.backward(batch)) == pytest.approx((1 - weight) * mixed + weight * experts, rel=1e-5)


# ---- the step


@pytest.mark.parametrize("limit", [None, 1e-3])
def test_the_gradient_is_cut_to_its_largest_norm(tiny_cohort: Cohort, limit: float | None) -> None:
    member = member_of(small(head="linear", gradient_clip=limit), tiny_cohort)
    batch = first_batch(member)
    member.backward(batch)
    before = gradients(member.live)
    norm = float(torch.cat([gradient.ravel() for gradient in before]).norm())
    assert norm > 1e-2
    member.step(batch)
    after = gradients(member.live)
    assert float(torch.cat([gradient.ravel() for gradient in after]).norm()) == pytest.approx(limit or norm, rel=1e-3)
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one * ((limit or norm) / norm), other, rtol=1e-3, atol=1e-9)


def timm(weights: Path | None, **options: Any) -> dict[str, Any]:
    given = {} if weights is None else {"weights": str(weights / "test_resnet.safetensors")}
    return {"timm:test_resnet": given | options}


@pytest.mark.parametrize("schedule", registry.schedules.words())
def test_a_pretrained_encoder_learns_at_its_own_rate(
    tiny_cohort: Cohort, backbone_weights: Path, schedule: str
) -> None:
    chosen = small(encoder=timm(backbone_weights, learning_rate_factor=0.2), schedule=schedule, data={"crop_px": 64})
    member = member_of(chosen, tiny_cohort, epochs=4)
    rest, encoder = member.optimiser.param_groups
    assert {id(p) for p in encoder["params"]} == {id(p) for p in member.live.encoder.parameters()}
    assert len(rest["params"]) + len(encoder["params"]) == len(list(member.live.parameters()))
    taken = []
    for _ in range(4 * 3):
        taken.append(rest["lr"])
        assert encoder["lr"] == pytest.approx(0.2 * rest["lr"], rel=1e-6)
        assert member.learning_rate == rest["lr"]
        member.optimiser.step()
        member.schedule.step()
    assert max(taken) <= 3e-3 * 1.000001 and max(taken) > 1e-3


def test_fine_tuning_starts_from_the_weights_and_moves_them(tiny_cohort: Cohort, backbone_weights: Path) -> None:
    chosen = small(encoder=timm(backbone_weights), data={"crop_px": 64}, patients_per_step=12)
    member = member_of(chosen, tiny_cohort)
    given = load_file(backbone_weights / "test_resnet.safetensors")
    kept = member.live.encoder.backbone.network
    assert all(value.equal(given[name]) for name, value in kept.state_dict().items())
    member.step(first_batch(member))
    assert any(not value.equal(given[name]) for name, value in kept.named_parameters())
    scratch = member_of(small(encoder=timm(None), data={"crop_px": 64}), tiny_cohort)
    assert len(scratch.optimiser.param_groups) == 1  # no pretrained weights: one rate for all


def test_every_part_learns_at_its_own_rate(tiny_cohort: Cohort, backbone_weights: Path) -> None:
    encoder = timm(backbone_weights, learning_rate_factor=0.2)
    member = member_of(small("gated", encoder, data={"crop_px": 64}, schedule="constant"), tiny_cohort)
    groups = {round(group["lr"] / 3e-3, 6): len(group["params"]) for group in member.optimiser.param_groups}
    parts = (member.live, member.live.encoder, member.live.fusion.clinical)
    n_all, n_encoder, n_clinical = (len(list(part.parameters())) for part in parts)
    assert groups == {1.0: n_all - n_encoder - n_clinical, 0.2: n_encoder, 10.0: n_clinical}
    assert member.optimiser.param_groups[0]["lr"] == 3e-3  # the rate that is reported


def test_batch_statistics_are_measured_for_features_too(tiny_cohort: Cohort) -> None:
    """Some networks normalise pooled features: their lagging statistics would judge as badly as those of maps."""
    member = member_of(small(), tiny_cohort)
    pooled = torch.nn.BatchNorm1d(member.live.encoder.features)
    for model in (member.live, member.average.model):
        model.encoder = torch.nn.Sequential(model.encoder, copy.deepcopy(pooled))
    member.close_epoch(1, [torch.tensor(1.0)])
    assert float(member.average.model.encoder[1].running_mean.abs().sum()) > 0
    assert not member.average.model.training


# ---- judging


def flipped(cohort: Cohort, orientation: int) -> Cohort:
    pictures = cohort.pictures_CSS3[:, :: -1 if orientation & 2 else 1, :: -1 if orientation & 1 else 1]
    return replace(cohort, pictures_CSS3=np.ascontiguousarray(pictures))


def test_tta_is_the_mean_over_four_flipped_cohorts(noisy_cohort: Cohort) -> None:
    chosen = small("gated", head="linear", data={"tta": True}, learning_rate=1e-2)
    member = member_of(chosen, noisy_cohort)
    member.train_epoch(1)
    rows, once = noisy_cohort.labelled, chosen.data.model_copy(update={"tta": False})
    four = [
        network.predict(
            member.average.model, Bags(flipped(noisy_cohort, orientation), once, CPU), rows, member.precision
        )
        for orientation in FLIPS
    ]
    assert not np.allclose(four[0].probability_P, four[1].probability_P, rtol=0, atol=1e-6)
    found = member.predict(rows)
    np.testing.assert_allclose(found.probability_P, np.mean([one.probability_P for one in four], axis=0), atol=1e-7)
    np.testing.assert_allclose(found.gate_P, np.mean([one.gate_P for one in four], axis=0), atol=1e-7)


def judged_cells(
    cohort: Cohort, fusion: str, aggregator: str, **data: Any
) -> tuple[network.Prediction, network.CellPrediction]:
    """Return what a network that was trained for an epoch says of the labelled patients, in bags of unequal size."""
    given = small(fusion, head="linear", data=data, learning_rate=1e-2).as_yaml()
    given["model"]["aggregator"] = aggregator
    member = member_of(configuration(given, "test"), cohort)
    member.train_epoch(1)
    found = member.predict(cohort.labelled)
    again, of_cells = network.predict_cells(member.average.model, member.bags, cohort.labelled, member.precision)
    np.testing.assert_array_equal(again.probability_P, found.probability_P)
    np.testing.assert_array_equal(again.gate_P, found.gate_P)
    return found, of_cells


def means(cohort: Cohort, values_C: np.ndarray) -> np.ndarray:
    """Return the mean over each labelled patient's cells."""
    counts = cohort.patients["n_cells"].to_numpy()[cohort.labelled]
    assert len(values_C) == counts.sum() and len(set(counts)) > 1
    return np.array([some.mean() for some in np.split(values_C, counts.cumsum()[:-1])])


@pytest.mark.parametrize("aggregator", registry.aggregators.words())
@pytest.mark.parametrize("fusion", registry.fusions.words())
def test_weights_of_cells_sum_to_one_a_bag(tiny_cohort: Cohort, fusion: str, aggregator: str) -> None:
    _, of_cells = judged_cells(tiny_cohort, fusion, aggregator)
    counts = tiny_cohort.patients["n_cells"].to_numpy()[tiny_cohort.labelled]
    np.testing.assert_allclose(means(tiny_cohort, of_cells.weight_C) * counts, 1, rtol=0, atol=1e-6)
    assert (of_cells.weight_C >= 0).all()
    judges = aggregator in ("prediction_mean", "top_k_mean", "log_sum_exp")
    assert np.isnan(of_cells.probability_C).all() != judges and np.isnan(of_cells.probability_C).any() != judges


@pytest.mark.parametrize("tta", [False, True])
@pytest.mark.parametrize("fusion", ["none", "concat"])
def test_the_mean_of_cells_is_the_bag_where_the_bag_is_that(tiny_cohort: Cohort, fusion: str, tta: bool) -> None:
    found, of_cells = judged_cells(tiny_cohort, fusion, "prediction_mean", tta=tta)
    assert np.ptp(of_cells.probability_C) > 1e-3
    np.testing.assert_allclose(means(tiny_cohort, of_cells.probability_C), found.probability_P, rtol=0, atol=1e-6)


def test_cells_are_those_of_the_pictures_expert(tiny_cohort: Cohort) -> None:
    member = member_of(small("late", head="linear"), tiny_cohort)
    rows = tiny_cohort.labelled
    _, of_cells = network.predict_cells(member.average.model, member.bags, rows, member.precision)
    (batch,) = member.bags.evaluation(rows)
    with torch.no_grad():
        output = member.average.model(batch.cells, batch.counts, batch.attributes_BA)
    np.testing.assert_allclose(
        means(tiny_cohort, of_cells.probability_C), output.expert_probability_XB[0].numpy(), rtol=0, atol=1e-6
    )


def test_cells_in_every_view_count_alike(noisy_cohort: Cohort) -> None:
    chosen = small("none", head="linear", data={"tta": True}, learning_rate=1e-2)
    member = member_of(chosen, noisy_cohort)
    member.train_epoch(1)
    rows, once, model = noisy_cohort.labelled, chosen.data.model_copy(update={"tta": False}), member.average.model
    four = [
        network.predict_cells(model, Bags(flipped(noisy_cohort, orientation), once, CPU), rows, member.precision)[1]
        for orientation in FLIPS
    ]
    found = network.predict_cells(model, member.bags, rows, member.precision)[1]
    assert not np.allclose(four[0].probability_C, found.probability_C, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.probability_C, np.mean([one.probability_C for one in four], axis=0), atol=1e-7)


@pytest.mark.parametrize("fusion", registry.fusions.words())
def test_only_a_gated_model_has_a_gate(tiny_cohort: Cohort, fusion: str) -> None:
    (result,) = trained(small(fusion, head="linear"), tiny_cohort, epochs=1)
    judged = ~np.isnan(result.probabilities_RP)
    if fusion == "gated":
        assert ((result.gates_RP > 0) & (result.gates_RP < 1))[judged].all() and np.isnan(
            result.gates_RP[~judged]
        ).all()
    else:
        assert np.isnan(result.gates_RP).all()


# ---- memory


def at_most(monkeypatch: pytest.MonkeyPatch, limit: int) -> list[int]:
    """Let an encoder have memory for so many cells at once; return the numbers of cells that go through."""
    real, seen = BagClassifier.encode_at_once, []

    def encode(self: BagClassifier, cells_MHW3: torch.Tensor) -> torch.Tensor:
        if len(cells_MHW3) > limit:
            raise torch.OutOfMemoryError(f"{len(cells_MHW3)} cells")
        seen.append(len(cells_MHW3))
        return real(self, cells_MHW3)

    monkeypatch.setattr(BagClassifier, "encode_at_once", encode)
    return seen


@pytest.mark.parametrize("chosen", [P_PLAIN, small("gated", {"resnet": {"filters": 8, "norm": "group"}}, "linear")])
def test_a_step_that_does_not_fit_is_taken_in_halves(
    tiny_cohort: Cohort, monkeypatch: pytest.MonkeyPatch, chosen: Configuration
) -> None:
    """12 cells, then 6, then 3 at once: the same model, but for rounding."""
    plenty = trained(chosen, tiny_cohort)
    assert [result.chunk_pixels for result in plenty] == [0] * 2
    seen = at_most(monkeypatch, 5)
    tight = trained(chosen, tiny_cohort)
    assert [result.chunk_pixels for result in tight] == [3 * 40 * 40] * 2
    assert seen and max(seen) == 3
    np.testing.assert_allclose(probabilities(tight), probabilities(plenty), rtol=0, atol=1e-4)


def test_batch_norm_is_trained_in_halves_too(tiny_cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    at_most(monkeypatch, 6)
    tight = trained(small(encoder={"resnet": {"filters": 8}}), tiny_cohort, epochs=1)
    assert tight[0].chunk_pixels == 6 * 40 * 40 and np.isfinite(tight[0].train_loss)


def test_a_trial_may_start_with_less(tiny_cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = at_most(monkeypatch, 100)
    (result,) = trained(P_PLAIN, tiny_cohort, epochs=1, chunk_pixels=4 * 40 * 40)
    assert result.chunk_pixels == 0 and max(seen) == 4  # nothing new to tell


def test_judging_makes_room_as_well(tiny_cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    member = member_of(P_PLAIN, tiny_cohort)
    expected = member.predict(tiny_cohort.labelled).probability_P
    at_most(monkeypatch, 3)
    found = member.predict(tiny_cohort.labelled).probability_P
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert member.live.chunk.at_once(100, 40) <= 3  # shared with the average


def test_a_single_cell_that_does_not_fit_is_an_error(tiny_cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    at_most(monkeypatch, 0)
    with pytest.raises(torch.OutOfMemoryError, match="1 cells"):
        trained(P_PLAIN, tiny_cohort)


# ---- bags of one size


@pytest.fixture
def told_by_size(noisy_cohort: Cohort) -> Cohort:
    """Patients whose cells are all alike, but that tumoral ones have three times as many."""
    labels = np.arange(24) % 2
    patients = pd.concat([noisy_cohort.patients.iloc[:1]] * 24, ignore_index=True)
    patients = patients.assign(patient=[f"P{number}" for number in range(24)], label=labels, n_cells=2 + 4 * labels)
    count = int(patients["n_cells"].sum())
    digests = [f"{number:064x}" for number in range(count)]
    pictures = np.full((count, 44, 44, 3), 90, np.uint8)
    return replace(noisy_cohort, patients=patients, pictures_CSS3=pictures, picture_digests=digests)


def sum_over_cells(self: FeatureMean, cells_BND: Tensor, mask_BN: Tensor, head: Any) -> BagOutput:
    """An aggregation that sees how many cells there are, and of these cells nothing else."""
    summed_BD = (cells_BND * mask_BN[..., None]).sum(dim=1)
    return BagOutput(head(summed_BD).float().sigmoid(), mask_BN / mask_BN.sum(dim=1, keepdim=True))


def test_a_model_that_knows_but_the_size_of_bags_learns_nothing_where_it_is_fixed(
    told_by_size: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FeatureMean, "forward", sum_over_cells)

    def out_of_fold(bag_size: Any, epochs: int = 1) -> np.ndarray:
        data = {"bag_size": bag_size, "flips": False, "quarter_turns": False}
        chosen = small(
            "none", head="linear", aggregator="feature_mean", data=data, learning_rate=0.03, moving_average=0.0
        )
        return trained(chosen, told_by_size, epochs=epochs)[-1].probabilities_RP[0]

    assert float(auc(out_of_fold(None, epochs=4), told_by_size.labels)) == 1
    for size in ("fixed", "fixed:5"):
        probability_P, fold_P = out_of_fold(size), make_folds(told_by_size.labels, FOLDS, 1, 0)[0]
        for fold in range(FOLDS):
            assert np.ptp(probability_P[fold_P == fold]) < 1e-6  # a fold model predicts the same for all


def test_what_is_said_of_a_bag_of_fixed_size_is_the_mean_over_its_draws(tiny_cohort: Cohort) -> None:
    member = member_of(small("none", head="linear", data={"bag_size": "fixed:2"}), tiny_cohort)
    model, rows = member.average.model.eval(), tiny_cohort.labelled
    with torch.no_grad():
        of_draws = [
            np.concatenate(
                [
                    model(batch.cells, batch.counts, batch.attributes_BA).probability_B.double().numpy()
                    for batch in member.bags.evaluation(rows, 0, subsample)
                ]
            )
            for subsample in range(SUBSAMPLES)
        ]
    found = member.predict(rows)
    np.testing.assert_allclose(found.probability_P, np.mean(of_draws, axis=0), atol=1e-6)
    assert np.std(of_draws, axis=0).max() > 1e-6
    again, of_cells = network.predict_cells(model, member.bags, rows, member.precision)
    np.testing.assert_array_equal(again.probability_P, found.probability_P)
    assert len(of_cells.probability_C) == tiny_cohort.patients["n_cells"].to_numpy()[rows].sum()
    assert np.isfinite(of_cells.weight_C).all()
