"""Small networks, pictures and bags that the tests of models share.

Shapes: B bags, M cells of all bags together, N cells in the longest bag, S side of a picture, A attributes.
"""

import dataclasses
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from lymphtune import registry
from lymphtune.config import Configuration, configuration
from lymphtune.models.bag_classifier import BagClassifier
from lymphtune.models.output import BagOutput

# Options of an encoder that has them. Not fewer filters: oneDNN writes past its memory in the gradient of a strided
# 1x1 convolution, channels last, of fewer channels than a register holds.
SMALL = {"filters": 4, "name": "test_resnet"}
CROP_PX = 40
COUNTS = (3, 1, 5)  # cells a bag
ATTRIBUTES = torch.tensor([[61.0, 1.5], [80.0, 3.2], [44.0, 2.0]])


def small(encoder: str) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(registry.encoders[encoder].options)}
    return {encoder: {name: value for name, value in SMALL.items() if name in names}}


def network(
    encoder: Any,
    aggregator: Any = "prediction_mean",
    fusion: Any = "none",
    head: Any = "linear",
    crop_px: int = CROP_PX,
    **training: Any,
) -> Configuration:
    model = {"encoder": encoder, "aggregator": aggregator, "fusion": fusion, "head": head}
    return configuration({"model": model, "data": {"crop_px": crop_px}, "training": training}, "test")


def built(chosen: Configuration) -> BagClassifier:
    """Return a network in evaluation mode whose batch statistics are those of the pictures."""
    torch.manual_seed(0)
    model = BagClassifier(chosen)
    model.fit_attributes(ATTRIBUTES)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean over the batches
    with torch.no_grad():
        model.train().encode_at_once(cells(sum(COUNTS), chosen.data.crop_px))
    return model.eval()


@lru_cache(maxsize=32)
def cells(count: int, side: int = CROP_PX, seed: int = 0) -> Tensor:
    """Return pictures [M, S, S, 3], uint8, each of its own brightness; not to be changed."""
    draw = torch.Generator().manual_seed(seed)
    light = torch.randint(40, 216, (count, 1, 1, 3), generator=draw)
    return (light + torch.randint(-40, 40, (count, side, side, 3), generator=draw)).to(torch.uint8)


def output_of(
    model: BagClassifier, given: Tensor, counts: Sequence[int] = COUNTS, attributes_BA: Tensor = ATTRIBUTES
) -> BagOutput:
    output = model(given, counts, attributes_BA)
    assert isinstance(output, BagOutput)
    return output
