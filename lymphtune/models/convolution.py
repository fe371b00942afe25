"""The study's Table 1: a wide first convolution and four stages of two 3x3 convolutions, shared by two encoders.

Shapes: M cells, K filters of the first stage, D features.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

STRIDES = (1, 2, 2, 2)
GROUPS = 8  # of group norm; fewer where they do not divide the channels


@dataclass(frozen=True, kw_only=True)
class Config:
    filters: Annotated[int, Field(ge=1, le=1024)] = 32  # K
    pooling: Literal["average", "flatten"] = "average"  # flatten: as in the study
    norm: Literal["batch", "group"] = "batch"  # group: within each cell, 8 groups of channels


def convolution(inputs: int, outputs: int, size: int, norm: str, stride: int = 1) -> nn.Sequential:
    """Return a convolution with "same" padding and its norm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(outputs) if norm == "batch" else nn.GroupNorm(math.gcd(outputs, GROUPS), outputs),
    )


class Stage(nn.Module):
    """Two 3x3 convolutions, with the shortcut's 1x1 convolution added where `residual`."""

    def __init__(self, inputs: int, outputs: int, stride: int, residual: bool, norm: str) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, 3, norm, stride)
        self.second = convolution(outputs, outputs, 3, norm)
        self.stride = stride
        self.shortcut = convolution(inputs, outputs, 1, norm) if residual else None

    def forward(self, maps_MCHW: Tensor) -> Tensor:
        out = self.second(F.relu(self.first(maps_MCHW), inplace=True))
        if self.shortcut is not None:
            # The stride is a pooling of single pixels. The gradient of a strided 1x1 convolution in oneDNN writes
            # beyond its memory for few channels, and the gradient of a slice has channels first, which slows the rest.
            strided = maps_MCHW if self.stride == 1 else F.avg_pool2d(maps_MCHW, 1, self.stride)
            out = out + self.shortcut(strided)
        return F.relu(out, inplace=True)


class StudyEncoder(nn.Module):
    """7x7 stride-2 convolution, 3x3 stride-2 max-pooling, stages of K, 2K, 4K, 8K filters.

    Source: Dessaint and Dalla-torre 2021, Table 1.
    """

    def __init__(self, crop_px: int, config: Config, residual: bool) -> None:
        super().__init__()
        widths = [config.filters * 2**stage for stage in range(len(STRIDES))]
        self.stem = convolution(3, config.filters, 7, config.norm, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = [config.filters, *widths[:-1]]
        self.stages = nn.Sequential(
            *(Stage(i, o, stride, residual, config.norm) for i, o, stride in zip(inputs, widths, STRIDES, strict=True))
        )
        self.average = config.pooling == "average"
        side = -(-crop_px // 2**5)  # five halvings, each rounded up
        self.features = widths[-1] if self.average else widths[-1] * side * side

    def forward(self, pictures_MCHW: Tensor) -> Tensor:
        """Return features [M, D] of pictures [M, 3, H, W]."""
        # ReLU and max-pooling commute; after the pooling, ReLU has a quarter of the values.
        maps = self.stages(F.relu(self.pool(self.stem(pictures_MCHW)), inplace=True))
        return maps.mean(dim=(2, 3)) if self.average else maps.flatten(1)
