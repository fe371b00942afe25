"""The study's vanilla network: four small convolutions, max-pooling after each."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from lymphtune.registry import encoders

WIDTHS = (8, 16, 32, 64)


@dataclass(frozen=True, kw_only=True)
class Config:
    pooling: Literal["average", "flatten"] = "flatten"


@encoders.register("vanilla", Config)
class Vanilla(nn.Module):
    """3x3 convolutions with 8, 16, 32 and 64 filters.

    Source: Dessaint and Dalla-torre 2021, section 2.3.
    """

    def __init__(self, crop_px: int, config: Config) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip((3, *WIDTHS[:-1]), WIDTHS, strict=True):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.average = config.pooling == "average"
        side = crop_px // 2 ** len(WIDTHS)
        self.features = WIDTHS[-1] if self.average else WIDTHS[-1] * side * side

    def forward(self, pictures_MCHW: Tensor) -> Tensor:
        """Return features [M, D] of pictures [M, 3, H, W]."""
        maps = self.layers(pictures_MCHW)
        return maps.mean(dim=(2, 3)) if self.average else maps.flatten(1)
