"""Saliency maps of cells: gradients of a saved network's logit for a cell, averaged over noisy copies (SmoothGrad).

Shapes: M cells, S side of a picture in the cohort, K side of the network's crop, N noisy copies, A attributes.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from lymphtune.cohort.cohort import Cohort
from lymphtune.config import Configuration
from lymphtune.models.backbone import Backbone
from lymphtune.models.bag_classifier import BagClassifier, as_pictures
from lymphtune.training.frozen import WEIGHTS, is_frozen, load_backbone
from lymphtune.training.loading import load_network
from lymphtune.training.lone_cells import lone_logits

COPIES = 8  # noisy copies of a cell
NOISE = 0.15  # sd, as a fraction of the range of the cell's pixels
CLIPPED = 0.99  # quantile of a cell's gradients that maps to 1
SMOOTHED_PX = 5  # side of the square over which gradients are averaged


def saliency_with(
    path: Path, configuration: Configuration, cohort: Cohort, rows_M: np.ndarray, cells_M: np.ndarray
) -> np.ndarray:
    """Return the saliency of each pixel for the logit of a single cell [M, S, S], 0 to 1; 0 outside its crop.

    The cells are those with numbers `cells_M` in the bags of the patients in `rows_M`. The mean gradient over noisy
    copies, its magnitude summed over the colours, is averaged over squares of 5 px; 0 is the median, 1 the 99th
    percentile. The noise is the same in every call. Source: Smilkov et al. 2017, section 2 and 3.2 (arXiv:1706.03825).
    """
    model = load_network(path, configuration).requires_grad_(False)
    backbone = load_backbone(configuration, path.parent / WEIGHTS).eval() if is_frozen(configuration) else None
    pictures = [cohort.bag(row)[cell] for row, cell in zip(rows_M, cells_M, strict=True)]
    attributes_MA = torch.from_numpy(cohort.attributes_PA[rows_M]).float()
    heat_MSS = np.zeros((len(rows_M), *cohort.pictures_CSS3.shape[1:3]), dtype=np.float32)
    crop_px = configuration.data.crop_px
    low = (heat_MSS.shape[1] - crop_px) // 2
    crop = slice(low, low + crop_px)
    for heat_SS, picture_SS3, attributes_A in zip(heat_MSS, pictures, attributes_MA, strict=True):
        cell_KK3 = torch.from_numpy(np.array(picture_SS3[crop, crop])).float()
        heat_SS[crop, crop] = _heat(_mean_gradient(model, backbone, cell_KK3, attributes_A)).numpy()
    return heat_MSS


def _mean_gradient(model: BagClassifier, backbone: Backbone | None, cell_KK3: Tensor, attributes_A: Tensor) -> Tensor:
    """Return the gradient of the logit with respect to the pixels [K, K, 3], mean over noisy copies."""
    generator = torch.Generator().manual_seed(0)
    noise_NKK3 = torch.randn((COPIES, *cell_KK3.shape), generator=generator)
    given_NKK3 = cell_KK3 + NOISE * (cell_KK3.max() - cell_KK3.min()) * noise_NKK3
    given_NKK3.requires_grad_(True)
    with torch.enable_grad():
        if backbone is None:
            features_ND = model.encode_at_once(given_NKK3)
        else:
            features_ND = model.encoder(backbone.requires_grad_(False)(as_pictures(given_NKK3)).float())
        logit_N = lone_logits(model, features_ND, attributes_A.expand(COPIES, -1))
        (gradient_NKK3,) = torch.autograd.grad(logit_N.sum(), given_NKK3)
    return gradient_NKK3.mean(dim=0)


def _heat(gradient_KK3: Tensor) -> Tensor:
    """Return a gradient's smoothed magnitude [K, K], from 0 (its median and below) to 1 (its 99th percentile)."""
    size_1KK = gradient_KK3.abs().sum(dim=2)[None]
    smooth_KK = avg_pool2d(size_1KK, SMOOTHED_PX, stride=1, padding=SMOOTHED_PX // 2, count_include_pad=False)[0]
    median, most = float(smooth_KK.median()), float(smooth_KK.quantile(CLIPPED))
    most = most if most > median else float(smooth_KK.max())
    return ((smooth_KK - median) / (most - median)).clamp(0, 1) if most > median else torch.zeros_like(smooth_KK)
