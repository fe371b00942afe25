"""The bag classifier: encoder -> fusion (with its aggregation and head), from pictures to a probability.

Shapes: B bags, M cells of all bags together, N cells in the longest bag, D features, A attributes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from lymphtune.config import Configuration
from lymphtune.models.memory import give_back
from lymphtune.models.output import BagOutput
from lymphtune.models.parts import Parts
from lymphtune.registry import encoders, fusions

N_ATTRIBUTES = 2  # of the study: age and the logarithm of the lymphocyte count
SMALLEST_SD = 1e-6  # of an attribute; below, it is the same for all training patients
FREE_CELLS = 16  # so few are never counted
WHOLE_BYTES = 1.2e9  # on a CPU a batch that would keep more than this for the gradient goes through in chunks
CHUNK_BYTES = 0.3e9  # of this
CELLS_IN_CACHE = 64  # the chunk on a CPU where there is no gradient


@dataclass
class Chunk:
    """How many pixels of cells go through an encoder at once; more go in chunks, recomputed for the gradient.

    Shared by a trial's models. None: not known yet; a CPU finds it by the bytes that a cell keeps for the gradient,
    a GPU takes everything until its memory runs out, and then half of that.
    """

    pixels: int | None = None
    undivided: int | None = None  # pixels of a batch that goes through whole; None: as many as in a chunk
    halved: bool = False

    def at_once(self, cells: int, side: int) -> int:
        """Return how many of so many cells go through together."""
        if self.pixels is None or cells * side**2 <= (self.undivided or self.pixels):
            return cells
        return max(1, self.pixels // side**2)

    def find(self, bytes_a_cell: float, side: int) -> None:
        """Take the limits of a CPU for cells that keep so many bytes each."""
        self.pixels, self.undivided = (int(limit / bytes_a_cell) * side**2 for limit in (CHUNK_BYTES, WHOLE_BYTES))

    def halve(self, cells: int, side: int) -> bool:
        """Allow half of what was tried, a batch of so many cells; return False where that was a single cell."""
        tried = self.at_once(cells, side)
        self.pixels, self.undivided, self.halved = max(1, tried // 2) * side**2, None, True
        return tried > 1


class BagClassifier(nn.Module):
    """One network over bags of cells; it carries the attributes' mean and sd of its training patients."""

    attribute_mean_A: Tensor
    attribute_sd_A: Tensor

    def __init__(
        self, configuration: Configuration, chunk: Chunk | None = None, n_attributes: int = N_ATTRIBUTES
    ) -> None:
        super().__init__()
        model = configuration.model
        if model is None:
            raise ValueError("a clinical configuration has no bag classifier")
        self.chunk = chunk or Chunk()
        self.channels_last = True
        self.encoder = encoders[model.encoder.word].build(configuration.data.crop_px, model.encoder.options)
        fusion = fusions[model.fusion.word]
        self.fusion = fusion.build(self.encoder.features, n_attributes, Parts(model), model.fusion.options)
        self.register_buffer("attribute_mean_A", torch.zeros(n_attributes))
        self.register_buffer("attribute_sd_A", torch.ones(n_attributes))

    def standardise_by(self, attributes_PA: Tensor) -> None:
        """Take mean and sd of the training patients' attributes [P, A], their missing values (NaN) put at the mean."""
        known_A = attributes_PA.nanmean(dim=0).nan_to_num()  # 0 of an attribute that none of them has
        imputed_PA = torch.where(attributes_PA.isnan(), known_A, attributes_PA)
        sd_A = imputed_PA.std(dim=0, correction=0)
        self.attribute_mean_A.copy_(imputed_PA.mean(dim=0))
        self.attribute_sd_A.copy_(torch.where(sd_A < SMALLEST_SD, 1.0, sd_A))

    def lay_out(self, channels_last: bool) -> None:
        """Keep weights and pictures with channels last in memory, or first."""
        self.channels_last = channels_last
        self.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)

    def forward(self, cells: Tensor, counts: Sequence[int], attributes_BA: Tensor) -> BagOutput:
        """Return the bags' probabilities.

        cells: pictures [M, H, W, 3], uint8, or a frozen encoder's features [M, D], of the first bag, then of the
        second, ...; counts: cells of each bag; attributes_BA: clinical attributes, not standardised,
        NaN where a value is missing: it is taken for the mean of the training patients.
        """
        return self.join(self.encode(cells), counts, attributes_BA)

    def join(self, features_MD: Tensor, counts: Sequence[int], attributes_BA: Tensor) -> BagOutput:
        """Return the bags' probabilities from their cells' features [M, D]; else as `forward`."""
        cells_BND, mask_BN = _padded(features_MD, counts)
        standard_BA = (attributes_BA - self.attribute_mean_A) / self.attribute_sd_A
        return self.fusion(cells_BND, mask_BN, torch.where(standard_BA.isnan(), 0.0, standard_BA))

    def encode(self, cells: Tensor) -> Tensor:
        """Return features [M, D]; batch norm in training sees one chunk at a time where there are several."""
        if cells.ndim == 2:
            return self.encoder(cells)
        learning, on_cpu = torch.is_grad_enabled(), cells.device.type == "cpu"
        at_once = self.chunk.at_once(len(cells), cells.shape[1])
        if not learning and on_cpu:
            at_once = min(at_once, CELLS_IN_CACHE)
        if len(cells) <= at_once:
            return self.encode_chunk(cells)
        chunks = cells.split(_even(len(cells), at_once))
        if learning:
            return torch.cat([checkpoint(self._encode_alone, chunk, use_reentrant=False) for chunk in chunks])
        return torch.cat([self.encode_chunk(chunk) for chunk in chunks])

    def find_chunk(self, cells: Tensor) -> None:
        """Find how many such cells go through at once on a CPU, where that is not known; call it before a step."""
        if cells.ndim == 2 or cells.device.type != "cpu" or self.chunk.pixels or len(cells) <= FREE_CELLS:
            return
        two, four = self._bytes_kept(cells[:2]), self._bytes_kept(cells[:4])  # the difference is no weight's
        self.chunk.find((four - two) / 2, cells.shape[1])

    def _bytes_kept(self, cells_MHW3: Tensor) -> int:
        """Return what the encoder keeps until the gradient is computed."""
        kept: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        training = self.encoder.training
        self.encoder.eval()  # batch statistics are left alone
        with saved_tensors_hooks(note, lambda tensor: tensor):
            features_MD = self.encode_chunk(cells_MHW3)
        self.encoder.train(training)
        del features_MD  # until here nothing kept was freed, so no address stands for two
        return sum(kept.values())

    def _encode_alone(self, cells_MHW3: Tensor) -> Tensor:
        """Return features [M, D] of one chunk of many; without this each would leave its size behind in the heap."""
        if cells_MHW3.device.type == "cpu":
            give_back()
        return self.encode_chunk(cells_MHW3)

    def encode_chunk(self, cells_MHW3: Tensor) -> Tensor:
        """Return features [M, D] of pictures, all at once."""
        pictures_MCHW = as_pictures(cells_MHW3)
        return self.encoder(pictures_MCHW if self.channels_last else pictures_MCHW.contiguous())


