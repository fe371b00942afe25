"""What every word of every family owes the others; a new file in a family's folder is tested on arrival.

Shapes: B bags, M cells of all bags together, N cells in the longest bag, S side of a picture.
"""

import dataclasses
import importlib
import inspect
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from lymphtune import registry
from lymphtune.cohort import Cohort
from lymphtune.config import Configuration
from lymphtune.errors import InputError
from lymphtune.models.bag_classifier import BagClassifier, as_pictures
from lymphtune.models.output import BagOutput
from lymphtune.training.batches import Bags
from lymphtune.training.loading import load_network
from lymphtune.training.network import NetworkMember
from lymphtune.training.precision import Precision
from tests.models.small import ATTRIBUTES, COUNTS, CROP_PX, built, cells, network, output_of, small

FAMILIES = [value for value in vars(registry).values() if isinstance(value, registry.Family)]
WORDS = [(family, word) for family in FAMILIES for word in family.words()]
COMBINATIONS = list(
    itertools.product(registry.encoders.words(), registry.aggregators.words(), registry.fusions.words())
)
SPARSE = {"top_k_mean"}  # aggregators that leave real cells out
STEPS = 60  # of the overfit, at most


@pytest.fixture(params=COMBINATIONS, ids="-".join, scope="module")
def chosen(request: pytest.FixtureRequest) -> Configuration:
    encoder, aggregator, fusion = request.param
    return network(small(encoder), aggregator, fusion, {"mlp": {"hidden": [8], "dropout": 0.5}})


@pytest.fixture(scope="module")
def model(chosen: Configuration) -> BagClassifier:
    """One for all tests of a combination; none changes its weights."""
    return built(chosen)


@pytest.fixture(scope="module")
def first(model: BagClassifier) -> BagOutput:
    """What it says of nine cells."""
    with torch.no_grad():
        return output_of(model, cells(9))


