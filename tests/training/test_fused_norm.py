"""Batch norm of several models side by side: the same values and gradients as of each alone.

Shapes: F models, N cells, C channels, H and W.
"""

import pytest
import torch
import torch.nn.functional as nn_functional
from torch import Tensor
from torch.func import grad, vmap

from lymphtune.training.fused_norm import FusedNorm

F, N, C, SIDE = 3, 4, 5, 2


def normed(maps: Tensor, weight_C: Tensor, bias_C: Tensor) -> Tensor:
    return nn_functional.batch_norm(maps, torch.zeros(C), torch.ones(C), weight_C, bias_C, training=True)


def loss(maps: Tensor, weight_C: Tensor, bias_C: Tensor) -> Tensor:
    return (normed(maps, weight_C, bias_C).float().sigmoid() ** 2).sum()


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shared", [False, True], ids=["own maps", "the same maps"])
@pytest.mark.parametrize("shape", [(SIDE, SIDE), ()], ids=["maps", "vectors"])
def test_each_model_s_own_values_and_gradients(shape: tuple[int, ...], shared: bool, last: bool) -> None:
    if last and not shape:
        pytest.skip("vectors have one layout")
    draw = torch.Generator().manual_seed(0)
    maps_F = torch.randn((F, N, C, *shape), generator=draw)
    if last:
        maps_F = maps_F.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (F, N))
    weight_FC, bias_FC = torch.rand((2, F, C), generator=draw)
    given = (maps_F[0] if shared else maps_F, weight_FC, bias_FC)
    dims = (None if shared else 0, 0, 0)
    with FusedNorm():
        values = vmap(normed, dims)(*given)
        gradients = vmap(grad(loss, (0, 1, 2)), dims)(*given)
    for model in range(F):
        own = [value if dim is None else value[model] for value, dim in zip(given, dims, strict=True)]
        torch.testing.assert_close(values[model], normed(*own))
        for said, expected in zip(gradients, grad(loss, (0, 1, 2))(*own), strict=True):
            torch.testing.assert_close(said[model], expected, rtol=1e-4, atol=1e-5)


def test_outside_training_the_running_statistics_are_used() -> None:
    maps, ones_C = torch.randn(N, C, generator=torch.Generator().manual_seed(0)), torch.ones(C)
    with FusedNorm():
        said = nn_functional.batch_norm(maps, ones_C, 4 * ones_C, eps=1e-9)
    torch.testing.assert_close(said, (maps - 1) / 2)
