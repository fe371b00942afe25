"""A network of the timm library as an encoder's backbone, and its pretrained weights: from a file, or from timm's hub.

Shapes: M cells, D features.
"""

import logging
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lymphtune import console
from lymphtune.errors import InputError

State = dict[str, Tensor]
# what damaged or hostile files make the two readers raise
UNREADABLE = (
    SafetensorError, UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError, IndexError, TypeError,
    AttributeError, AssertionError,
)  # fmt: skip


class Backbone(nn.Module):
    """A timm network without its classifier, pooled; takes pictures in [-1, 1] and scales them as it expects."""

    scale: Tensor
    shift: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        import timm  # seconds; only networks of its own need it

        with torch.device("cpu"):  # of known size; some networks cannot be outlined alone
            self.network = timm.create_model(name, pretrained=False, num_classes=0)
            expected: Any = self.network.pretrained_cfg
            mean, sd = (torch.tensor(expected.get(key, (0.5,) * 3)) for key in ("mean", "std"))
        self.register_buffer("scale", (0.5 / sd)[:, None, None], persistent=False)
        self.register_buffer("shift", ((0.5 - mean) / sd)[:, None, None], persistent=False)
        self.as_given = bool((mean == 0.5).all() and (sd == 0.5).all())

    def forward(self, pictures_MCHW: Tensor) -> Tensor:
        """Return features [M, D] of pictures [M, 3, H, W]."""
        if not self.as_given:
            pictures_MCHW = pictures_MCHW * self.scale.to(pictures_MCHW.dtype) + self.shift.to(pictures_MCHW.dtype)
        return self.network(pictures_MCHW)


@lru_cache(maxsize=32)
@torch.no_grad()
def feature_count(name: str, crop_px: int) -> int:
    """Return D; raises InputError where the network does not take pictures of that size."""
    try:
        # a network built after this one starts from the same weights, also one that is only outlined
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            features_1D = Backbone(name).eval()(torch.zeros(1, 3, crop_px, crop_px))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise InputError(f"timm:{name}: does not take pictures of {crop_px} px ({_reason(error)})") from error
    return int(features_1D.shape[1])


def file_state(name: str, path: Path) -> State:
    """Return the backbone's weights in a safetensors file, or a PyTorch file of plain tensors.

    A classifier's weights are left aside. Raises InputError where the file is not the network's.
    """
    try:
        given = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected weights of timm:{name}") from error
    except UNREADABLE as error:
        raise InputError(
            f"{path}: neither safetensors nor a PyTorch file of plain tensors ({_reason(error)}); "
            f"expected weights of timm:{name}"
        ) from error
    if isinstance(given, dict) and isinstance(given.get("state_dict"), dict):
        given = given["state_dict"]
    expected = Backbone(name).network.state_dict()
    if not isinstance(given, dict):
        raise InputError(f"{path}: holds no weights by name; expected those of timm:{name}")
    kept = {key: given[key] for key in expected if isinstance(given.get(key), Tensor)}
    wrong = [key for key, value in expected.items() if key not in kept or kept[key].shape != value.shape]
    if wrong:
        raise InputError(
            f"{path}: not the weights of timm:{name} ({len(wrong)} of {len(expected)} missing or of another shape, "
            f"{wrong[0]} first)"
        )
    return kept


@lru_cache(maxsize=2)  # every fold model of a trial asks
def hub_state(name: str) -> State:
    """Return the weights that timm's hub offers; raises InputError where there are none, or no network."""
    import timm

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries; what it comes to is said below
    console.say(f"timm:{name}: looking for its pretrained weights, on the hub unless they were fetched before")
    try:
        return timm.create_model(name, pretrained=True, num_classes=0).state_dict()
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise InputError(
            f"timm:{name}: its pretrained weights could not be had from the hub ({_reason(error)}); "
            f"lay {name}.safetensors in a folder and name that with --weights"
        ) from error


def _reason(error: Exception) -> str:
    """Return the first line of what went wrong, without a terminal's escape codes."""
    text = str(error).strip() or type(error).__name__
    return "".join(filter(str.isprintable, text.splitlines()[0]))[:120]
