"""Weights from elsewhere: refused in one line unless they are those of the configuration, whole and finite."""

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
import torch
from safetensors.torch import save_file
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree._tree import Tree

from lymphtune.cohort import Cohort
from lymphtune.config import Configuration, configuration
from lymphtune.errors import InputError
from lymphtune.models.bag_classifier import BagClassifier
from lymphtune.training import loading
from lymphtune.training.clinical import ClinicalMember
from lymphtune.training.loading import load_network, load_pipeline, predict_with
from lymphtune.training.network import Prediction

VANILLA = configuration({"model": {"encoder": "vanilla", "fusion": "concat"}, "data": {"crop_px": 40}}, "test")
State = dict[str, torch.Tensor]


def renamed(state: State) -> State:
    return {f"x.{name}": value for name, value in state.items()}


def of_first(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[State], State]:
    return lambda state: state | {next(iter(state)): change(next(iter(state.values()))).contiguous()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed, "is missing"),
        (lambda state: state | {"more": torch.zeros(1)}, "'more' is too many"),
        (of_first(lambda value: value[:1]), r"attribute_sd_A is F32 \[2\], expected F32 \[1\]"),
        (of_first(lambda value: value.half()), "is F16"),
        (of_first(lambda value: value.double()), "is F64"),
        (of_first(lambda value: value * torch.nan), "holds values that are not finite"),
        (of_first(lambda value: value + torch.inf), "holds values that are not finite"),
    ],
)
def test_weights_of_another_network_are_refused(change: Callable[[State], State], message: str, tmp_path: Path) -> None:
    save_file(change(BagClassifier(VANILLA).state_dict()), tmp_path / "fold.safetensors")
    with pytest.raises(InputError, match=rf"^[^\n]*fold.safetensors: [^\n]*{message}[^\n]*$"):
        load_network(tmp_path / "fold.safetensors", VANILLA)


@pytest.mark.parametrize("data", [b"", b"\xff" * 8, b"\xff" * 7 + b"\x7f" + b"{}", b"\x02" + bytes(7) + b"{}"])
def test_a_damaged_network_file_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "fold.safetensors").write_bytes(data)
    with pytest.raises(InputError, match="not the weights of vanilla"):
        load_network(tmp_path / "fold.safetensors", VANILLA)


def test_a_configuration_takes_no_memory_before_the_file_has_its_weights(tmp_path: Path) -> None:
    """A head of 30 times 8192 x 8192 weights: eight gigabytes, which the file does not hold."""
    save_file(BagClassifier(VANILLA).state_dict(), tmp_path / "fold.safetensors")
    greedy = {"model": {"encoder": "vanilla", "head": {"mlp": {"hidden": [8192] * 30}}}, "data": {"crop_px": 40}}
    before = peak_mb()
    with pytest.raises(InputError, match="not the weights of vanilla"):
        load_network(tmp_path / "fold.safetensors", configuration(greedy, "test"))
    assert peak_mb() - before < 200


