"""Saliency: high where the network looks, zero where it cannot, the same every time."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import pad

from lymphtune.cohort import Cohort
from lymphtune.config import Configuration, configuration
from lymphtune.models.bag_classifier import BagClassifier
from lymphtune.training import saliency
from lymphtune.training.frozen import WEIGHTS
from lymphtune.training.saliency import saliency_with
from tests.conftest import write_backbone
from tests.models.small import network, small

CROP_PX = 40
ROWS, CELLS = np.array([3, 0]), np.array([2, 1])


class OneSquare(nn.Module):
    """Sees nothing but the mean of a square of 10 px."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, pictures_MCHW: Tensor) -> Tensor:
        return pad(pictures_MCHW[:, :, 5:15, 20:30].mean(dim=(1, 2, 3))[:, None], (0, self.features - 1))


def save(chosen: Configuration, folder: Path) -> Path:
    torch.manual_seed(0)
    state = BagClassifier(chosen).state_dict()
    save_file({name: value.contiguous() + 0.01 for name, value in state.items()}, folder / "w.safetensors")
    return folder / "w.safetensors"


def test_it_is_high_where_the_network_looks_and_zero_elsewhere(
    noisy_cohort: Cohort, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chosen = network(small("vanilla"), "gated_attention", crop_px=CROP_PX)
    model = BagClassifier(chosen).eval()
    model.encoder = OneSquare(model.encoder.features)
    monkeypatch.setattr(saliency, "load_network", lambda path, configuration: model)
    heat_MSS = saliency_with(tmp_path / "w", chosen, noisy_cohort, ROWS, CELLS)
    assert heat_MSS.shape == (2, 44, 44)
    low = 2  # from the crop to the picture, and the averaging's half square
    looked_at = np.zeros((44, 44), dtype=bool)
    looked_at[low + 5 - 2 : low + 15 + 2, low + 20 - 2 : low + 30 + 2] = True
    assert heat_MSS[:, ~looked_at].max() == 0
    assert heat_MSS[:, low + 8 : low + 12, low + 23 : low + 27].min() == pytest.approx(1)


@pytest.mark.parametrize("aggregator", ["prediction_mean", "attention"])
def test_the_same_cell_gives_the_same_whatever_stands_beside_it(
    noisy_cohort: Cohort, tmp_path: Path, aggregator: str
) -> None:
    chosen = network(small("vanilla"), aggregator, "concat", crop_px=CROP_PX)
    path = save(chosen, tmp_path)
    both = saliency_with(path, chosen, noisy_cohort, ROWS, CELLS)
    alone = saliency_with(path, chosen, noisy_cohort, ROWS[1:], CELLS[1:])
    np.testing.assert_array_equal(both[1:], alone)
    assert alone.max() == 1 and alone.min() >= 0
    inside = alone[0, 2:42, 2:42]
    assert 0.4 < (inside == 0).mean() < 0.6  # half of the crop is less looked at than the rest
    assert not np.allclose(both[0], both[1])


def test_a_certain_network_still_has_a_gradient(noisy_cohort: Cohort, tmp_path: Path) -> None:
    chosen = network(small("vanilla"), crop_px=CROP_PX)
    path = save(chosen, tmp_path)
    state = {name: value * 1 for name, value in saliency.load_network(path, chosen).state_dict().items()}
    state["fusion.head.layer.bias"] += 200
    save_file(state, path)
    assert saliency_with(path, chosen, noisy_cohort, ROWS, CELLS).max() == 1


def test_it_reaches_the_pixels_through_a_frozen_backbone(noisy_cohort: Cohort, tmp_path: Path) -> None:
    weights = write_backbone(tmp_path / WEIGHTS)
    encoder = {"timm": {"name": "test_resnet", "weights": str(weights), "frozen": True}}
    chosen = configuration({"model": {"encoder": encoder}, "data": {"crop_px": CROP_PX}}, "test")
    heat_MSS = saliency_with(save(chosen, tmp_path), chosen, noisy_cohort, ROWS, CELLS)
    assert heat_MSS.max() == 1 and 0.01 < heat_MSS.mean() < 0.9
