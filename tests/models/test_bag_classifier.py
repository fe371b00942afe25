"""Chunks of cells, layouts of memory, and what a norm sees of its neighbours.

Shapes: M cells of all bags together, D features.
"""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lymphtune.models import bag_classifier
from lymphtune.models.bag_classifier import BagClassifier, Chunk
from lymphtune.models.convolution import Stage
from tests.models.small import ATTRIBUTES, CROP_PX, SMALL, built, cells, network, output_of

DIFFERENT = 1e-3  # of the largest gradient


def training_gradients(norm: str, cells_per_chunk: int) -> list[Tensor]:
    torch.manual_seed(0)
    encoder = {"resnet": {"filters": SMALL["filters"], "norm": norm}}
    model = BagClassifier(network(encoder), Chunk(cells_per_chunk * CROP_PX**2)).train()
    model.fit_attributes(ATTRIBUTES)
    output_of(model, cells(9)).probability_B.sum().backward()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def furthest(first: list[Tensor], second: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True)) / max(
        float(a.abs().max()) for a in first
    )


def test_group_norm_learns_the_same_in_chunks_and_batch_norm_does_not() -> None:
    """Batch statistics are those of a chunk; a group's are those of one cell."""
    for norm in ("group", "batch"):
        whole, chunked = training_gradients(norm, 512), training_gradients(norm, 2)
        assert len(whole) > 20
        assert furthest(whole, whole) == 0
        if norm == "group":
            assert furthest(whole, chunked) < 1e-5
        else:
            assert furthest(whole, chunked) > DIFFERENT


@torch.no_grad()
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_neighbours_count_in_training_with_batch_norm_only(norm: str) -> None:
    model = built(network({"resnet": {"filters": SMALL["filters"], "norm": norm}})).train()
    alone_1D, among_MD = model.encode_at_once(cells(9)[:1]), model.encode_at_once(cells(9))
    assert torch.allclose(alone_1D, among_MD[:1], atol=1e-5) == (norm == "group")


@pytest.mark.parametrize("filters", [1, 3, 12])
def test_group_norm_fits_any_number_of_filters(filters: int) -> None:
    model = built(network({"plain": {"filters": filters, "norm": "group"}}))
    with torch.no_grad():
        assert model.encode_at_once(cells(2)).shape == (2, 8 * filters)


def test_a_chunk_counts_pixels_and_is_halved_down_to_one_cell() -> None:
    assert Chunk().at_once(5000, 112) == 5000 and not Chunk().halved
    assert Chunk(200 * 112**2).at_once(5000, 112) == 4 * Chunk(200 * 112**2).at_once(5000, 224) == 200
    assert Chunk(1).at_once(100, 112) == 1  # one cell at least
    chunk = Chunk(800 * 112**2)
    assert chunk.halve(100, 112) and chunk.at_once(100, 112) == 50  # half of what was tried, not of what was allowed
    assert chunk.halve(100, 112) and chunk.halved
    tried = [chunk.at_once(100, 112)]
    while chunk.halve(100, 112):
        tried.append(chunk.at_once(100, 112))
    assert tried == [25, 12, 6, 3, 1]