@pytest.mark.parametrize("value", [np.float64(np.float32(1.0000001)), 1.0, 0.0, -1e-9])
def test_a_prediction_that_rounding_put_outside_is_clipped(
    value: float, noisy_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_predicts(value, float(np.clip(value, 0, 1)), noisy_cohort, tmp_path, monkeypatch)


@pytest.mark.parametrize(("value", "finding"), [(1.2, r"\(largest 1.2\)"), (np.nan, r"\(2 are NaN\)")])
def test_a_prediction_that_is_no_probability_is_refused(
    value: float, finding: str, noisy_cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=rf"fold.safetensors: .*for 2 patients {finding}; the weights do not fit"):
        assert_predicts(value, value, noisy_cohort, tmp_path, monkeypatch)


def assert_predicts(
    value: float, expected: float, cohort: Cohort, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Assert what a saved network returns for two patients where its mean comes to `value`."""
    save_file(BagClassifier(VANILLA).state_dict(), folder / "fold.safetensors")
    prediction = Prediction(np.array([value, value]), np.full(2, np.nan))
    monkeypatch.setattr(loading, "predict", lambda *given: prediction)
    found = predict_with(folder / "fold.safetensors", VANILLA, cohort, np.arange(2), device_name="cpu")
    assert found.probability_P.tolist() == [expected, expected]


def peak_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.fixture(params=["logistic", "svm", "random_forest", "mlp"])
def word(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fitted(word: str) -> Any:
    chosen: Configuration = configuration({"clinical": word}, "test")
    rng = np.random.default_rng(0)
    return ClinicalMember(chosen, rng.normal(size=(60, 2)), np.arange(60) % 2, 0).pipeline


def test_a_clinical_model_comes_back(word: str, tmp_path: Path) -> None:
    model = fitted(word)
    ClinicalMember.save(model, tmp_path / "fold")
    new_PA = np.random.default_rng(1).normal(size=(9, 2))
    loaded = load_pipeline(tmp_path / "fold.skops")
    np.testing.assert_array_equal(loaded.predict_proba(new_PA), model.predict_proba(new_PA))


def _tree_in_a_circle(model: Any) -> None:
    state = model[-1].estimators_[0].tree_.__getstate__()
    state["nodes"]["left_child"][0] = 0
    model[-1].estimators_[0].tree_.__setstate__(state)


def _tree_of_another_attribute(model: Any) -> None:
    state = model[-1].estimators_[0].tree_.__getstate__()
    state["nodes"]["feature"][0] = -3
    model[-1].estimators_[0].tree_.__setstate__(state)


def _tree_of_nothing(model: Any) -> None:
    model[-1].estimators_[0].tree_ = Tree(2, np.array([2], dtype=np.intp), 1)


def _more_vectors_than_there_are(model: Any) -> None:
    machine = model[-1].calibrated_classifiers_[0].estimator
    machine._n_support = machine._n_support + np.int32(1_000_000)


def _too_few_weights(model: Any) -> None:
    machine = model[-1].calibrated_classifiers_[0].estimator
    machine._dual_coef_ = machine._dual_coef_[:, :1].copy()


def _nan(model: Any) -> None:
    model[-1].coef_ = model[-1].coef_ * np.nan


def _of_three_attributes(model: Any) -> None:
    model[-1].coef_ = np.zeros((1, 3))


@pytest.mark.parametrize(
    ("word", "change", "message"),
    [
        ("random_forest", _tree_in_a_circle, "a tree points outside itself"),
        ("random_forest", _tree_of_another_attribute, "a tree points outside itself"),
        ("random_forest", _tree_of_nothing, "a tree points outside itself"),
        ("svm", _more_vectors_than_there_are, "support vector machine do not fit together"),
        ("svm", _too_few_weights, "support vector machine do not fit together"),
        ("logistic", _nan, "its predictions are not finite probabilities"),
        ("logistic", _of_three_attributes, "not a clinical model"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    word: str, change: Callable[[Any], None], message: str, tmp_path: Path
) -> None:
    """Compiled code would follow them out of its memory, or for ever."""
    model = fitted(word)
    change(model)
    skops.io.dump(model, tmp_path / "fold.skops")
    with pytest.raises(InputError, match=rf"^[^\n]*fold.skops: [^\n]*{message}[^\n]*$"):
        load_pipeline(tmp_path / "fold.skops")


class Evil:
    """Of no type that is known."""


def other_models() -> dict[str, Any]:
    data_PA, labels_P = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40) % 2
    trees = ExtraTreesClassifier(3).fit(data_PA, labels_P)
    return {
        "no pipeline": StandardScaler().fit(data_PA),
        "another scaler": Pipeline([("scale", FunctionTransformer(np.log1p)), ("model", trees)]),
        "another model": Pipeline([("scale", StandardScaler().fit(data_PA)), ("model", trees)]),
        "another type": Evil(),
        "a function": os.system,
    }


@pytest.mark.parametrize("name", other_models())
def test_anything_but_a_scaler_and_a_model_of_ours_is_refused(name: str, tmp_path: Path) -> None:
    skops.io.dump(other_models()[name], tmp_path / "fold.skops")
    with pytest.raises(InputError, match=r"^[^\n]*fold.skops: not a clinical model[^\n]*$"):
        load_pipeline(tmp_path / "fold.skops")


def archive(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            file.writestr(name, data)


def npy_header(shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return header.getvalue()


def test_an_archive_that_would_unpack_to_too_much_is_refused_unopened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "MOST_BYTES", 2**20)
    monkeypatch.setattr(skops.io, "load", None)
    archive(tmp_path / "fold.skops", {"schema.json": b"{}", "1.npy": bytes(2**20)})
    assert (tmp_path / "fold.skops").stat().st_size < 2**12
    with pytest.raises(InputError, match="unpacks to over"):
        load_pipeline(tmp_path / "fold.skops")


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"schema.json": b"{"},
        {"schema.json": b"[" * 100_000},
        {"schema.json": b"{}"},
        {"schema.json": json.dumps({"__class__": "system", "__module__": "os", "__loader__": "ObjectNode"}).encode()},
        {"../../escaped": b"x", "schema.json": b"{}"},
    ],
)
def test_a_damaged_archive_is_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    archive(tmp_path / "fold.skops", files)
    with pytest.raises(InputError, match=r"^[^\n]*fold.skops: not a clinical model[^\n]*$"):
        load_pipeline(tmp_path / "fold.skops")
    assert not list(tmp_path.parent.rglob("escaped"))


@pytest.mark.parametrize("header", [npy_header((10**14,)), b"\x93NUMPY\1\0\x10\0{'descr': '<f8',\n"])
def test_an_array_larger_than_memory_or_of_half_a_header_is_refused(header: bytes, tmp_path: Path) -> None:
    skops.io.dump(fitted("logistic"), tmp_path / "sound.skops")
    with zipfile.ZipFile(tmp_path / "sound.skops") as sound:
        files = {name: sound.read(name) for name in sound.namelist()}
    archive(tmp_path / "fold.skops", {name: header if name.endswith(".npy") else data for name, data in files.items()})
    with pytest.raises(InputError, match=r"^[^\n]*fold.skops: not a clinical model[^\n]*$"):
        load_pipeline(tmp_path / "fold.skops")
