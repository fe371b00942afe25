"""The bag classifier: encoder -> fusion (with its aggregation and head), from pictures to a probability.

Shapes: B bags, M cells of all bags together, N cells in the longest bag, D features, A attributes.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lymphtune.config import Configuration
from lymphtune.models.output import BagOutput
from lymphtune.models.parts import Parts
from lymphtune.registry import encoders, fusions

ATTRIBUTES = ("age_years", "log_lymphocytes")
CELLS_PER_CHUNK = 512  # more cells than this go through the encoder in chunks, recomputed for the gradient
CELLS_IN_CACHE = 64  # the chunk on a CPU where there is no gradient


class BagClassifier(nn.Module):
    """One network over bags of cells; it carries the attributes' mean and sd of its training patients."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__()
        model = configuration.model
        if model is None:
            raise ValueError("a clinical configuration has no bag classifier")
        self.encoder = encoders[model.encoder.word].build(configuration.data.crop_px, model.encoder.options)
        fusion = fusions[model.fusion.word]
        self.fusion = fusion.build(self.encoder.features, len(ATTRIBUTES), Parts(model), model.fusion.options)
        self.register_buffer("attribute_mean_A", torch.zeros(len(ATTRIBUTES)))
        self.register_buffer("attribute_sd_A", torch.ones(len(ATTRIBUTES)))

    def standardise_by(self, attributes_PA: Tensor) -> None:
        """Take mean and sd of the training patients' attributes [P, A]."""
        self.attribute_mean_A = attributes_PA.mean(dim=0).float()
        self.attribute_sd_A = attributes_PA.std(dim=0, correction=0).clamp_min(1e-6).float()

    def forward(self, cells_MHW3: Tensor, counts_B: Tensor, attributes_BA: Tensor) -> BagOutput:
        """Return the bags' probabilities.

        cells_MHW3: uint8, the cells of the first bag, then of the second, ...; counts_B: cells of each bag;
        attributes_BA: age in years and log lymphocyte count, not standardised.
        """
        features_MD = self._encode(cells_MHW3)
        mask_BN = torch.arange(int(counts_B.max()), device=counts_B.device) < counts_B[:, None]
        cells_BND = features_MD.new_zeros(*mask_BN.shape, features_MD.shape[1])
        cells_BND = cells_BND.masked_scatter(mask_BN[..., None], features_MD)
        standard_BA = (attributes_BA - self.attribute_mean_A) / self.attribute_sd_A
        return self.fusion(cells_BND, mask_BN, standard_BA)

    def _encode(self, cells_MHW3: Tensor) -> Tensor:
        """Return features [M, D]; batch norm sees one chunk at a time where there are several."""
        small = cells_MHW3.device.type == "cpu" and not torch.is_grad_enabled()
        chunks = cells_MHW3.split(min(CELLS_IN_CACHE, CELLS_PER_CHUNK) if small else CELLS_PER_CHUNK)
        if len(chunks) == 1:
            return self.encoder(as_pictures(cells_MHW3))
        if torch.is_grad_enabled():
            return torch.cat([checkpoint(self._encode, chunk, use_reentrant=False) for chunk in chunks])
        return torch.cat([self._encode(chunk) for chunk in chunks])


def as_pictures(cells_MHW3: Tensor) -> Tensor:
    """Return [M, 3, H, W] in [-1, 1], channels last in memory, in the precision of the step."""
    device = cells_MHW3.device.type
    precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    return torch.add(torch.tensor(-1, dtype=precision), cells_MHW3.permute(0, 3, 1, 2), alpha=1 / 127.5)