def test_a_cpu_finds_its_chunk_by_what_a_cell_keeps() -> None:
    chunk = Chunk()
    chunk.set_from_bytes(1e6, 112)
    whole, part = int(bag_classifier.MOST_WHOLE_BYTES / 1e6), int(bag_classifier.CHUNK_BYTES / 1e6)
    assert chunk.at_once(whole, 112) == whole and chunk.at_once(whole + 1, 112) == part < whole
    found = {}
    for filters in (16, 32):
        model = BagClassifier(network({"resnet": {"filters": filters}})).train()
        state = {name: value.clone() for name, value in model.state_dict().items()}
        found[filters] = (model._saved_bytes(cells(4)) - model._saved_bytes(cells(2))) / 2
        assert all(value.equal(state[name]) for name, value in model.state_dict().items()) and model.encoder.training
    assert 1.8 < found[32] / found[16] < 2.2
    assert found[16] > 4 * 16 * (CROP_PX // 2) ** 2  # its first maps alone, float32


@pytest.mark.parametrize("encoder", ["plain", "resnet", {"timm": {"name": "test_resnet"}}])
@torch.no_grad()
def test_the_layout_in_memory_changes_nothing(encoder: Any) -> None:
    model = built(network(encoder))
    answers = []
    for channels_last in (True, False):
        model.set_memory_format(channels_last)
        answers.append(output_of(model, cells(9)).probability_B)
    torch.testing.assert_close(*answers, atol=1e-5, rtol=0)


def test_a_clinical_configuration_has_no_bag_classifier() -> None:
    from lymphtune.config import configuration

    with pytest.raises(ValueError, match="a clinical configuration has no bag classifier"):
        BagClassifier(configuration({"clinical": "logistic"}, "test"))


def test_the_gradient_of_a_strided_stage_keeps_the_layout() -> None:
    """Where one gradient has channels first, all that it is added to and masked with takes several times as long."""
    maps_MCHW = torch.randn(2, 8, 11, 11).to(memory_format=torch.channels_last).requires_grad_()
    stage = Stage(8, 16, 2, True, "batch").to(memory_format=torch.channels_last)
    seen: list[torch.Tensor] = []
    stage.shortcut.register_full_backward_hook(lambda _, given, __: seen.append(given[0]))
    (passed := maps_MCHW * 1).register_hook(seen.append)
    stage(passed).square().mean().backward()
    assert len(seen) == 2 and all(gradient.is_contiguous(memory_format=torch.channels_last) for gradient in seen)
    torch.testing.assert_close(F.avg_pool2d(maps_MCHW, 1, 2), maps_MCHW[..., ::2, ::2])  # pixels as they are


@torch.no_grad()
@pytest.mark.parametrize(("count", "most"), [(65, 64), (9, 4), (7, 6), (2000, 9), (12, 6), (5, 1)])
def test_chunks_are_alike(count: int, most: int) -> None:
    """A few cells by themselves have no batch statistics worth the name, and would count as much as a whole chunk."""
    model = built(network("vanilla"))
    real, seen = model.encode_at_once, []
    model.encode_at_once = lambda given: (seen.append(len(given)), real(given))[1]  # type: ignore[method-assign]
    model.chunk.pixels = most * 40**2
    model.encode(cells(count))
    assert sum(seen) == count and max(seen) <= most
    assert len(set(seen[:-1])) <= 1 and 2 * seen[-1] >= seen[0]


def test_memory_is_given_back_between_chunks_that_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept, it would grow by a map of activations a chunk; where nothing is learnt a chunk is small enough to keep."""
    given_back: list[int] = []
    monkeypatch.setattr(bag_classifier, "trim_heap", lambda: given_back.append(1))
    model = built(network("vanilla"))
    model.chunk.pixels = 3 * 40**2
    with torch.no_grad():
        model.encode(cells(9))
    assert given_back == []
    model.encode(cells(9)).sum().backward()
    assert len(given_back) == 2 * 3  # forwards, and again for the gradient
    model.chunk.pixels = None
    model.encode(cells(9)).sum().backward()
    assert len(given_back) == 6


def test_few_channels_do_not_break_the_heap() -> None:
    """A strided 1x1 convolution of few channels, channels last, writes beyond its memory on some processors."""
    stage = Stage(4, 8, 2, True, "batch").to(memory_format=torch.channels_last)
    for number in range(60):
        maps_MCHW = torch.randn(28 + number % 3, 4, 10, 10).to(memory_format=torch.channels_last).requires_grad_()
        stage(maps_MCHW).square().mean().backward()


def test_a_missing_attribute_is_the_mean_of_the_training_patients() -> None:
    model = built(network("vanilla", fusion="concat"))
    given_PA = ATTRIBUTES.clone()
    given_PA[0, 1] = torch.nan
    model.fit_attributes(given_PA)
    known = given_PA[1:, 1]
    assert model.attribute_mean_A[1].item() == pytest.approx(known.mean().item())
    at_mean_PA = given_PA.clone()
    at_mean_PA[0, 1] = known.mean()
    with torch.no_grad():
        missing, mean = (model(cells(9), [2, 3, 4], some).probability_B for some in (given_PA, at_mean_PA))
    torch.testing.assert_close(missing, mean)


def test_an_attribute_that_tells_training_patients_nothing_stays_small() -> None:
    """Else a patient who differs would meet weights that never learnt, multiplied by a million."""
    model = built(network("vanilla", fusion="concat"))
    model.fit_attributes(torch.tensor([[5.0, torch.nan], [5.0, torch.nan]]))
    assert model.attribute_mean_A.tolist() == [5, 0] and model.attribute_sd_A.tolist() == [1, 1]
