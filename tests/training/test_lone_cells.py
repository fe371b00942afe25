"""Cells judged alone: the same as a bag of one, whatever the aggregator, the fusion and the rest of the bag."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lymphtune import registry
from lymphtune.cohort import Cohort
from lymphtune.config import Configuration
from lymphtune.models.bag_classifier import BagClassifier
from lymphtune.training.loading import predict_cells_with
from lymphtune.training.lone_cells import lone_logits, predict_lone_cells_with
from tests.models.small import ATTRIBUTES, built, cells, network, small

ROWS = np.array([1, 4])
PAIRS = [(aggregator, fusion) for aggregator in registry.aggregators.words() for fusion in registry.fusions.words()]


@pytest.mark.parametrize(("aggregator", "fusion"), PAIRS)
@torch.no_grad()
def test_the_logit_of_a_cell_is_what_the_pictures_part_says_of_a_bag_of_one(aggregator: str, fusion: str) -> None:
    model = built(network(small("vanilla"), aggregator, fusion))
    of_three = model(cells(3), [1, 1, 1], ATTRIBUTES)
    experts_XB = of_three.expert_probability_XB
    expected = of_three.probability_B if experts_XB is None else experts_XB[0]
    found = lone_logits(model, model.encode(cells(3)), ATTRIBUTES).sigmoid()
    torch.testing.assert_close(found, expected)


def saved(chosen: Configuration, folder: Path) -> Path:
    torch.manual_seed(1)
    save_file({name: value.contiguous() for name, value in BagClassifier(chosen).state_dict().items()}, folder / "w")
    return folder / "w"


@pytest.mark.parametrize("fusion", ["none", "gated"])
def test_models_that_judge_cells_say_the_same(tiny_cohort: Cohort, tmp_path: Path, fusion: str) -> None:
    chosen = network(small("vanilla"), "prediction_mean", fusion)
    path = saved(chosen, tmp_path)
    alone = predict_lone_cells_with(path, chosen, tiny_cohort, ROWS, {})
    _, together = predict_cells_with(path, chosen, tiny_cohort, ROWS)
    np.testing.assert_allclose(alone.probability_C, together.probability_C, atol=1e-6)
    np.testing.assert_allclose(alone.weight_C, together.weight_C, atol=1e-6)


def test_attention_has_weights_of_the_whole_bag_and_a_probability_of_every_cell(
    tiny_cohort: Cohort, tmp_path: Path
) -> None:
    chosen = network(small("vanilla"), "gated_attention")
    alone = predict_lone_cells_with(saved(chosen, tmp_path), chosen, tiny_cohort, ROWS, {})
    counts = tiny_cohort.patients["n_cells"].to_numpy()[ROWS]
    sums = np.add.reduceat(alone.weight_C, [0, counts[0]])
    np.testing.assert_allclose(sums, 1, atol=1e-6)
    assert not np.isnan(alone.probability_C).any()
