"""Networks, clinical models and protocols that train in a moment."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from lymphtune.cohort import Cohort
from lymphtune.cohort.folds import make_folds
from lymphtune.config import Configuration, configuration
from lymphtune.training.batches import Bags
from lymphtune.training.lockstep import EpochResult, Protocol, train
from lymphtune.training.network import NetworkMember

CPU = torch.device("cpu")
FOLDS = 3
HEAD = {"mlp": {"hidden": [16], "dropout": 0.3}}
DATA = {"crop_px": 40, "bag_size": 3}


def small(
    fusion: Any = "concat",
    encoder: Any = "vanilla",
    head: Any = HEAD,
    data: Any = None,
    aggregator: Any = "prediction_mean",
    **training: Any,
) -> Configuration:
    """Return a network that trains in a moment."""
    return configuration(
        {
            "model": {"encoder": encoder, "fusion": fusion, "head": head, "aggregator": aggregator},
            "data": DATA | (data or {}),
            "training": {"precision": "float32", "patients_per_step": 4, "learning_rate": 3e-3} | training,
        },
        "test",
    )


def clinical(word: str) -> Configuration:
    return configuration({"clinical": {word: {"trees": 20} if word == "random_forest" else {}}}, "test")


def member_of(chosen: Configuration, cohort: Cohort, epochs: int = 2, **given: Any) -> NetworkMember:
    """Return one fold model that learns from all labelled patients."""
    bags = Bags(cohort, chosen.data, CPU)
    return NetworkMember(chosen, bags, cohort.labelled, epochs, [0, 0, 0], **given)


def protocol(
    cohort: Cohort, epochs: int = 2, folds: int = FOLDS, repeats: int = 1, seed: int = 0, **how: Any
) -> Protocol:
    return Protocol(make_folds(cohort.labels, folds, repeats, 0), epochs, seed, **how)


def trained(chosen: Configuration, cohort: Cohort, **wanted: Any) -> list[EpochResult]:
    return list(train(chosen, cohort, protocol(cohort, **wanted)))


def probabilities(results: list[EpochResult]) -> np.ndarray:
    return np.stack([result.probabilities_RP for result in results])


def changed(cohort: Cohort, row: int, **columns: Any) -> Cohort:
    """Return the cohort with one patient's attributes or label changed."""
    patients = cohort.patients.copy()
    for column, value in columns.items():
        patients.loc[patients.index[row], column] = value
    return replace(cohort, patients=patients)
