"""The bag classifier: encoder -> fusion (with its aggregation and head), from pictures to a probability.

Shapes: B bags, M cells of all bags together, N cells in the longest bag, D features, A attributes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lymphtune.config import Configuration
from lymphtune.models.output import BagOutput
from lymphtune.models.parts import Parts
from lymphtune.registry import encoders, fusions

ATTRIBUTES = ("age_years", "log_lymphocytes")
PIXELS_PER_CHUNK = 128 * 224 * 224  # 512 cells of 112 px
CELLS_IN_CACHE = 64  # the chunk on a CPU where there is no gradient


@dataclass
class Chunk:
    """How many pixels of cells go through an encoder at a time; more go in several chunks, recomputed for the
    gradient. Shared by a trial's models, and halved when a GPU's memory does not suffice."""

    pixels: int = PIXELS_PER_CHUNK

    def cells(self, side: int) -> int:
        return max(1, self.pixels // side**2)

    def halve(self, cells: int, side: int) -> bool:
        """Allow half of what was tried, a batch of so many cells; return False where that was a single cell."""
        tried = min(cells, self.cells(side))
        self.pixels = max(1, tried // 2) * side**2
        return tried > 1


class BagClassifier(nn.Module):
    """One network over bags of cells; it carries the attributes' mean and sd of its training patients."""

    attribute_mean_A: Tensor
    attribute_sd_A: Tensor

    def __init__(self, configuration: Configuration, chunk: Chunk | None = None) -> None:
        super().__init__()
        model = configuration.model
        if model is None:
            raise ValueError("a clinical configuration has no bag classifier")
        self.chunk = chunk or Chunk()
        self.channels_last = True
        self.encoder = encoders[model.encoder.word].build(configuration.data.crop_px, model.encoder.options)
        fusion = fusions[model.fusion.word]
        self.fusion = fusion.build(self.encoder.features, len(ATTRIBUTES), Parts(model), model.fusion.options)
        self.register_buffer("attribute_mean_A", torch.zeros(len(ATTRIBUTES)))
        self.register_buffer("attribute_sd_A", torch.ones(len(ATTRIBUTES)))

    def standardise_by(self, attributes_PA: Tensor) -> None:
        """Take mean and sd of the training patients' attributes [P, A]."""
        self.attribute_mean_A.copy_(attributes_PA.mean(dim=0))
        self.attribute_sd_A.copy_(attributes_PA.std(dim=0, correction=0).clamp_min(1e-6))

    def lay_out(self, channels_last: bool) -> None:
        """Keep weights and pictures with channels last in memory, or first."""
        self.channels_last = channels_last
        self.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)

    def forward(self, cells: Tensor, counts: Sequence[int], attributes_BA: Tensor) -> BagOutput:
        """Return the bags' probabilities.

        cells: pictures [M, H, W, 3], uint8, or a frozen encoder's features [M, D], of the first bag, then of the
        second, ...; counts: cells of each bag; attributes_BA: age in years and log lymphocyte count, not standardised.
        """
        cells_BND, mask_BN = _padded(self._encode(cells), counts)
        standard_BA = (attributes_BA - self.attribute_mean_A) / self.attribute_sd_A
        return self.fusion(cells_BND, mask_BN, standard_BA)

    def _encode(self, cells: Tensor) -> Tensor:
        """Return features [M, D]; batch norm in training sees one chunk at a time where there are several."""
        if cells.ndim == 2:
            return self.encoder(cells)
        at_once = self.chunk.cells(cells.shape[1])
        if not torch.is_grad_enabled() and cells.device.type == "cpu":
            at_once = min(at_once, CELLS_IN_CACHE)
        if len(cells) <= at_once:
            return self.encode_chunk(cells)
        chunks = cells.split(at_once)
        if torch.is_grad_enabled():
            return torch.cat([checkpoint(self.encode_chunk, chunk, use_reentrant=False) for chunk in chunks])
        return torch.cat([self.encode_chunk(chunk) for chunk in chunks])

    def encode_chunk(self, cells_MHW3: Tensor) -> Tensor:
        """Return features [M, D] of pictures, all at once."""
        pictures_MCHW = as_pictures(cells_MHW3)
        return self.encoder(pictures_MCHW if self.channels_last else pictures_MCHW.contiguous())


def _padded(features_MD: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return features [B, N, D], 0 on padding, and the mask [B, N] of real cells; never waits for a GPU."""
    longest = max(counts)
    if min(counts) == longest:
        mask_BN = torch.ones(len(counts), longest, dtype=torch.bool, device=features_MD.device)
        return features_MD.unflatten(0, (len(counts), longest)), mask_BN
    mask_BN = torch.arange(longest) < torch.tensor(counts)[:, None]
    mask_BN = mask_BN.to(features_MD.device, non_blocking=True)
    cells_BND = features_MD.new_zeros(*mask_BN.shape, features_MD.shape[1])
    return cells_BND.masked_scatter(mask_BN[..., None], features_MD), mask_BN


def as_pictures(cells_MHW3: Tensor) -> Tensor:
    """Return [M, 3, H, W] in [-1, 1], channels last in memory, in the precision of the step."""
    device = cells_MHW3.device.type
    precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    return torch.add(torch.tensor(-1, dtype=precision), cells_MHW3.permute(0, 3, 1, 2), alpha=1 / 127.5)
