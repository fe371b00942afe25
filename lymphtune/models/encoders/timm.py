"""Any backbone of the timm library: `timm:<name>`, from random or pretrained weights, fine-tuned or frozen.

Shapes: M cells, D features of the backbone, Q after the reduction.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from lymphtune.models.backbone import Backbone, State, feature_count, file_state, hub_state
from lymphtune.registry import encoders

SMALLEST = 1e-6  # lower bound of a standard deviation
DEAD = 1e-4  # a feature whose sd is a smaller fraction of the largest sd is dropped


@dataclass(frozen=True, kw_only=True)
class Config:
    name: str = "resnet18"  # timm's name of the network; goes behind the colon
    pretrained: bool = False  # weights from timm's hub
    weights: str | None = None  # or from this file: safetensors, or a PyTorch file of plain tensors
    frozen: bool = False  # features are computed once, and cached
    pca: Annotated[int, Field(ge=1, le=8192)] | None = (
        None  # principal components of frozen features, fitted in the fold
    )
    learning_rate_factor: Annotated[float, Field(gt=0, le=1)] = 0.1  # of the backbone's learning rate, in fine-tuning

    def __post_init__(self) -> None:
        import timm

        if not timm.is_model(self.name):
            close = timm.list_models(f"*{self.name[:12]}*")[:3]
            raise ValueError(f"timm has no {self.name!r}" + (f"; there are {', '.join(close)}, ..." if close else ""))
        if self.weights == "":
            raise ValueError("'weights' is empty; give a file or leave it out")
        network, dot, _ = self.name.partition(".")
        if dot and self.name not in (known := timm.list_pretrained(network)):
            raise ValueError(f"timm has no weights {self.name!r}; there are {', '.join(known[:5])}")
        if self.pretrained and self.weights is not None:
            raise ValueError("'pretrained' and 'weights' exclude each other; give one of them")
        if self.frozen and not (self.pretrained or self.weights):
            raise ValueError("frozen features need trained weights; add 'pretrained: true' or 'weights'")
        if self.pca is not None and not self.frozen:
            raise ValueError("'pca' reduces frozen features; add 'frozen: true'")
        if self.weights is not None:  # workers have other working directories
            object.__setattr__(self, "weights", os.path.abspath(os.path.expanduser(self.weights)))

    @property
    def label(self) -> str:
        return ("frozen-" if self.frozen else "") + self.name.removeprefix("tf_").replace("efficientnet", "effnet")

    def state(self) -> State | None:
        """Return the pretrained weights, None for random ones; raises InputError where they are not available."""
        if self.weights is not None:
            return file_state(self.name, Path(self.weights))
        return hub_state(self.name) if self.pretrained else None


@encoders.register("timm", Config)
class Timm(nn.Module):
    """The backbone, fine-tuned; if frozen, a reduction of its features, which are then the model's input."""

    mean_D: Tensor
    reduction_DQ: Tensor  # [D] without components

    def __init__(self, crop_px: int, config: Config) -> None:
        super().__init__()
        self.config, self.frozen = config, config.frozen
        raw = feature_count(config.name, crop_px)
        self.features = config.pca or raw
        if not config.frozen:
            self.backbone = Backbone(config.name)
            self.learning_rate_factor = config.learning_rate_factor if config.pretrained or config.weights else 1.0
            return
        self.register_buffer("mean_D", torch.zeros(raw))
        self.register_buffer("reduction_DQ", torch.zeros(raw, config.pca) if config.pca else torch.ones(raw))

    def initialise(self) -> None:
        """Load the pretrained weights; not needed for a model that is loaded from its own file."""
        if not self.frozen and (state := self.config.state()) is not None:
            self.backbone.network.load_state_dict(state)

    def fit(self, features_CD: np.ndarray, seed: int) -> None:
        """Fit mean, scale and, if configured, principal components to the frozen features of the training cells."""
        features_CD = features_CD.astype(np.float32)
        self.mean_D.copy_(torch.from_numpy(features_CD.mean(axis=0)))
        if self.config.pca is None:
            sd_D = features_CD.std(axis=0)
            alive_D = sd_D > DEAD * max(float(sd_D.max()), SMALLEST)
            self.reduction_DQ.copy_(torch.from_numpy(np.divide(1, sd_D, out=np.zeros_like(sd_D), where=alive_D)))
            return
        from sklearn.decomposition import PCA

        n_components = min(self.config.pca, len(features_CD) - 1, features_CD.shape[1])  # the others stay 0
        fitted = PCA(n_components, svd_solver="randomized", random_state=seed).fit(features_CD)
        scale = max(
            float(np.sqrt(fitted.explained_variance_.mean())), SMALLEST
        )  # one scale for all, which keeps their order of size
        self.reduction_DQ.zero_()
        self.reduction_DQ[:, :n_components] = torch.from_numpy(fitted.components_.T / scale)

    def forward(self, given: Tensor) -> Tensor:
        """Return features [M, Q] of pictures [M, 3, H, W], or of frozen features [M, D]."""
        if not self.frozen:
            return self.backbone(given)
        centred_MD = given - self.mean_D
        return centred_MD @ self.reduction_DQ if self.reduction_DQ.ndim == 2 else centred_MD * self.reduction_DQ
