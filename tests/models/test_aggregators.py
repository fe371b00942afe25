"""What each aggregator means, against sums done by hand.

Shapes: B bags, N cells in the longest bag, D features, H hidden units.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lymphtune.models.output import BagOutput
from lymphtune.registry import aggregators

CELLS_BND = torch.tensor(
    [[[0.3, 1.0], [-1.0, 2.0], [2.0, -0.5], [0.1, 0.0]], [[1.5, 0.2], [-0.4, 0.7], [9, 9], [9, 9]]]
)
MASK_BN = torch.tensor([[True, True, True, True], [True, True, False, False]])
COUNTS = (4, 2)
EVEN = 4  # cells of the first bag


def first_feature(cells_BND: Tensor) -> Tensor:
    """A head: the first feature is the logit."""
    return cells_BND[..., 0]


def aggregated(word: str, cells_BND: Tensor = CELLS_BND, mask_BN: Tensor = MASK_BN, **options: Any) -> BagOutput:
    torch.manual_seed(0)
    part = aggregators[word].build(2, aggregators[word].options(**options)).eval()
    return part(cells_BND, mask_BN, first_feature)


def probabilities() -> list[Tensor]:
    return [bag[:count, 0].sigmoid() for bag, count in zip(CELLS_BND, COUNTS, strict=True)]


@pytest.mark.parametrize("word", aggregators.words())
@pytest.mark.parametrize("other", [0.0, -50.0, 50.0])
@torch.no_grad()
def test_what_lies_in_the_padding_is_never_seen(word: str, other: float) -> None:
    changed_BND = CELLS_BND.masked_fill(~MASK_BN[..., None], other)
    first, again = aggregated(word), aggregated(word, changed_BND)
    assert again.probability_B.equal(first.probability_B) and again.weight_BN.equal(first.weight_BN)
    assert (first.weight_BN[~MASK_BN] == 0).all()


def test_top_k_mean_of_all_cells_is_the_prediction_mean() -> None:
    whole, mean = aggregated("top_k_mean", share=1.0), aggregated("prediction_mean")
    torch.testing.assert_close(whole.probability_B, mean.probability_B)
    torch.testing.assert_close(whole.weight_BN, mean.weight_BN)


@pytest.mark.parametrize("share", [0.25, 1e-3, 1e-5])
def test_top_k_mean_of_one_cell_is_the_maximum(share: float) -> None:
    output = aggregated("top_k_mean", share=share)
    torch.testing.assert_close(output.probability_B, torch.stack([bag.max() for bag in probabilities()]))
    assert output.weight_BN.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize(("share", "kept"), [(0.25, 1), (0.26, 2), (0.5, 2), (0.51, 3), (0.75, 3), (0.99, 4)])
def test_top_k_mean_rounds_up_to_whole_cells(share: float, kept: int) -> None:
    output = aggregated("top_k_mean", share=share)
    assert int((output.weight_BN[0] > 0).sum()) == kept
    torch.testing.assert_close(output.probability_B[0], probabilities()[0].topk(kept).values.mean())


@pytest.mark.parametrize(("share", "cells", "kept"), [(0.1, 30, 3), (0.3, 10, 3), (0.6, 5, 3), (0.7, 10, 7)])
def test_top_k_mean_counts_decimal_shares_as_written(share: float, cells: int, kept: int) -> None:
    cells_BND = torch.linspace(-1, 1, cells)[None, :, None].expand(-1, -1, 2)
    output = aggregated("top_k_mean", cells_BND, torch.ones(1, cells, dtype=torch.bool), share=share)
    assert int((output.weight_BN > 0).sum()) == kept


@pytest.mark.parametrize(("share", "cells", "kept"), [(0.6, 85, 51), (0.72, 75, 54), (0.6, 100, 60)])
def test_top_k_mean_counts_decimal_shares_of_large_bags(share: float, cells: int, kept: int) -> None:
    cells_BND = torch.linspace(-1, 1, cells)[None, :, None].expand(-1, -1, 2)
    output = aggregated("top_k_mean", cells_BND, torch.ones(1, cells, dtype=torch.bool), share=share)
    assert int((output.weight_BN > 0).sum()) == kept


def test_top_k_mean_keeps_one_cell_whatever_the_share() -> None:
    assert aggregated("top_k_mean", share=1e-9).weight_BN.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]


def test_top_k_mean_takes_as_many_of_equal_cells() -> None:
    output = aggregated("top_k_mean", torch.ones(1, EVEN, 2), torch.ones(1, EVEN, dtype=torch.bool), share=0.5)
    assert sorted(output.weight_BN[0].tolist()) == [0, 0, 0.5, 0.5]


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 4.0, 20.0, 100.0])
def test_log_sum_exp_lies_between_mean_and_maximum(sharpness: float) -> None:
    output = aggregated("log_sum_exp", sharpness=sharpness)
    for row, bag in enumerate(probabilities()):
        assert bag.mean() < output.probability_B[row] < bag.max()
        hand = math.log(sum(math.exp(sharpness * p) for p in bag.tolist()) / len(bag)) / sharpness
        assert float(output.probability_B[row]) == pytest.approx(hand, abs=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("sharpness", [0.01, 4.0, 100.0])
def test_log_sum_exp_of_equal_cells_is_their_probability(sharpness: float) -> None:
    """However many there are, rounding does not lift it above 1."""
    cells_BND, mask_BN = torch.full((1, 200, 2), 20.0), torch.ones(1, 200, dtype=torch.bool)
    options = aggregators["log_sum_exp"].options(sharpness=sharpness)
    output = aggregators["log_sum_exp"].build(2, options)(cells_BND, mask_BN, lambda given: given[..., 0])
    assert output.probability_B.tolist() == [1.0]


def test_log_sum_exp_tends_to_the_mean_and_to_the_maximum() -> None:
    mean_B, most_B = (torch.stack([of(bag) for bag in probabilities()]) for of in (torch.mean, torch.max))
    torch.testing.assert_close(aggregated("log_sum_exp", sharpness=0.01).probability_B, mean_B, atol=1e-3, rtol=0)
    sharp = aggregated("log_sum_exp", sharpness=100.0)
    assert ((most_B - sharp.probability_B) <= math.log(EVEN) / 100 + 1e-6).all()
    torch.testing.assert_close(sharp.weight_BN.max(dim=1).values, torch.ones(2), atol=1e-3, rtol=0)


def test_log_sum_exp_weighs_by_the_softmax_which_is_its_gradient() -> None:
    cells_BND = CELLS_BND.clone().requires_grad_()
    output = aggregated("log_sum_exp", cells_BND, sharpness=4.0)
    for row, bag in enumerate(probabilities()):
        torch.testing.assert_close(output.weight_BN[row, : len(bag)], (4 * bag).softmax(dim=0))
    output.probability_B.sum().backward()
    slope_BN = (p_BN := CELLS_BND[..., 0].sigmoid()) * (1 - p_BN)
    assert cells_BND.grad is not None
    torch.testing.assert_close(cells_BND.grad[..., 0], output.weight_BN * slope_BN)


@pytest.mark.parametrize("word", ["attention", "gated_attention"])
def test_attention_of_equal_scores_is_the_feature_mean(word: str) -> None:
    part = aggregators[word].build(2, aggregators[word].options(hidden=3)).eval()
    torch.nn.init.zeros_(part.score.weight)
    output, mean = part(CELLS_BND, MASK_BN, first_feature), aggregated("feature_mean")
    torch.testing.assert_close(output.probability_B, mean.probability_B)
    torch.testing.assert_close(output.weight_BN, mean.weight_BN)


@pytest.mark.parametrize("word", ["attention", "gated_attention"])
@torch.no_grad()
def test_attention_is_the_paper_s_formula(word: str) -> None:
    """Equations 8 and 9, cell by cell."""
    torch.manual_seed(0)
    part = aggregators[word].build(2, aggregators[word].options(hidden=3)).eval()
    output = part(CELLS_BND, MASK_BN, first_feature)
    content, gate, score = part.content, part.gate, part.score.weight.double().numpy()[0]
    assert (gate is not None) == (word == "gated_attention")
    for row, count in enumerate(COUNTS):
        raised = np.zeros(count)
        for cell in range(count):
            seen_D = CELLS_BND[row, cell].double().numpy()
            hidden_H = np.tanh(content.weight.double().numpy() @ seen_D + content.bias.double().numpy())
            if gate is not None:
                opened_H = gate.weight.double().numpy() @ seen_D + gate.bias.double().numpy()
                hidden_H = hidden_H / (1 + np.exp(-opened_H))
            raised[cell] = np.exp(score @ hidden_H)
        weight_N = raised / raised.sum()
        assert np.ptp(weight_N) > 1e-3
        np.testing.assert_allclose(output.weight_BN[row, :count], weight_N, atol=1e-6)
        logit = weight_N @ CELLS_BND[row, :count, 0].double().numpy()
        assert float(output.probability_B[row]) == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-6)


@torch.no_grad()
def test_attention_drops_what_the_scores_see_and_in_training_only() -> None:
    torch.manual_seed(0)
    part = aggregators["attention"].build(2, aggregators["attention"].options(dropout=0.5))
    even_BND = torch.full((1, 8, 2), 3.0)
    mask_BN = torch.ones(1, 8, dtype=torch.bool)
    output = part.train()(even_BND, mask_BN, first_feature)
    assert len(set(output.weight_BN[0].tolist())) > 1  # equal cells, of which different features were dropped
    torch.testing.assert_close(output.probability_B, torch.tensor([3.0]).sigmoid())  # the cells themselves are whole
    assert len(set(part.eval()(even_BND, mask_BN, first_feature).weight_BN[0].tolist())) == 1
