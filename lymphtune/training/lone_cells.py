"""A saved network's prediction for single cells: the probability of a bag that holds one cell only.

Shapes: C cells of the requested patients, M cells, D features, A attributes.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lymphtune.cohort.cohort import Cohort
from lymphtune.config import Configuration
from lymphtune.models.bag_classifier import BagClassifier
from lymphtune.training.batches import Batch
from lymphtune.training.frozen import FeatureCache
from lymphtune.training.loading import open_network
from lymphtune.training.network import CellPrediction
from lymphtune.training.precision import full_float32


@torch.no_grad()
def predict_lone_cells_with(
    path: Path, configuration: Configuration, cohort: Cohort, rows: np.ndarray, kept: FeatureCache
) -> CellPrediction:
    """Return a network's prediction for every cell of the patients in `rows`, float64, in orientation 0.

    probability_C: of a bag of that cell only, for any aggregator; by the pictures' expert where there are two experts,
    and with the patient's attributes where the fusion joins them to each cell. weight_C: weight in the whole bag.
    kept: stores frozen features computed in memory.
    """
    model, bags = open_network(path, configuration, cohort, kept)
    with full_float32():
        predictions = [_of_batch(model, batch) for batch in bags.evaluation(np.asarray(rows))]
    return CellPrediction(*np.concatenate(predictions, axis=1))


def _of_batch(model: BagClassifier, batch: Batch) -> np.ndarray:
    """Return probability and weight [2, M]."""
    features_MD = model.encode(batch.cells)
    counts = torch.tensor(batch.counts)
    weight_BN = model.join(features_MD, batch.counts, batch.attributes_BA).weight_BN.cpu()
    real_BN = torch.arange(weight_BN.shape[1]) < counts[:, None]
    of_cell_MA = batch.attributes_BA.repeat_interleave(counts.to(batch.attributes_BA.device), dim=0)
    alone_M = lone_logits(model, features_MD, of_cell_MA).double().sigmoid().cpu()
    return torch.stack([alone_M, weight_BN[real_BN].double()]).numpy()


def lone_logits(model: BagClassifier, features_MD: Tensor, attributes_MA: Tensor) -> Tensor:
    """Return the head's logit [M] for a bag of each single cell; its gradient does not saturate as a probability's."""
    caught: list[Tensor] = []
    fusion = model.fusion
    with fusion.head.register_forward_hook(lambda head, given, logits: caught.append(logits)):
        model.join(features_MD, [1] * len(features_MD), attributes_MA)
    return caught[0].flatten()
