"""Saved fold models as one ONNX graph: onnxruntime says of bags of any size what the fold models say.

Shapes: P patients, C cells of all patients, S picture side, M member trials.
"""

import itertools
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from lymphtune import registry
from lymphtune.cohort import Cohort
from lymphtune.cohort.attributes import Attribute
from lymphtune.config import Configuration, Data, configuration
from lymphtune.errors import InputError
from lymphtune.models.backbone import Backbone
from lymphtune.models.bag_classifier import BagClassifier
from lymphtune.training import onnx_graph
from lymphtune.training.clinical import ClinicalMember
from lymphtune.training.clinical_network import as_network
from lymphtune.training.deployed import Deployed, Member, load_deployed
from lymphtune.training.frozen import features, place_backbone
from lymphtune.training.loading import predict_with
from lymphtune.training.network import NetworkMember
from lymphtune.training.onnx_graph import as_onnx
from tests.conftest import write_backbone
from tests.models.small import built, network, small
from tests.training.asked import asked

PICTURE_PX, CROP_PX = 51, 40  # an odd margin
COUNTS = (1, 2, 3, 17)  # cells a bag
SOME = [("prediction_mean", "concat"), ("attention", "gated")]  # aggregation and fusion
EVERY = list(
    itertools.islice(
        zip(itertools.cycle(registry.aggregators.words()), itertools.cycle(registry.fusions.words()), strict=False),
        2 * max(len(registry.aggregators.words()), len(registry.fusions.words())),
    )
)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    """Bags of COUNTS cells of noise, each cell of its own brightness."""
    rng, n_cells = np.random.default_rng(0), sum(COUNTS)
    noise_CSS3 = rng.integers(-40, 40, (n_cells, PICTURE_PX, PICTURE_PX, 3))
    cells_CSS3 = (rng.integers(40, 216, (n_cells, 1, 1, 1)) + noise_CSS3).astype(np.uint8)
    table = {"patient": [f"P{count}" for count in COUNTS], "label": -1, "sex": "", "n_cells": COUNTS}
    table |= {"age_years": [35.5, 80.25, 61.0, 50.0], "lymphocytes_g_per_l": [5.25, 60.0, 9.5, 4.125]}
    return Cohort("noise", pd.DataFrame(table), cells_CSS3, [f"{cell:064x}" for cell in range(n_cells)])


def saved(chosen: Configuration, folder: Path, folds: int = 1) -> Member:
    """Return a member whose fold models are built anew and written down."""
    paths = []
    for fold in range(folds):
        model = built(chosen)
        torch.manual_seed(fold)
        with torch.no_grad():
            for parameter in model.parameters():  # larger than a fresh network's: what it sees makes a difference
                parameter.mul_(1.5).add_(0.3 * torch.randn_like(parameter) * parameter.abs().mean())
        paths.append(folder / f"fold-{fold}.safetensors")
        folder.mkdir(parents=True, exist_ok=True)
        NetworkMember.save(model.state_dict(), paths[-1])
    return chosen, paths


def run(graph: onnx.ModelProto, cohort: Cohort) -> tuple[np.ndarray, np.ndarray]:
    """Return probability [P] and members [M, P], as onnxruntime has them."""
    return asked(graph.SerializeToString(), cohort)


def expected(members: Sequence[Member], cohort: Cohort) -> np.ndarray:
    rows = np.arange(len(COUNTS))
    found = [[predict_with(path, chosen, cohort, rows).probability_P for path in paths] for chosen, paths in members]
    return np.array([np.mean(probability_FP, axis=0) for probability_FP in found])