@torch.no_grad()
def test_the_order_of_cells_changes_nothing(model: BagClassifier, first: BagOutput) -> None:
    pictures = cells(9)
    turned = torch.cat([bag.flip(0) for bag in pictures.split(COUNTS)])
    assert not turned.equal(pictures)
    again = output_of(model, turned)
    torch.testing.assert_close(again.probability_B, first.probability_B, atol=1e-5, rtol=0)
    back_BN = torch.zeros_like(first.weight_BN)
    for row, count in enumerate(COUNTS):
        back_BN[row, :count] = again.weight_BN[row, :count].flip(0)
    torch.testing.assert_close(back_BN, first.weight_BN, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_batch_says_what_its_bags_say_one_by_one(model: BagClassifier, first: BagOutput) -> None:
    """Neither padding nor neighbours count."""
    for row, bag in enumerate(cells(9).split(COUNTS)):
        alone = output_of(model, bag, COUNTS[row : row + 1], ATTRIBUTES[row : row + 1])
        torch.testing.assert_close(alone.probability_B, first.probability_B[row : row + 1], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.weight_BN[0], first.weight_BN[row, : COUNTS[row]], atol=1e-5, rtol=0)


@torch.no_grad()
def test_weights_are_shares_of_real_cells(chosen: Configuration, first: BagOutput) -> None:
    assert chosen.model is not None
    padding_BN = torch.arange(max(COUNTS)) >= torch.tensor(COUNTS)[:, None]
    assert first.weight_BN.shape == padding_BN.shape and first.probability_B.shape == (3,)
    assert (first.weight_BN[padding_BN] == 0).all() and (first.weight_BN >= 0).all()
    assert chosen.model.aggregator.word in SPARSE or (first.weight_BN[~padding_BN] > 0).all()
    torch.testing.assert_close(first.weight_BN.sum(dim=1), torch.ones(3))
    probabilities = [first.probability_B]
    if first.cell_probability_BN is not None:
        assert (first.cell_probability_BN[padding_BN] == 0).all()
        probabilities.append(first.cell_probability_BN[~padding_BN])
    for values in probabilities:
        assert values.dtype == torch.float32 and (values > 0).all() and (values < 1).all()


@torch.no_grad()
def test_two_experts_are_joined_as_the_output_says(chosen: Configuration, first: BagOutput) -> None:
    assert chosen.model is not None
    both_XB, gate_B = first.expert_probability_XB, first.gate_B
    assert (both_XB is not None) == (chosen.model.fusion.word in {"late", "gated"})
    assert (gate_B is not None) == (chosen.model.fusion.word == "gated")
    if both_XB is None:
        assert first.expert_loss == 0
        return
    assert both_XB.shape == (2, 3) and (both_XB > 0).all() and (both_XB < 1).all()
    if gate_B is None:
        torch.testing.assert_close(first.probability_B, both_XB.mean(dim=0))
        return
    assert gate_B.shape == (3,) and (gate_B > 0).all() and (gate_B < 1).all()
    torch.testing.assert_close(first.probability_B, gate_B * both_XB[0] + (1 - gate_B) * both_XB[1])
    assert (first.probability_B >= both_XB.amin(dim=0)).all() and (first.probability_B <= both_XB.amax(dim=0)).all()


@torch.no_grad()
def test_another_picture_is_another_probability(model: BagClassifier, first: BagOutput) -> None:
    other = output_of(model, cells(9, seed=1))
    assert (first.probability_B - other.probability_B).abs().min() > 1e-6


@torch.no_grad()
def test_an_evaluation_repeats_exactly(model: BagClassifier, first: BagOutput) -> None:
    assert output_of(model, cells(9)).probability_B.equal(first.probability_B)


def test_gradients_reach_every_parameter(chosen: Configuration) -> None:
    """From the loss of the bag's probability alone, whatever experts there are."""
    torch.manual_seed(0)
    model = BagClassifier(chosen)
    model.fit_attributes(ATTRIBUTES)
    with torch.no_grad():  # a weight that starts at 0 hides all that comes before it
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    total = {name: torch.zeros(()) for name, _ in model.named_parameters()}
    for seed in range(5):  # a hidden unit may be dropped in one of them
        model.zero_grad()
        binary_cross_entropy(output_of(model, cells(9, seed=seed)).probability_B, torch.tensor([1.0, 0, 1])).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            total[name] += parameter.grad.abs().sum()
        if all(moved > 0 for moved in total.values()):
            break
    assert [name for name, moved in total.items() if not moved > 0] == []


@pytest.fixture(scope="module")
def four_patients() -> Cohort:
    """Dark cells, old age and many lymphocytes on the one side; no cell of the two sides alike."""
    counts, labels = [2, 1, 3, 2], [0, 1, 0, 1]
    patients = pd.DataFrame(
        {
            "patient": ["P1", "P2", "P3", "P4"],
            "label": labels,
            "sex": "F",
            "age_years": [40.0, 80.0, 50.0, 75.0],
            "lymphocytes_g_per_l": [4.5, 30.0, 5.0, 20.0],
            "n_cells": counts,
        }
    )
    light = np.repeat(np.where(np.array(labels) == 1, 50, 190), counts)[:, None, None, None]
    noise = np.random.default_rng(0).integers(-40, 40, (sum(counts), CROP_PX, CROP_PX, 3))
    return Cohort("four", patients, (light + noise).astype(np.uint8), [str(cell) for cell in range(sum(counts))])


def test_four_patients_are_learnt_by_heart(chosen: Configuration, four_patients: Cohort) -> None:
    """The loss that training follows falls to half in a few steps of training mode."""
    assert chosen.model is not None
    encoder = chosen.model.encoder.as_yaml()
    plan = {"optimiser": "adam", "learning_rate": 0.01, "weight_decay": 0.0, "schedule": "constant"}
    learner = network(encoder, chosen.model.aggregator, chosen.model.fusion, "linear", **plan)
    bags = Bags(four_patients, learner.data, torch.device("cpu"))
    member = NetworkMember(learner, bags, np.arange(4), STEPS, [0], Precision())
    begun, loss = None, torch.inf
    for epoch in range(STEPS):
        (batch,) = member.batches(epoch)
        loss = float(member.step(batch))
        begun = loss if begun is None else begun
        if loss <= begun / 2:
            return
    pytest.fail(f"loss fell from {begun} to {loss} only")


@torch.no_grad()
def test_attributes_count_where_they_are_fused_and_nowhere_else(
    chosen: Configuration, model: BagClassifier, first: BagOutput
) -> None:
    assert chosen.model is not None
    for attribute in range(2):
        changed = ATTRIBUTES.clone()
        changed[:, attribute] *= 1.5
        other = output_of(model, cells(9), attributes_BA=changed).probability_B
        assert other.equal(first.probability_B) == (chosen.model.fusion.word == "none")
        assert chosen.model.fusion.word == "none" or (other != first.probability_B).all()


@torch.no_grad()
def test_saved_weights_say_the_same(
    chosen: Configuration, model: BagClassifier, first: BagOutput, tmp_path: Path
) -> None:
    NetworkMember.save(model.state_dict(), tmp_path / "fold-0")
    assert [path.name for path in tmp_path.iterdir()] == ["fold-0.safetensors"]
    loaded = load_network(tmp_path / "fold-0.safetensors", chosen)
    assert not loaded.training
    with torch.no_grad():
        assert output_of(loaded, cells(9)).probability_B.equal(first.probability_B)
    torch.testing.assert_close(loaded.attribute_mean_A, ATTRIBUTES.mean(dim=0))


def test_chunks_change_nothing(model: BagClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Probabilities and gradients; in evaluation mode, where batch statistics are fixed."""
    results = []
    for cells_per_chunk in (512, 4):
        monkeypatch.setattr(model.chunk, "pixels", cells_per_chunk * CROP_PX**2)
        monkeypatch.setattr(model.chunk, "undivided", None)
        model.zero_grad()
        output = output_of(model, cells(9))
        output.probability_B.sum().backward()
        with torch.no_grad():
            streamed = output_of(model, cells(9)).probability_B
        gradients = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
        results.append([output.probability_B.detach(), streamed, *gradients])
    for whole, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, whole, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("crop_px", [40, 41, 95, 112])
@pytest.mark.parametrize("pooling", ["average", "flatten"])
@pytest.mark.parametrize("encoder", registry.encoders.words())
@torch.no_grad()
def test_features_fit_any_crop(encoder: str, pooling: str, crop_px: int) -> None:
    options = small(encoder)[encoder]
    if "pooling" in {field.name for field in dataclasses.fields(registry.encoders[encoder].options)}:
        options |= {"pooling": pooling}
    model = BagClassifier(network({encoder: options}, crop_px=crop_px))
    pictures = as_pictures(cells(2, crop_px))
    assert model.encoder(pictures).shape == (2, model.encoder.features)


@pytest.mark.parametrize(
    ("filters", "fusion", "head", "millions"),
    [
        (32, "none", "linear", 1.24),
        (64, "none", "linear", 4.93),
        (32, "concat", {"mlp": {"hidden": [1000, 500, 100]}}, 14.3),
    ],
)
def test_the_study_s_networks_have_its_sizes(filters: int, fusion: str, head: Any, millions: float) -> None:
    encoder = {"resnet": {"filters": filters, "pooling": "flatten"}}
    with torch.device("meta"):
        model = BagClassifier(network(encoder, "prediction_mean", fusion, head, crop_px=224))
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(millions * 1e6, rel=0.005)


def test_plain_is_resnet_without_its_shortcuts() -> None:
    names = {
        encoder: {name for name, _ in BagClassifier(network(encoder, "feature_mean")).named_parameters()}
        for encoder in ("plain", "resnet")
    }
    assert names["plain"] == {name for name in names["resnet"] if ".shortcut." not in name}


@torch.no_grad()
@pytest.mark.parametrize("head", registry.heads.words())
def test_a_head_gives_one_logit_whatever_the_shape(head: str) -> None:
    member = registry.heads[head]
    built_ = member.build(6, member.options()).eval()
    features = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    assert built_(features).shape == (2, 5)
    torch.testing.assert_close(built_(features)[1, 3], built_(features[1, 3]))


@torch.no_grad()
@pytest.mark.parametrize("head", [{"linear": {"dropout": 0.5}}, {"mlp": {"hidden": [8], "dropout": 0.5}}])
def test_a_head_s_dropout_is_of_training_only(head: Any) -> None:
    model = built(network("vanilla", head=head))
    assert output_of(model, cells(9)).probability_B.equal(output_of(model, cells(9)).probability_B)
    model.train()
    assert not output_of(model, cells(9)).probability_B.equal(output_of(model, cells(9)).probability_B)


@torch.no_grad()
def test_prediction_mean_is_the_mean_of_the_cells_and_feature_mean_is_not() -> None:
    model = built(network("vanilla"))
    output = output_of(model, cells(9))
    assert output.cell_probability_BN is not None
    for row, count in enumerate(COUNTS):
        torch.testing.assert_close(output.cell_probability_BN[row, :count].mean(), output.probability_B[row])
    other = built(network("vanilla", "feature_mean"))
    other.load_state_dict(model.state_dict())
    logits_M = other.fusion.head(other.encoder(as_pictures(cells(9))))
    means_B = torch.stack([bag.mean() for bag in logits_M.split(COUNTS)])
    torch.testing.assert_close(output_of(other, cells(9)).probability_B, means_B.sigmoid(), atol=1e-5, rtol=0)


def test_a_file_of_other_weights_is_refused(tmp_path: Path) -> None:
    plain, resnet = network("vanilla", "feature_mean"), network(small("resnet"), "feature_mean")
    path = tmp_path / "fold.safetensors"
    NetworkMember.save(BagClassifier(plain).state_dict(), path)
    with pytest.raises(InputError, match=r"fold.safetensors: not the weights of resnet-4 none feature_mean"):
        load_network(path, resnet)
    path.write_bytes(b"\x00" * 100)
    with pytest.raises(InputError, match=r"fold.safetensors: not the weights of vanilla"):
        load_network(path, plain)


@pytest.mark.parametrize(("family", "word"), WORDS, ids=[f"{family.name}-{word}" for family, word in WORDS])
def test_a_word_is_its_file_s_name(family: registry.Family[Any], word: str) -> None:
    member = family[word]
    module = importlib.import_module(f"{family.package}.{word}")
    assert member.build.__module__ == module.__name__ and member.word == word
    if inspect.isclass(member.build):
        assert member.build.__doc__
    assert module.__doc__
    assert dataclasses.is_dataclass(member.options)
    assert member.options() == member.options()  # every option has a default


@pytest.mark.parametrize("family", FAMILIES, ids=[family.name for family in FAMILIES])
def test_a_family_holds_one_word_a_file(family: registry.Family[Any]) -> None:
    folder = Path(str(importlib.import_module(family.package).__file__)).parent
    assert family.words() == sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    with pytest.raises(KeyError, match=f"{family.name} has no 'nothing'; there are "):
        family["nothing"]
