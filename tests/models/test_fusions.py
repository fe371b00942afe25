"""Experts that meet late: who learns from whose loss, and what the gate sees.

Shapes: B bags, N cells in the longest bag, D features, A attributes, X experts.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lymphtune.errors import InputError
from lymphtune.models.parts import Parts
from lymphtune.registry import fusions
from tests.models.small import ATTRIBUTES, network

FEATURES = 6
MASK_BN = torch.arange(5) < torch.tensor([3, 1, 5])[:, None]


def fusion(word: str, aggregator: str = "prediction_mean", **options: Any) -> nn.Module:
    model = network("vanilla", aggregator, word).model
    assert model is not None
    torch.manual_seed(0)
    return fusions[word].build(FEATURES, 2, Parts(model), fusions[word].options(**options))


def cells() -> Tensor:
    return torch.randn(3, 5, FEATURES, generator=torch.Generator().manual_seed(0)) * MASK_BN[..., None]


def standard() -> Tensor:
    return (ATTRIBUTES - ATTRIBUTES.mean(dim=0)) / ATTRIBUTES.std(dim=0)


def reached(part: nn.Module) -> set[str]:
    """Return the children that a gradient has reached."""
    return {
        name.split(".")[0] for name, value in part.named_parameters() if value.grad is not None and value.grad.any()
    }


@pytest.mark.parametrize("word", ["late", "gated"])
def test_neither_expert_s_loss_reaches_the_other(word: str) -> None:
    for expert, children in ((0, {"head"}), (1, {"clinical"})):
        part = fusion(word)
        both_XB = part(cells(), MASK_BN, standard()).expert_probability_XB
        both_XB[expert].log().sum().backward()
        assert reached(part) == children


def test_the_gate_sends_no_gradient_into_the_cells() -> None:
    part, cells_BND = fusion("gated"), cells().requires_grad_()
    output = part(cells_BND, MASK_BN, standard())
    output.gate_B.sum().backward()
    assert cells_BND.grad is None and reached(part) == {"scale", "gate"}
    output = part(cells_BND, MASK_BN, standard())
    output.probability_B.sum().backward()
    assert cells_BND.grad is not None and reached(part) == {"scale", "gate", "head", "clinical"}


@torch.no_grad()
def test_the_gate_sees_the_pictures_and_the_attributes() -> None:
    part = fusion("gated").eval()
    first = part(cells(), MASK_BN, standard()).gate_B
    assert (part(cells() + torch.arange(FEATURES) * MASK_BN[..., None], MASK_BN, standard()).gate_B != first).all()
    for attribute in range(2):
        changed = standard()
        changed[:, attribute] += 1
        assert (part(cells(), MASK_BN, changed).gate_B != first).all()


@torch.no_grad()
@pytest.mark.parametrize("open_", [True, False])
def test_a_gate_that_leans_wholly_to_one_side_gives_that_expert_s_answer(open_: bool) -> None:
    part = fusion("gated").eval()
    part.gate[-1].weight.zero_()
    part.gate[-1].bias.fill_(50.0 if open_ else -50.0)
    output = part(cells(), MASK_BN, standard())
    torch.testing.assert_close(output.probability_B, output.expert_probability_XB[0 if open_ else 1])


@torch.no_grad()
@pytest.mark.parametrize("word", ["late", "gated"])
@pytest.mark.parametrize("aggregator", ["prediction_mean", "feature_mean", "gated_attention"])
def test_the_pictures_expert_is_the_model_without_attributes(word: str, aggregator: str) -> None:
    alone, part = fusion("none", aggregator).eval(), fusion(word, aggregator).eval()
    part.load_state_dict(alone.state_dict(), strict=False)
    first, joined = alone(cells(), MASK_BN, standard()), part(cells(), MASK_BN, standard())
    torch.testing.assert_close(joined.expert_probability_XB[0], first.probability_B)
    torch.testing.assert_close(joined.weight_BN, first.weight_BN)


@torch.no_grad()
@pytest.mark.parametrize("word", ["late", "gated"])
def test_a_clinical_expert_without_hidden_layers_is_logistic_regression(word: str) -> None:
    part = fusion(word, hidden=[]).eval()
    (layer,) = part.clinical
    logit_B = standard() @ layer.weight[0] + layer.bias
    output = part(cells(), MASK_BN, standard())
    torch.testing.assert_close(output.expert_probability_XB[1], logit_B.sigmoid())


@torch.no_grad()
@pytest.mark.parametrize(
    ("word", "options", "wanted"),
    [("late", {}, 1.0), ("gated", {}, 0.5), ("gated", {"expert_loss": 0.0}, 0.0), ("none", {}, 0.0)],
)
def test_the_experts_losses_weigh_what_the_options_say(word: str, options: dict[str, Any], wanted: float) -> None:
    assert fusion(word, **options)(cells(), MASK_BN, standard()).expert_loss == wanted


def test_a_gate_that_nothing_would_teach_is_refused() -> None:
    """With all the weight on the experts' own losses the gate would stay as it was drawn."""
    with pytest.raises(InputError, match=r"fusion.gated.expert_loss: input should be less than 1; found 1"):
        network("vanilla", fusion={"gated": {"expert_loss": 1}})
