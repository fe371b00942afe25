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
from lymphtune.models.memory import trim_heap
from lymphtune.models.output import BagOutput
from lymphtune.models.parts import Parts
from lymphtune.registry import encoders, fusions

N_ATTRIBUTES = 2  # of the study: age and the logarithm of the lymphocyte count
SMALLEST_SD = 1e-6  # below it, an attribute counts as constant over the training patients
UNCHUNKED_CELLS = 16  # a batch of at most this many is never divided
# On a CPU, a batch whose activations for the gradient take more than MOST_WHOLE_BYTES is divided into chunks whose
# activations take CHUNK_BYTES.
MOST_WHOLE_BYTES, CHUNK_BYTES = 1.2e9, 0.3e9
CELLS_IN_CACHE = 64  # the chunk on a CPU without a gradient


@dataclass
class Chunk:
    """The number of pixels that an encoder takes at once; a larger batch is divided and recomputed for the gradient.

    The models of a trial share it. None: not known yet. On a CPU it follows from the bytes that a cell keeps for the
    gradient; a GPU takes whole batches until its memory runs out, then half as much.
    """

    pixels: int | None = None
    undivided: int | None = None  # the largest batch, in pixels, that is not divided; None: one chunk
    halved: bool = False

    def at_once(self, cells: int, side: int) -> int:
        """Return the number of cells in a chunk, for a batch of `cells` pictures of `side` pixels."""
        if self.pixels is None or cells * side**2 <= (self.undivided or self.pixels):
            return cells
        return max(1, self.pixels // side**2)

    def set_from_bytes(self, bytes_per_cell: float, side: int) -> None:
        """Set the limits of a CPU from the bytes that each cell keeps for the gradient."""
        self.pixels, self.undivided = (
            int(limit / bytes_per_cell) * side**2 for limit in (CHUNK_BYTES, MOST_WHOLE_BYTES)
        )

    def halve(self, cells: int, side: int) -> bool:
        """Halve the chunk that a batch of this size had; return False where it was a single cell."""
        tried = self.at_once(cells, side)
        self.pixels, self.undivided, self.halved = max(1, tried // 2) * side**2, None, True
        return tried > 1


class BagClassifier(nn.Module):
    """A network over bags of cells, with the mean and sd of its training patients' attributes as buffers."""

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

    def fit_attributes(self, attributes_PA: Tensor) -> None:
        """Set mean and sd to those of the training patients' attributes [P, A]; missing values (NaN) are ignored."""
        known_A = attributes_PA.nanmean(dim=0).nan_to_num()  # 0 for an attribute without any value
        imputed_PA = torch.where(attributes_PA.isnan(), known_A, attributes_PA)
        sd_A = imputed_PA.std(dim=0, correction=0)
        self.attribute_mean_A.copy_(imputed_PA.mean(dim=0))
        self.attribute_sd_A.copy_(torch.where(sd_A < SMALLEST_SD, 1.0, sd_A))

    def set_memory_format(self, channels_last: bool) -> None:
        """Set the memory format of weights and pictures."""
        self.channels_last = channels_last
        self.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)

    def forward(self, cells: Tensor, counts: Sequence[int], attributes_BA: Tensor) -> BagOutput:
        """Return the bags' probabilities.

        cells: pictures [M, H, W, 3], uint8, or a frozen encoder's features [M, D], of the first bag, then of the
        second, ...; counts: cells of each bag; attributes_BA: clinical attributes, not standardised; a missing value
        (NaN) becomes the mean of the training patients.
        """
        return self.join(self.encode(cells), counts, attributes_BA)

    def join(self, features_MD: Tensor, counts: Sequence[int], attributes_BA: Tensor) -> BagOutput:
        """Return the bags' probabilities from their cells' features [M, D]; the rest as in `forward`."""
        cells_BND, mask_BN = _padded(features_MD, counts)
        standard_BA = (attributes_BA - self.attribute_mean_A) / self.attribute_sd_A
        return self.fusion(cells_BND, mask_BN, torch.where(standard_BA.isnan(), 0.0, standard_BA))

    def encode(self, cells: Tensor) -> Tensor:
        """Return features [M, D]; in training, batch norm computes its statistics for each chunk separately."""
        if cells.ndim == 2:
            return self.encoder(cells)
        learning, on_cpu = torch.is_grad_enabled(), cells.device.type == "cpu"
        if learning and on_cpu and self.chunk.pixels is None and len(cells) > UNCHUNKED_CELLS:
            # The difference between four cells and two is without the bytes of the weights.
            two, four = self._saved_bytes(cells[:2]), self._saved_bytes(cells[:4])
            self.chunk.set_from_bytes((four - two) / 2, cells.shape[1])
        at_once = self.chunk.at_once(len(cells), cells.shape[1])
        if not learning and on_cpu:
            at_once = min(at_once, CELLS_IN_CACHE)
        if len(cells) <= at_once:
            return self.encode_at_once(cells)
        chunks = cells.split(_even(len(cells), at_once))
        if learning:
            return torch.cat([checkpoint(self._encode_and_trim, chunk, use_reentrant=False) for chunk in chunks])
        return torch.cat([self.encode_at_once(chunk) for chunk in chunks])

    def _saved_bytes(self, cells_MHW3: Tensor) -> int:
        """Return the bytes of the tensors that the encoder saves for the gradient."""
        saved: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        training = self.encoder.training
        self.encoder.eval()  # leaves the batch statistics unchanged
        with saved_tensors_hooks(note, lambda tensor: tensor):
            features_MD = self.encode_at_once(cells_MHW3)
        self.encoder.train(training)
        del features_MD  # deleted only here: a freed tensor's address could be used twice
        return sum(saved.values())

    def _encode_and_trim(self, cells_MHW3: Tensor) -> Tensor:
        """Return features [M, D] of one chunk of many; without the trim the heap would grow with each chunk."""
        if cells_MHW3.device.type == "cpu":
            trim_heap()
        return self.encode_at_once(cells_MHW3)

    def encode_at_once(self, cells_MHW3: Tensor) -> Tensor:
        """Return features [M, D] of pictures, in one pass."""
        pictures_MCHW = as_pictures(cells_MHW3)
        return self.encoder(pictures_MCHW if self.channels_last else pictures_MCHW.contiguous())


def _even(count: int, most: int) -> int:
    """Return the size of chunks, at most `most`, such that the last is at least half of the others.

    The batch statistics of a few cells would be too noisy.
    """
    return next(size for size in range(most, 0, -1) if count % size == 0 or 2 * (count % size) >= size)


def _padded(features_MD: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return features [B, N, D], 0 on padding, and the mask [B, N] of real cells, without a GPU synchronisation."""
    longest, device = max(counts), features_MD.device
    if min(counts) == longest:
        mask_BN = torch.ones(len(counts), longest, dtype=torch.bool, device=device)
        return features_MD.unflatten(0, (len(counts), longest)), mask_BN
    mask_BN = torch.arange(longest) < torch.tensor(counts)[:, None]
    places_M = mask_BN.flatten().nonzero().squeeze(1).to(device, non_blocking=True)
    cells_LD = features_MD.new_zeros(mask_BN.numel(), features_MD.shape[1]).index_copy(0, places_M, features_MD)
    return cells_LD.unflatten(0, (len(counts), longest)), mask_BN.to(device, non_blocking=True)


def as_pictures(cells_MHW3: Tensor) -> Tensor:
    """Return [M, 3, H, W] in [-1, 1], channels last in memory, in the precision of autocast."""
    device = cells_MHW3.device.type
    precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    return torch.add(torch.tensor(-1, dtype=precision), cells_MHW3.permute(0, 3, 1, 2), alpha=1 / 127.5)
