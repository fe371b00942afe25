"""What every word of every family owes the others; a new file in a family's folder is tested on arrival.

Shapes: B bags, M cells of all bags together, N cells in the longest bag, S side of a picture.
"""

import dataclasses
import importlib
import inspect
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lymphtune import registry
from lymphtune.config import Configuration, configuration
from lymphtune.errors import InputError
from lymphtune.models import bag_classifier
from lymphtune.models.bag_classifier import BagClassifier
from lymphtune.models.output import BagOutput
from lymphtune.training.loading import load_network
from lymphtune.training.network import NetworkMember

SMALL = {"filters": 4}  # options of an encoder that has them
CROP_PX = 64
COUNTS = (3, 1, 5)  # cells a bag
ATTRIBUTES = torch.tensor([[61.0, 1.5], [80.0, 3.2], [44.0, 2.0]])
FAMILIES = [value for value in vars(registry).values() if isinstance(value, registry.Family)]
WORDS = [(family, word) for family in FAMILIES for word in family.words()]
COMBINATIONS = list(
    itertools.product(registry.encoders.words(), registry.aggregators.words(), registry.fusions.words())
)


def small(encoder: str) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(registry.encoders[encoder].options)}
    return {encoder: {name: value for name, value in SMALL.items() if name in names}}


def network(encoder: Any, aggregator: str, fusion: str, head: Any = "linear", crop_px: int = CROP_PX) -> Configuration:
    model = {"encoder": encoder, "aggregator": aggregator, "fusion": fusion, "head": head}
    return configuration({"model": model, "data": {"crop_px": crop_px}}, "test")


@pytest.fixture(params=COMBINATIONS, ids="-".join)
def chosen(request: pytest.FixtureRequest) -> Configuration:
    encoder, aggregator, fusion = request.param
    return network(small(encoder), aggregator, fusion, {"mlp": {"hidden": [8], "dropout": 0.5}})


@pytest.fixture
def model(chosen: Configuration) -> BagClassifier:
    return built(chosen)


def built(chosen: Configuration) -> BagClassifier:
    """Return a network in evaluation mode whose batch statistics have seen pictures."""
    torch.manual_seed(0)
    model = BagClassifier(chosen)
    model.standardise_by(ATTRIBUTES)
    with torch.no_grad():
        for _ in range(10):
            said(model.train(), cells(sum(COUNTS), chosen.data.crop_px))
    return model.eval()


def cells(count: int, side: int = CROP_PX, seed: int = 0) -> Tensor:
    """Return pictures [M, S, S, 3], uint8, each of its own brightness."""
    draw = torch.Generator().manual_seed(seed)
    light = torch.randint(40, 216, (count, 1, 1, 3), generator=draw)
    return (light + torch.randint(-40, 40, (count, side, side, 3), generator=draw)).to(torch.uint8)


def said(
    model: BagClassifier,
    cells_MSS3: Tensor,
    counts: tuple[int, ...] = COUNTS,
    attributes_BA: Tensor = ATTRIBUTES,
) -> BagOutput:
    output = model(cells_MSS3, torch.tensor(counts), attributes_BA)
    assert isinstance(output, BagOutput)
    return output


@torch.no_grad()
def test_the_order_of_cells_changes_nothing(model: BagClassifier) -> None:
    pictures = cells(9)
    turned = torch.cat([bag.flip(0) for bag in pictures.split(COUNTS)])
    assert not turned.equal(pictures)
    first, again = said(model, pictures), said(model, turned)
    torch.testing.assert_close(again.probability_B, first.probability_B, atol=1e-5, rtol=0)
    back_BN = torch.zeros_like(first.weight_BN)
    for row, count in enumerate(COUNTS):
        back_BN[row, :count] = again.weight_BN[row, :count].flip(0)
    torch.testing.assert_close(back_BN, first.weight_BN, atol=1e-5, rtol=0)


@torch.no_grad()
def test_padding_changes_nothing(model: BagClassifier) -> None:
    pictures = cells(9)
    together = said(model, pictures)
    for row, bag in enumerate(pictures.split(COUNTS)):
        alone = said(model, bag, (COUNTS[row],), ATTRIBUTES[row : row + 1])
        torch.testing.assert_close(alone.probability_B, together.probability_B[row : row + 1], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.weight_BN[0], together.weight_BN[row, : COUNTS[row]], atol=1e-5, rtol=0)


@torch.no_grad()
def test_weights_are_shares_of_real_cells(model: BagClassifier) -> None:
    output = said(model, cells(9))
    padding_BN = torch.arange(max(COUNTS)) >= torch.tensor(COUNTS)[:, None]
    assert output.weight_BN.shape == padding_BN.shape and output.probability_B.shape == (3,)
    assert (output.weight_BN[padding_BN] == 0).all() and (output.weight_BN[~padding_BN] > 0).all()
    torch.testing.assert_close(output.weight_BN.sum(dim=1), torch.ones(3))
    probabilities = [output.probability_B]
    if output.cell_probability_BN is not None:
        probabilities.append(output.cell_probability_BN[~padding_BN])
    for values in probabilities:
        assert values.dtype == torch.float32 and (values > 0).all() and (values < 1).all()


