"""Fold models read back from their weights files, and what they say of patients."""

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from sklearn.pipeline import Pipeline

from lymphtune.cohort.cohort import Cohort
from lymphtune.config import Configuration
from lymphtune.errors import InputError
from lymphtune.models.bag_classifier import BagClassifier
from lymphtune.training.arithmetic import Arithmetic
from lymphtune.training.batches import Bags
from lymphtune.training.clinical import probability
from lymphtune.training.frozen import WEIGHTS, Kept, features, features_here
from lymphtune.training.network import Said, SaidOfCells, judge, judge_cells

KNOWN_TYPES = [  # of scikit-learn's, beyond those that skops knows as harmless
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.model_selection._split.StratifiedKFold",
    "sklearn.tree._tree.Tree",
]


def judge_with(
    path: Path, configuration: Configuration, cohort: Cohort, rows: np.ndarray,
    kept: Kept | None = None, on: str | None = None,
) -> Said:  # fmt: skip
    """Return what one saved fold model says of the patients in `rows`, float32 arithmetic on any machine.

    `kept`: where frozen features are computed in memory, for models with the same backbone to share; None: they
    are taken from the cache. `on`: the device; a GPU where there is one, unless named. Raises InputError where the
    file does not hold the weights of such a configuration.
    """
    if configuration.kind == "clinical":
        return _clinical(path, cohort, rows)
    model, bags = open_network(path, configuration, cohort, kept, on)
    return judge(model, bags, rows, Arithmetic())


def judge_cells_with(
    path: Path, configuration: Configuration, cohort: Cohort, rows: np.ndarray, kept: Kept | None = None
) -> tuple[Said, SaidOfCells]:
    """Return the same, and what the model says of these patients' cells: nothing (NaN) where it is a clinical one."""
    if configuration.kind == "clinical":
        nothing_C = np.full(int(cohort.patients["n_cells"].to_numpy()[rows].sum()), np.nan)
        return _clinical(path, cohort, rows), SaidOfCells(nothing_C, nothing_C)
    model, bags = open_network(path, configuration, cohort, kept)
    return judge_cells(model, bags, rows, Arithmetic())


def _clinical(path: Path, cohort: Cohort, rows: np.ndarray) -> Said:
    pipeline = load_pipeline(path)
    _check_attributes(path, pipeline[0].n_features_in_, cohort)
    probability_P = probability(pipeline, cohort.attributes_PA[rows])
    return Said(probability_P, np.full(len(rows), np.nan))


def open_network(
    path: Path, configuration: Configuration, cohort: Cohort, kept: Kept | None, on: str | None = None
) -> tuple[BagClassifier, Bags]:
    """Return a saved network on its device, in evaluation mode, and the cohort's bags as it looks at them."""
    device = torch.device(on or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = load_network(path, configuration).to(device)
    _check_attributes(path, len(model.attribute_mean_A), cohort)
    model.lay_out(channels_last=True)
    weights = path.parent / WEIGHTS
    if kept is None:
        frozen = features(configuration, cohort, device, weights)
    else:
        frozen = features_here(configuration, cohort, device, weights, kept)
    return model, Bags(cohort, configuration.data, device, frozen)


def load_network(path: Path, configuration: Configuration) -> BagClassifier:
    """Return the network, in evaluation mode; names and shapes must be the configuration's."""
    try:
        state = load_file(path)
        model = BagClassifier(configuration, n_attributes=len(state["attribute_mean_A"]))
        model.load_state_dict(state)
    except (KeyError, TypeError, SafetensorError, RuntimeError, OSError) as error:
        raise InputError(f"{path}: not the weights of {configuration.title} ({str(error).splitlines()[0]})") from error
    return model.eval()


def _check_attributes(path: Path, known: int, cohort: Cohort) -> None:
    if known != (given := cohort.attributes_PA.shape[1]):
        raise InputError(f"{path}: trained on {known} clinical attributes, {cohort.name} has {given}")


def load_pipeline(path: Path) -> Pipeline:
    """Return the clinical pipeline; nothing but scikit-learn's own types is built from the file."""
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        pipeline = skops.io.load(path, trusted=KNOWN_TYPES)
    except (UntrustedTypesFoundException, BadZipFile, ValueError, OSError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a clinical model ({str(error).splitlines()[0]})") from error
    if not isinstance(pipeline, Pipeline):
        raise InputError(f"{path}: not a clinical model (holds {type(pipeline).__name__})")
    for tree in getattr(pipeline[-1], "estimators_", []):
        _check_tree(tree.tree_, path)
    return pipeline


def _check_tree(tree: Any, path: Path) -> None:
    """Refuse a tree that points outside itself: scikit-learn follows it without looking."""
    children = np.concatenate([tree.children_left, tree.children_right])
    if children.min() < -1 or children.max() >= tree.node_count or tree.feature.max() >= tree.n_features:
        raise InputError(f"{path}: not a clinical model (a tree points outside itself)")
