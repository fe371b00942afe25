"""Batch norm of several fold models at once: their channels side by side, in the one operation that a GPU has for it.

torch's own vmap of batch norm takes neither bfloat16 nor channels last. Running statistics are left alone.
Shapes: F fold models, N cells, C channels, and whatever follows.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as nn_functional
from torch import Tensor
from torch.autograd.function import Function
from torch.overrides import TorchFunctionMode


class FusedNorm(TorchFunctionMode):
    """Within it batch norm in training mode goes the way of this file, whoever asks for it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is nn_functional.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _batch_norm(
    maps: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor, bias: Tensor,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    if not training:
        return nn_functional.batch_norm(maps, running_mean, running_var, weight, bias, False, momentum, eps)
    return _Norm.apply(maps, weight, bias, eps)[0]


class _Norm(Function):
    """Return the normed maps [N, C, ...], and mean and inverse deviation of each channel, for the gradient."""

    @staticmethod
    def forward(maps: Tensor, weight_C: Tensor, bias_C: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        return torch.native_batch_norm(maps, weight_C, bias_C, None, None, True, 0.0, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        maps, weight_C, _, ctx.eps = inputs
        _, mean_C, scale_C = output
        ctx.mark_non_differentiable(mean_C, scale_C)
        ctx.save_for_backward(maps, weight_C, mean_C, scale_C)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        return *_NormGradient.apply(gradient, *ctx.saved_tensors, ctx.eps), None

    @staticmethod
    def vmap(info: Any, in_dims: Any, *given: Any) -> tuple[Any, Any]:
        return _side_by_side(_Norm.apply, info.batch_size, in_dims, given, maps=1)


class _NormGradient(Function):
    """Return the gradients of maps, weight and bias."""

    @staticmethod
    def forward(
        gradient: Tensor, maps: Tensor, weight_C: Tensor, mean_C: Tensor, scale_C: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        return torch.ops.aten.native_batch_norm_backward(
            gradient.to(maps.dtype), maps, weight_C, None, None, mean_C, scale_C, True, eps, [True, True, True]
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(*output)  # nobody asks for second derivatives

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise NotImplementedError("second derivatives of batch norm")

    @staticmethod
    def vmap(info: Any, in_dims: Any, *given: Any) -> tuple[Any, Any]:
        return _side_by_side(_NormGradient.apply, info.batch_size, in_dims, given, maps=2)


def _side_by_side(
    work: Callable[..., Any], models: int, in_dims: Any, given: tuple[Any, ...], maps: int
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Return what the work gives, and its dimensions of fold models: the first `maps` of the given are maps."""
    joined = []
    for number, (value, dim) in enumerate(zip(given, in_dims, strict=True)):
        if not isinstance(value, Tensor):
            joined.append(value)
            continue
        channels = 1 if number < maps else 0
        every = value.unsqueeze(channels).expand(*_spread(value, channels, models)) if dim is None else value
        joined.append(every.movedim(channels if dim is None else dim, channels).flatten(channels, channels + 1))
    said = work(*joined)
    dims = tuple(int(value.ndim > 1) for value in said)
    return tuple(value.unflatten(dim, (models, -1)) for value, dim in zip(said, dims, strict=True)), dims


def _spread(value: Tensor, dim: int, models: int) -> list[int]:
    """Return the shape with so many fold models put before dimension `dim`."""
    return [*value.shape[:dim], models, *value.shape[dim:]]