@pytest.mark.parametrize("encoder", registry.encoders.words())
def test_a_graph_says_what_the_networks_say(encoder: str, cohort: Cohort, tmp_path: Path) -> None:
    members = [
        saved(network(small(encoder), aggregator, fusion), tmp_path / f"{number}")
        for number, (aggregator, fusion) in enumerate(EVERY if encoder == "vanilla" else SOME)
    ]
    weight_M = np.arange(1, len(members) + 1) / sum(range(1, len(members) + 1))
    probability_P, probability_MP = run(as_onnx(load_deployed(members, weight_M), PICTURE_PX), cohort)
    expected_MP = expected(members, cohort)
    np.testing.assert_allclose(probability_MP, expected_MP, rtol=0, atol=1e-5)
    np.testing.assert_allclose(probability_P, weight_M @ expected_MP, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_views_folds_and_a_deeper_head_are_in_the_graph(cohort: Cohort, tmp_path: Path) -> None:
    head, turned = {"mlp": {"hidden": [8, 4], "dropout": 0.5}}, {"tta": True, "crop_px": CROP_PX}
    chosen = network("vanilla", "attention", "gated", head)
    members = [saved(chosen.model_copy(update={"data": Data(**turned)}), tmp_path / "turned", folds=3)]
    members.append((chosen, members[0][1][:1]))  # the first fold, in one view
    _, probability_MP = run(as_onnx(load_deployed(members, np.ones(2) / 2), PICTURE_PX), cohort)
    np.testing.assert_allclose(probability_MP, expected(members, cohort), rtol=0, atol=1e-5)
    assert (np.abs(probability_MP[0] - probability_MP[1]) > 1e-4).all()


@pytest.mark.slow
def test_frozen_trials_look_through_one_backbone(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LYMPHTUNE_CACHE", str(tmp_path / "cache"))
    weights = write_backbone(tmp_path / "test_resnet.safetensors")
    members = []
    for pca in (None, 5):
        encoder = {"timm:test_resnet": {"weights": str(weights), "frozen": True, "pca": pca}}
        members.append(saved_frozen(network(encoder, fusion="late"), cohort, tmp_path / f"pca-{pca}"))
    graph = as_onnx(load_deployed(members, np.ones(2) / 2), PICTURE_PX)
    _, probability_MP = run(graph, cohort)
    np.testing.assert_allclose(probability_MP, expected(members, cohort), rtol=0, atol=1e-5)
    convolutions = sum(isinstance(part, nn.Conv2d) for part in Backbone("test_resnet").modules())
    assert sum(node.op_type == "Conv" for node in graph.graph.node) == convolutions


def saved_frozen(chosen: Configuration, cohort: Cohort, folder: Path) -> Member:
    """Return a member of one fold model, its reduction fitted to the cohort's features."""
    torch.manual_seed(0)
    model = BagClassifier(chosen)
    model.encoder.fit(features(chosen, cohort, torch.device("cpu"))[0], 0)
    folder.mkdir()
    NetworkMember.save(model.state_dict(), folder / "fold-0.safetensors")
    place_backbone(chosen, folder)
    return chosen, [folder / "fold-0.safetensors"]


def fitted(word: str, patients: int = 60) -> ClinicalMember:
    rng = np.random.default_rng(0)
    labels_P = rng.integers(0, 2, patients)
    attributes_PA = np.column_stack([rng.normal(60 + 8 * labels_P, 12), rng.normal(2 + 0.4 * labels_P, 0.6)])
    options = {"trees": 30} if word == "random_forest" else {}
    return ClinicalMember(configuration({"clinical": {word: options}}, "test"), attributes_PA, labels_P, 1)


@pytest.mark.parametrize("word", registry.clinical_models.words())
def test_a_clinical_model_is_a_network_to_the_last_digit(word: str) -> None:
    member = fitted(word)
    rng = np.random.default_rng(1)
    attributes_PA = np.column_stack([rng.uniform(18, 99, 500), rng.uniform(0.5, 6, 500)])
    with torch.no_grad():
        probability_P = as_network(member.pipeline)(torch.from_numpy(attributes_PA)).numpy()
    np.testing.assert_allclose(probability_P, member.predict(attributes_PA), rtol=0, atol=1e-12)


def test_a_patient_on_a_trees_threshold_goes_left() -> None:
    member = fitted("random_forest")
    member.pipeline[0].mean_, member.pipeline[0].scale_ = np.zeros(2), np.ones(2)
    trees = [tree.tree_ for tree in member.pipeline[-1].estimators_]
    on_PA = np.array([np.full(2, threshold) for tree in trees for threshold in tree.threshold[tree.feature >= 0]])
    on_PA = np.concatenate([on_PA, on_PA.astype(np.float32)])
    with torch.no_grad():
        probability_P = as_network(member.pipeline)(torch.from_numpy(on_PA)).numpy()
    np.testing.assert_allclose(probability_P, member.predict(on_PA), rtol=0, atol=1e-12)


def test_all_clinical_models_in_a_graph(cohort: Cohort, tmp_path: Path) -> None:
    members = []
    for word in registry.clinical_models.words():
        ClinicalMember.save(fitted(word).pipeline, tmp_path / word)
        members.append((configuration({"clinical": word}, "test"), [tmp_path / f"{word}.skops"]))
    graph = as_onnx(load_deployed(members, np.full(len(members), 1 / len(members))), PICTURE_PX)
    probability_P, probability_MP = run(graph, cohort)
    np.testing.assert_allclose(probability_MP, expected(members, cohort), rtol=0, atol=1e-6)
    np.testing.assert_allclose(probability_P, probability_MP.mean(axis=0), rtol=0, atol=1e-6)


def test_a_clinical_model_without_a_network_is_refused() -> None:
    pipeline = Pipeline([("scale", StandardScaler().fit([[0.0, 1.0]])), ("model", GaussianNB())])
    with pytest.raises(InputError, match="GaussianNB cannot be converted to a network; supported models: Calibrated"):
        as_network(pipeline)


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    return load_deployed([saved(network("vanilla"), tmp_path_factory.mktemp("little"))], np.ones(1))


def test_a_graph_is_the_same_every_time_and_tells_nothing_of_its_making(
    little: Deployed, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = as_onnx(little, PICTURE_PX).SerializeToString(deterministic=True)
    assert as_onnx(little, PICTURE_PX).SerializeToString(deterministic=True) == graph
    assert b".py" not in graph and b"lymphtune" not in graph
    assert capfd.readouterr() == ("", "")


def test_more_weights_than_a_file_holds_are_refused(little: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "LARGEST_BYTES", 1000)
    with pytest.raises(InputError, match=r"GB of weights; one .onnx file holds 0.0: average fewer trials"):
        as_onnx(little, PICTURE_PX)


@pytest.mark.slow
def test_a_network_that_onnx_cannot_hold_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "try.py").write_text(
        """
import numpy as np
from torch import nn
from lymphtune.errors import InputError
from lymphtune.training.deployed import Deployed
from lymphtune.training.onnx_graph import as_onnx

class Branching(nn.Module):  # its way depends on a picture
    def forward(self, cells, attributes_1A):
        return attributes_1A[:, 0].float() if cells.float().mean() > 9 else attributes_1A[:, 1].float()

try:
    as_onnx(Deployed([Branching()], np.ones(1)), 40)
except InputError as error:
    print(error)
"""
    )
    done = subprocess.run([sys.executable, tmp_path / "try.py"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"a network of the ensemble cannot be exported to ONNX \(.*data-dependent.*\)\n", done.stdout)
    assert done.stderr == ""


def test_words_and_missing_values_are_in_a_graph(cohort: Cohort, tmp_path: Path) -> None:
    known = (Attribute("stage", levels=("A", "B", "C")), Attribute("smoker", levels=("no", "yes")), Attribute("hb"))
    columns = {"stage": ["C", "", "D", "A"], "smoker": ["yes", "no", "", "no"], "hb": [3.0, np.nan, -1.0, 0.0]}
    given = replace(cohort, patients=cohort.patients.assign(**columns), attributes=known)
    rng = np.random.default_rng(0)
    member = ClinicalMember(
        configuration({"clinical": "logistic"}, "test"), rng.normal(size=(20, 5)), np.arange(20) % 2, 0
    )
    ClinicalMember.save(member.pipeline, tmp_path / "told")
    deployed = load_deployed(
        [(configuration({"clinical": "logistic"}, "test"), [tmp_path / "told.skops"])], np.ones(1), known
    )
    session = onnxruntime.InferenceSession(as_onnx(deployed, PICTURE_PX).SerializeToString())
    assert [one.name for one in session.get_inputs()] == ["cells", "stage", "smoker", "hb"]
    places = {"stage": [2, -1, 3, 0], "smoker": [1, 0, -1, 0], "hb": columns["hb"]}
    for row in range(4):
        values = {
            name: np.array([some[row]], dtype=np.float32 if name == "hb" else np.int64) for name, some in places.items()
        }
        probabilities, _ = session.run(None, values | {"cells": cohort.bag(row)})
        assert probabilities[0] == pytest.approx(member.predict(given.attributes_PA[row : row + 1])[0], abs=1e-6)
