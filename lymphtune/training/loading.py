"""Fold models loaded from their weights files, and their predictions."""

import json
import struct
import zlib
from functools import lru_cache
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree._tree import Tree

from lymphtune.cohort.attributes import names_of
from lymphtune.cohort.cohort import Cohort
from lymphtune.config import Configuration
from lymphtune.config import configuration as parsed
from lymphtune.errors import InputError, reason
from lymphtune.models.bag_classifier import BagClassifier
from lymphtune.statistics.probabilities import as_probabilities
from lymphtune.training.batches import Bags
from lymphtune.training.clinical import probability
from lymphtune.training.clinical_network import NETWORKS
from lymphtune.training.frozen import WEIGHTS, FeatureCache, features, features_in_memory
from lymphtune.training.network import CellPrediction, Prediction, predict, predict_cells
from lymphtune.training.precision import Precision, full_float32

ATTRIBUTES, MOST_ATTRIBUTES = "attribute_mean_A", 10_000  # the buffer whose length is the number of attributes
DTYPES = {
    torch.float32: "F32",
    torch.int64: "I64",
    torch.bool: "BOOL",
}  # of a network's state, in the terms of safetensors
MOST_FILES, MOST_BYTES = 200_000, 2**30  # of a clinical model's archive, unpacked
# Exceptions of skops and scikit-learn on damaged or hostile files.
UNREADABLE = (
    BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    OSError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    ImportError,
    RuntimeError,
    MemoryError,
    OverflowError,
    EOFError,
    AssertionError,
    SyntaxError,
    TokenError,
)
# Types of scikit-learn beyond those that skops trusts by default.
KNOWN_TYPES = [
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.model_selection._split.StratifiedKFold",
    "sklearn.tree._tree.Tree",
]


def predict_with(
    path: Path,
    configuration: Configuration,
    cohort: Cohort,
    rows: np.ndarray,
    kept: FeatureCache | None = None,
    device_name: str | None = None,
) -> Prediction:
    """Return one saved fold model's prediction for the patients in `rows`, computed in float32 on any machine.

    kept: stores frozen features computed in memory, for models with the same backbone to share; None means that they
    come from the cache folder. device_name: None means a GPU where there is one. Raises InputError where the file
    does not hold the weights of the configuration.
    """
    if configuration.kind == "clinical":
        return _clinical(path, cohort, rows)
    model, bags = open_network(path, configuration, cohort, kept, device_name)
    with full_float32():
        return _checked(predict(model, bags, rows, Precision()), path)


def predict_cells_with(
    path: Path, configuration: Configuration, cohort: Cohort, rows: np.ndarray, kept: FeatureCache | None = None
) -> tuple[Prediction, CellPrediction]:
    """Return the same and the prediction for these patients' cells, which is NaN for a clinical model."""
    if configuration.kind == "clinical":
        nothing_C = np.full(int(cohort.patients["n_cells"].to_numpy()[rows].sum()), np.nan)
        return _clinical(path, cohort, rows), CellPrediction(nothing_C, nothing_C)
    model, bags = open_network(path, configuration, cohort, kept)
    with full_float32():
        prediction, of_cells = predict_cells(model, bags, rows, Precision())
    return _checked(prediction, path), of_cells


def _checked(prediction: Prediction, path: Path) -> Prediction:
    """Return the prediction with probabilities in [0, 1]; raises InputError for other values."""
    remedy = "the weights do not fit this cohort"
    return prediction._replace(probability_P=as_probabilities(prediction.probability_P, path, remedy))


def _clinical(path: Path, cohort: Cohort, rows: np.ndarray) -> Prediction:
    pipeline = load_pipeline(path)
    _check_attributes(path, pipeline[0].n_features_in_, cohort)
    probability_P = probability(pipeline, cohort.attributes_PA[rows])
    return _checked(Prediction(probability_P, np.full(len(rows), np.nan)), path)


