"""An ensemble as one network: from a patient's pictures and attributes to the weighted mean of its trials.

Shapes: N cells of one patient, S side of a picture, O orientations, M cells in all orientations, A attributes,
D features, T member trials.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lymphtune.cohort.attributes import STANDARD, Attribute
from lymphtune.config import Configuration, Data
from lymphtune.files import sha256
from lymphtune.models.backbone import Backbone
from lymphtune.models.bag_classifier import BagClassifier
from lymphtune.training.batches import evaluation_orientations, oriented
from lymphtune.training.clinical_network import as_network
from lymphtune.training.frozen import WEIGHTS, is_frozen, load_backbone, rounded_features
from lymphtune.training.loading import load_network, load_pipeline

Member = tuple[Configuration, Sequence[Path]]  # a trial's configuration and the files of its fold models


class Deployed(nn.Module):
    """The weighted mean of member trials, for one patient with attributes in their original units."""

    weight_T: Tensor

    def __init__(
        self, trials: Sequence[nn.Module], weight_T: np.ndarray, attributes: Sequence[Attribute] = STANDARD
    ) -> None:
        super().__init__()
        self.attributes = tuple(attributes)
        self.trials = nn.ModuleList(trials)
        self.register_buffer("weight_T", torch.tensor(weight_T, dtype=torch.float32))

    def forward(self, cells_NSS3: Tensor, values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the probability of being tumoral [1], and each trial's [T].

        Pictures are uint8. values: [1] for each attribute, a number (NaN: missing) or the index of its level, int64
        (-1: missing).
        """
        numbers = [_numbers(attribute, value_1) for attribute, value_1 in zip(self.attributes, values, strict=True)]
        attributes_1A = torch.cat(numbers, dim=1)
        probability_T = torch.cat([trial(cells_NSS3, attributes_1A) for trial in self.trials])
        return (self.weight_T * probability_T).sum(dim=0, keepdim=True), probability_T


def _numbers(attribute: Attribute, value_1: Tensor) -> Tensor:
    """Return the encoding of one patient's value [1, numbers], as `Attribute.numbers` does."""
    if attribute.levels is None:
        number_1 = value_1.double()
        return (number_1.log() if attribute.log else number_1)[:, None]
    n_levels = len(attribute.levels)
    encoded_L = torch.arange(n_levels - len(attribute.names), n_levels)
    known_11 = ((value_1 >= 0) & (value_1 < n_levels))[:, None]
    return torch.where(known_11, (value_1[:, None] == encoded_L).double(), torch.nan)


class NetworkTrial(nn.Module):
    """The mean over a configuration's fold models and over the orientations of evaluation."""

    def __init__(self, folds: Sequence[BagClassifier], data: Data, backbone: Backbone | None = None) -> None:
        super().__init__()
        self.folds: Any = nn.ModuleList(folds)
        self.data, self.backbone = data, backbone

    def forward(self, cells_NSS3: Tensor, attributes_1A: Tensor) -> Tensor:
        """Return the probability [1]; each orientation is a separate bag in the batch of a fold model."""
        crop_px, orientations = self.data.crop_px, evaluation_orientations(self.data)
        low = (cells_NSS3.shape[1] - crop_px) // 2
        crops_NSS3 = cells_NSS3[:, low : low + crop_px, low : low + crop_px]
        oriented_MSS3 = torch.cat([oriented(crops_NSS3, orientation) for orientation in orientations])
        frozen_MD = None if self.backbone is None else rounded_features(self.backbone, oriented_MSS3).float()
        counts, attributes_OA = (
            [cells_NSS3.shape[0]] * len(orientations),
            attributes_1A.float().expand(len(orientations), -1),
        )
        probabilities = []
        for model in self.folds:
            features_MD = model.encode_at_once(oriented_MSS3) if frozen_MD is None else model.encoder(frozen_MD)
            probabilities.append(model.join(features_MD, counts, attributes_OA).probability_B)
        return torch.cat(probabilities).mean(dim=0, keepdim=True)


class ClinicalTrial(nn.Module):
    """The mean over a clinical model's folds; it ignores the pictures."""

    def __init__(self, folds: Sequence[nn.Module]) -> None:
        super().__init__()
        self.folds = nn.ModuleList(folds)

    def forward(self, cells_NSS3: Tensor, attributes_1A: Tensor) -> Tensor:
        return torch.cat([model(attributes_1A) for model in self.folds]).mean(dim=0, keepdim=True).float()


def load_deployed(
    members: Sequence[Member], weight_T: np.ndarray, attributes: Sequence[Attribute] = STANDARD
) -> Deployed:
    """Return the network of saved member trials, in evaluation mode; raises InputError where a file does not fit."""
    backbones: dict[str, Backbone] = {}  # by file hash; trials with the same backbone share it
    trials = [_trial(chosen, paths, backbones) for chosen, paths in members]
    return Deployed(trials, weight_T, attributes).eval()


def _trial(chosen: Configuration, paths: Sequence[Path], backbones: dict[str, Backbone]) -> nn.Module:
    if chosen.kind == "clinical":
        return ClinicalTrial([as_network(load_pipeline(path)) for path in paths])
    folds = [load_network(path, chosen) for path in paths]
    if not is_frozen(chosen):
        return NetworkTrial(folds, chosen.data)
    file = paths[0].parent / WEIGHTS
    if (content := sha256(file)) not in backbones:
        backbones[content] = load_backbone(chosen, file)
    return NetworkTrial(folds, chosen.data, backbones[content])
