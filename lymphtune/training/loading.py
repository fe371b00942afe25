"""Fold models read back from their weights files, and what they say of patients."""

from pathlib import Path

import numpy as np
import skops.io
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from sklearn.pipeline import Pipeline

from lymphtune.cohort.cohort import Cohort
from lymphtune.config import Configuration
from lymphtune.errors import InputError
from lymphtune.models.bag_classifier import BagClassifier
from lymphtune.training.batches import Bags, attributes
from lymphtune.training.network import predict


def predict_with(path: Path, configuration: Configuration, cohort: Cohort, rows: np.ndarray) -> np.ndarray:
    """Return probabilities [len(rows)] of one saved fold model, float32 arithmetic on any machine.

    Raises InputError where the file does not hold the weights of such a configuration.
    """
    if configuration.kind == "clinical":
        return load_pipeline(path).predict_proba(attributes(cohort)[rows])[:, 1]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_network(path, configuration).to(device, memory_format=torch.channels_last)
    return predict(model, Bags(cohort, configuration.data, device), rows, torch.float32)


def load_network(path: Path, configuration: Configuration) -> BagClassifier:
    """Return the network, in evaluation mode; names and shapes must be the configuration's."""
    model = BagClassifier(configuration)
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise InputError(f"{path}: not the weights of {configuration.title} ({str(error).splitlines()[0]})") from error
    return model.eval()


def load_pipeline(path: Path) -> Pipeline:
    """Return the clinical pipeline; nothing but scikit-learn's own types is built from the file."""
    try:
        return skops.io.load(path, trusted=None)
    except (skops.io.exceptions.UntrustedTypesFoundException, ValueError, OSError, KeyError) as error:
        raise InputError(f"{path}: not a clinical model ({str(error).splitlines()[0]})") from error