def open_network(
    path: Path, configuration: Configuration, cohort: Cohort, kept: FeatureCache | None, device_name: str | None = None
) -> tuple[BagClassifier, Bags]:
    """Return a saved network on its device, in evaluation mode, and the cohort's bags as its input."""
    device = torch.device(device_name or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = load_network(path, configuration).to(device)
    _check_attributes(path, len(model.attribute_mean_A), cohort)
    model.set_memory_format(channels_last=True)
    weights = path.parent / WEIGHTS
    if kept is None:
        frozen = features(configuration, cohort, device, weights)
    else:
        frozen = features_in_memory(configuration, cohort, device, weights, kept)
    return model, Bags(cohort, configuration.data, device, frozen)


def load_network(path: Path, configuration: Configuration) -> BagClassifier:
    """Return the network, in evaluation mode; raises InputError where the file does not hold its finite weights."""
    wrong = f"{path}: not the weights of {configuration.title}"
    try:
        n_attributes = _check_header(path, configuration, wrong)
        state = load_file(path)
        model = BagClassifier(configuration, n_attributes=n_attributes)
        model.load_state_dict(state)
    except (SafetensorError, RuntimeError, OSError, OverflowError, TypeError) as error:
        raise InputError(f"{wrong} ({reason(error)})") from error
    if broken := [name for name, value in state.items() if not value.isfinite().all()]:
        raise InputError(
            f"{path}: {broken[0]} holds values that are not finite; copy the folder again, or search again"
        )
    return model.eval()


def _check_header(path: Path, configuration: Configuration, wrong: str) -> int:
    """Return the number of attributes, after comparing the file's names, shapes and types with the configuration's."""
    with safe_open(path, "pt") as file:
        given = set(file.keys())
        shape = file.get_slice(ATTRIBUTES).get_shape() if ATTRIBUTES in given else [0]
        if len(shape) != 1 or not 0 < shape[0] <= MOST_ATTRIBUTES:
            raise InputError(f"{wrong} ({ATTRIBUTES} is missing, or not of 1 to {MOST_ATTRIBUTES} attributes)")
        expected = _expected_state(json.dumps(configuration.as_yaml()), shape[0])
        if strange := sorted(given ^ set(expected)):
            raise InputError(f"{wrong} ({strange[0][:100]!r} is {'too many' if strange[0] in given else 'missing'})")
        for name, wanted in expected.items():
            part = file.get_slice(name)
            if (found := f"{part.get_dtype()} {list(part.get_shape())}") != wanted:
                raise InputError(f"{wrong} ({name} is {found}, expected {wanted})")
    return int(shape[0])


@lru_cache(maxsize=64)  # for the fold models of a trial
def _expected_state(text: str, n_attributes: int) -> dict[str, str]:
    """Return type and shape, as text, of each tensor in the state of a network; `text`: its configuration as JSON."""
    with torch.device("meta"):
        state = BagClassifier(parsed(json.loads(text), "configuration"), n_attributes=n_attributes).state_dict()
    return {name: f"{DTYPES[value.dtype]} {list(value.shape)}" for name, value in state.items()}


def _check_attributes(path: Path, known: int, cohort: Cohort) -> None:
    if known != (given := len(names_of(cohort.attributes))):
        raise InputError(f"{path}: trained on {known} clinical attributes, {cohort.name} has {given}")


def load_pipeline(path: Path) -> Pipeline:
    """Return the clinical pipeline; the file can create instances of scikit-learn's own types only."""
    import skops.io  # takes seconds; networks do not need it

    wrong = f"{path}: not a clinical model"
    try:
        _check_archive(path, wrong)
        pipeline = skops.io.load(path, trusted=KNOWN_TYPES)
        _check_pipeline(pipeline, wrong)
        probability_P = probability(pipeline, np.zeros((2, len(pipeline[0].mean_))))
    except UNREADABLE as error:
        raise InputError(f"{wrong} ({reason(error)})") from error
    if probability_P.shape != (2,) or not np.isfinite(probability_P).all():
        raise InputError(f"{wrong} (its predictions are not finite probabilities)")
    return pipeline


def _check_archive(path: Path, wrong: str) -> None:
    """Refuse an archive that unpacks to more than any clinical model needs; nothing is unpacked to disk."""
    with ZipFile(path) as archive:
        held = archive.infolist()
    if len(held) > MOST_FILES or sum(file.file_size for file in held) > MOST_BYTES:
        raise InputError(f"{wrong} (it unpacks to over {MOST_FILES} files or {MOST_BYTES // 2**20} MB)")


def _check_pipeline(pipeline: Any, wrong: str) -> None:
    """Refuse all but a scaler and a known model with consistent parts, which scikit-learn's compiled code assumes."""
    if not isinstance(pipeline, Pipeline) or [type(step) for _, step in pipeline.steps][:-1] != [StandardScaler]:
        raise InputError(f"{wrong} (holds {type(pipeline).__name__}, expected a scaler and a model)")
    model, n_attributes = pipeline[-1], len(pipeline[0].mean_)
    if type(model) not in NETWORKS:
        raise InputError(f"{wrong} (holds {type(model).__name__}, which no search makes)")
    if isinstance(model, RandomForestClassifier):
        for tree in model.estimators_:
            _check_tree(tree.tree_, n_attributes, wrong)
    if isinstance(model, CalibratedClassifierCV):
        for parts in model.calibrated_classifiers_:
            _check_machine(parts.estimator, n_attributes, wrong)


def _check_tree(tree: Any, n_attributes: int, wrong: str) -> None:
    """Refuse a tree that is empty or whose nodes point outside it or backwards (an endless loop)."""
    left, right, own = tree.children_left, tree.children_right, np.arange(tree.node_count)
    inner = left != -1
    sound = type(tree) is Tree and tree.node_count > 0 and tree.value.shape[1:] == (1, 2)  # one output, two classes
    sound = sound and ((right != -1) == inner).all() and (np.minimum(left, right) > own)[inner].all()
    sound = sound and (np.maximum(left, right) < tree.node_count).all()
    if not sound or not ((tree.feature >= 0) & (tree.feature < n_attributes))[inner].all():
        raise InputError(f"{wrong} (a tree points outside itself)")


def _check_machine(machine: Any, n_attributes: int, wrong: str) -> None:
    """Refuse a support vector machine whose arrays are not of one length."""
    sound = type(machine) is SVC and machine.kernel == "rbf" and machine._sparse is False
    if sound:
        n_vectors = len(machine.support_vectors_)
        shapes = {
            "support_vectors_": (n_vectors, n_attributes),
            "support_": (n_vectors,),
            "_n_support": (2,),
            "_dual_coef_": (1, n_vectors),
            "_intercept_": (1,),
            "dual_coef_": (1, n_vectors),
            "intercept_": (1,),
        }
        sound = all(getattr(machine, name).shape == shape for name, shape in shapes.items())
        sound = sound and min(machine._n_support) >= 0 and sum(machine._n_support) == n_vectors
    if not sound:
        raise InputError(f"{wrong} (the parts of its support vector machine do not fit together)")