def _even(count: int, most: int) -> int:
    """Return the size of chunks, all alike but the last, which is at least half of one.

    A few cells alone have no batch statistics worth the name.
    """
    return next(size for size in range(most, 0, -1) if count % size == 0 or 2 * (count % size) >= size)


def _padded(features_MD: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return features [B, N, D], 0 on padding, and the mask [B, N] of real cells; never waits for a GPU."""
    longest, device = max(counts), features_MD.device
    if min(counts) == longest:
        mask_BN = torch.ones(len(counts), longest, dtype=torch.bool, device=device)
        return features_MD.unflatten(0, (len(counts), longest)), mask_BN
    mask_BN = torch.arange(longest) < torch.tensor(counts)[:, None]
    places_M = mask_BN.flatten().nonzero().squeeze(1).to(device, non_blocking=True)
    cells_LD = features_MD.new_zeros(mask_BN.numel(), features_MD.shape[1]).index_copy(0, places_M, features_MD)
    return cells_LD.unflatten(0, (len(counts), longest)), mask_BN.to(device, non_blocking=True)


def as_pictures(cells_MHW3: Tensor) -> Tensor:
    """Return [M, 3, H, W] in [-1, 1], channels last in memory, in the precision of the step."""
    device = cells_MHW3.device.type
    precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    return torch.add(torch.tensor(-1, dtype=precision), cells_MHW3.permute(0, 3, 1, 2), alpha=1 / 127.5)
