"""A network of the timm library as an encoder's backbone, with pretrained weights from a file or from timm's hub.

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
# Exceptions of the two readers on damaged or hostile files.
UNREADABLE = (
    SafetensorError,
    UnpicklingError,
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    AssertionError,
)


class Backbone(nn.Module):
    """A timm network without its classifier, pooled; takes pictures in [-1, 1] and scales them as it expects."""

    scale: Tensor
    shift: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        import timm  # takes seconds; only timm encoders need it

        with torch.device("cpu"):  # some networks cannot be built on the meta device
            self.network = timm.create_model(name, pretrained=False, num_classes=0)
            expected: Any = self.network.pretrained_cfg
            mean, sd = (torch.tensor(expected.get(key, (0.5,) * 3)) for key in ("mean", "std"))
        self.register_buffer("scale", (0.5 / sd)[:, None, None], persistent=False)
        self.register_buffer("shift", ((0.5 - mean) / sd)[:, None, None], persistent=False)
        self.needs_no_scaling = bool((mean == 0.5).all() and (sd == 0.5).all())

    def forward(self, pictures_MCHW: Tensor) -> Tensor:
        """Return features [M, D] of pictures [M, 3, H, W]."""
        if not self.needs_no_scaling:
            pictures_MCHW = pictures_MCHW * self.scale.to(pictures_MCHW.dtype) + self.shift.to(pictures_MCHW.dtype)
        return self.network(pictures_MCHW)


@lru_cache(maxsize=32)
@torch.no_grad()
def feature_count(name: str, crop_px: int) -> int:
    """Return the number of features D; raises InputError where the network does not accept the picture size."""
    try:
        # The random state is restored, so that the initial weights of later networks do not depend on this one.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            features_1D = Backbone(name).eval()(torch.zeros(1, 3, crop_px, crop_px))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise InputError(f"timm:{name}: does not accept pictures of {crop_px} px ({_reason(error)})") from error
    return int(features_1D.shape[1])


def file_state(name: str, path: Path) -> State:
    """Return the backbone's weights in a safetensors file, or a PyTorch file of plain tensors.

    Weights of a classifier are ignored. Raises InputError where the file does not hold weights of the network.
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
        raise InputError(f"{path}: holds no named weights; expected those of timm:{name}")
    kept = {key: given[key] for key in expected if isinstance(given.get(key), Tensor)}
    wrong = [key for key, value in expected.items() if key not in kept or kept[key].shape != value.shape]
    if wrong:
        raise InputError(
            f"{path}: not the weights of timm:{name} ({len(wrong)} of {len(expected)} missing or of another shape, "
            f"{wrong[0]} first)"
        )
    return kept


@lru_cache(maxsize=2)  # for the fold models of a trial
def hub_state(name: str) -> State:
    """Return the pretrained weights from timm's hub; raises InputError where they cannot be downloaded."""
    import timm

    logging.getLogger("huggingface_hub").setLevel(
        logging.ERROR
    )  # hides its retries; the error below reports their failure
    console.say(f"timm:{name}: loading its pretrained weights from the local cache or the hub")
    try:
        return timm.create_model(name, pretrained=True, num_classes=0).state_dict()
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise InputError(
            f"timm:{name}: its pretrained weights could not be downloaded from the hub ({_reason(error)}); "
            f"put {name}.safetensors into a folder and give that with --weights"
        ) from error


def _reason(error: Exception) -> str:
    """Return the first line of the error's message, without terminal escape codes."""
    text = str(error).strip() or type(error).__name__
    return "".join(filter(str.isprintable, text.splitlines()[0]))[:120]