@torch.no_grad()
def test_another_picture_is_another_probability(model: BagClassifier) -> None:
    first, other = said(model, cells(9)), said(model, cells(9, seed=1))
    assert (first.probability_B - other.probability_B).abs().min() > 1e-6


def test_an_evaluation_repeats_exactly(model: BagClassifier) -> None:
    assert said(model, cells(9)).probability_B.equal(said(model, cells(9)).probability_B)


def test_gradients_reach_every_parameter(chosen: Configuration) -> None:
    torch.manual_seed(0)
    model = BagClassifier(chosen)
    model.standardise_by(ATTRIBUTES)
    total = {name: torch.zeros(()) for name, _ in model.named_parameters()}
    for seed in range(5):  # a hidden unit may be dropped in one of them
        model.zero_grad()
        torch.nn.functional.binary_cross_entropy(
            said(model, cells(9, seed=seed)).probability_B, torch.ones(3)
        ).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            total[name] += parameter.grad.abs().sum()
    assert [name for name, moved in total.items() if not moved > 0] == []


@torch.no_grad()
def test_attributes_count_where_they_are_fused_and_nowhere_else(chosen: Configuration, model: BagClassifier) -> None:
    assert chosen.model is not None
    pictures = cells(9)
    first = said(model, pictures).probability_B
    for attribute in range(2):
        changed = ATTRIBUTES.clone()
        changed[:, attribute] *= 1.5
        other = said(model, pictures, attributes_BA=changed).probability_B
        assert other.equal(first) if chosen.model.fusion.word == "none" else (other != first).all()


@torch.no_grad()
def test_saved_weights_say_the_same(chosen: Configuration, model: BagClassifier, tmp_path: Path) -> None:
    NetworkMember.save(model.state_dict(), tmp_path / "fold-0")
    assert [path.name for path in tmp_path.iterdir()] == ["fold-0.safetensors"]
    loaded = load_network(tmp_path / "fold-0.safetensors", chosen)
    assert not loaded.training
    assert said(loaded, cells(9)).probability_B.equal(said(model, cells(9)).probability_B)
    torch.testing.assert_close(loaded.attribute_mean_A, ATTRIBUTES.mean(dim=0))


def test_chunks_change_nothing(model: BagClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Probabilities and gradients; in evaluation mode, where batch statistics are fixed."""
    results = []
    for cells_per_chunk in (512, 2):
        monkeypatch.setattr(bag_classifier, "CELLS_PER_CHUNK", cells_per_chunk)
        model.zero_grad()
        output = said(model, cells(9))
        output.probability_B.sum().backward()
        with torch.no_grad():
            streamed = said(model, cells(9)).probability_B
        gradients = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
        results.append([output.probability_B.detach(), streamed, *gradients])
    for whole, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("crop_px", [40, 41, 95, 112])
@pytest.mark.parametrize("pooling", ["average", "flatten"])
@pytest.mark.parametrize("encoder", ["plain", "resnet", "vanilla"])
@torch.no_grad()
def test_features_fit_any_crop(encoder: str, pooling: str, crop_px: int) -> None:
    options = small(encoder)[encoder] | {"pooling": pooling}
    model = BagClassifier(network({encoder: options}, "prediction_mean", "none", crop_px=crop_px))
    pictures = bag_classifier.as_pictures(cells(2, crop_px))
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
        encoder: {name for name, _ in BagClassifier(network(encoder, "feature_mean", "none")).named_parameters()}
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
def test_prediction_mean_is_the_mean_of_the_cells_and_feature_mean_is_not() -> None:
    model = built(network("vanilla", "prediction_mean", "none"))
    output = said(model, cells(9))
    assert output.cell_probability_BN is not None
    for row, count in enumerate(COUNTS):
        torch.testing.assert_close(output.cell_probability_BN[row, :count].mean(), output.probability_B[row])
    other = built(network("vanilla", "feature_mean", "none"))
    other.load_state_dict(model.state_dict())
    logits_M = other.fusion.head(other.encoder(bag_classifier.as_pictures(cells(9))))
    means_B = torch.stack([bag.mean() for bag in logits_M.split(COUNTS)])
    torch.testing.assert_close(said(other, cells(9)).probability_B, means_B.sigmoid(), atol=1e-5, rtol=0)


def test_a_file_of_other_weights_is_refused(tmp_path: Path) -> None:
    plain, resnet = network("vanilla", "feature_mean", "none"), network(small("resnet"), "feature_mean", "none")
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
