"""Networks of timm as encoders: scaling, weights from files, what is refused, and the reduction of frozen features.

Shapes: C cells of the training patients, D features, Q after the reduction, M cells.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.decomposition import PCA
from torch import nn

from lymphtune.config import configuration
from lymphtune.errors import InputError
from lymphtune.models.backbone import Backbone, State, feature_count, file_state, hub_state
from lymphtune.models.bag_classifier import BagClassifier, as_pictures
from lymphtune.registry import encoders
from lymphtune.training.loading import load_network
from lymphtune.training.network import NetworkMember
from tests.models.small import ATTRIBUTES, COUNTS, CROP_PX, cells, network, output_of

NAME, FEATURES = "test_resnet", 96


@pytest.fixture(scope="module")
def weights() -> State:
    """Of the whole network, classifier included."""
    torch.manual_seed(1)
    return timm.create_model(NAME).state_dict()


def pickled(state: State, path: Path) -> None:
    torch.save(state, path)


@pytest.mark.parametrize("name", ["test_efficientnet", NAME])
@torch.no_grad()
def test_pictures_are_scaled_as_timm_scales_them(name: str) -> None:
    torch.manual_seed(0)
    backbone = Backbone(name).eval()
    pictures = cells(4, 64)
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=backbone.network))
    normalise = transform.transforms[-1]
    assert type(normalise).__name__ == "Normalize"
    assert backbone.needs_no_scaling == (name == NAME)
    expected = backbone.network(normalise(pictures.permute(0, 3, 1, 2) / 255))
    torch.testing.assert_close(backbone(as_pictures(pictures)), expected, atol=1e-4, rtol=1e-4)


def test_the_scaling_is_no_part_of_the_weights() -> None:
    assert not {"scale", "shift"} & set(Backbone("test_efficientnet").state_dict())


@pytest.mark.parametrize(("suffix", "save"), [("safetensors", save_file), ("pth", pickled), ("bin", pickled)])
def test_weights_are_read_from_both_kinds_of_file(
    suffix: str, save: Callable[[State, Path], None], weights: State, tmp_path: Path
) -> None:
    path = tmp_path / f"weights.{suffix}"
    save(weights, path)
    read = file_state(NAME, path)
    assert {name for name in weights if name not in read} == {"fc.weight", "fc.bias"}
    assert all(value.equal(weights[name]) for name, value in read.items())
    Backbone(NAME).network.load_state_dict(read)


def test_weights_may_lie_under_state_dict(weights: State, tmp_path: Path) -> None:
    torch.save({"state_dict": weights, "epoch": 3}, tmp_path / "weights.pth")
    read = file_state(NAME, tmp_path / "weights.pth")
    assert read["conv1.0.weight"].equal(weights["conv1.0.weight"])


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_file_that_runs_code_is_refused_and_runs_nothing(weights: State, tmp_path: Path) -> None:
    torch.save(weights | {"extra": Hostile(tmp_path / "run")}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"weights.pth: neither safetensors nor a PyTorch file of plain tensors"):
        file_state(NAME, tmp_path / "weights.pth")
    assert not (tmp_path / "run").exists()
    torch.load(tmp_path / "weights.pth", weights_only=False)
    assert (tmp_path / "run").exists()  # it would have


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_no_file_is_refused(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"none.{suffix}: no such file; expected weights of timm:{NAME}"):
        file_state(NAME, tmp_path / f"none.{suffix}")


@pytest.mark.parametrize(
    ("suffix", "save", "kept"),
    [
        ("safetensors", save_file, 0),
        ("safetensors", save_file, 4),
        ("safetensors", save_file, 100),
        ("safetensors", save_file, 0.5),
        ("safetensors", save_file, 0.999),
        ("pth", pickled, 0),  # EOFError has no text
        ("pth", pickled, 4),
        ("pth", pickled, 0.5),
        ("pth", pickled, 0.999),
    ],
)
def test_a_truncated_file_is_refused(
    suffix: str, save: Callable[[State, Path], None], kept: float, weights: State, tmp_path: Path
) -> None:
    path = tmp_path / f"weights.{suffix}"
    save(weights, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(InputError, match=rf"weights.{suffix}: neither safetensors nor a PyTorch file.*timm:{NAME}"):
        file_state(NAME, path)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize(
    "garbage", [b"\x00" * 100, b"\xff" * 100, b"<html>not found</html>", b"PK\x03\x04" + b"x" * 50]
)
def test_garbage_is_refused(suffix: str, garbage: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(garbage)
    with pytest.raises(InputError, match=rf"weights.{suffix}: neither safetensors nor a PyTorch file"):
        file_state(NAME, path)


def test_a_file_that_names_a_storage_it_does_not_hold_is_refused(tmp_path: Path) -> None:
    """The reader of PyTorch's older files asserts it."""
    path = tmp_path / "weights.pth"
    torch.save({"one": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    (key,) = set(re.findall(rb"\d{8,}", content))
    first = content.index(key) + len(key)
    path.write_bytes(content[:first] + content[first:].replace(key, b"1" * len(key)))
    with pytest.raises(
        InputError, match=r"weights.pth: neither safetensors nor a PyTorch file of plain tensors \(stor"
    ):
        file_state(NAME, path)


def test_the_hub_is_asked_once_for_all_fold_models(monkeypatch: pytest.MonkeyPatch) -> None:
    real, requested_names = timm.create_model, []

    def create(*given: Any, **options: Any) -> nn.Module:
        requested_names.append(given)
        return real(NAME, pretrained=False, num_classes=0)

    monkeypatch.setattr(timm, "create_model", create)
    hub_state.cache_clear()
    assert hub_state(NAME) is hub_state(NAME) and len(requested_names) == 1
    hub_state.cache_clear()


def test_other_weights_are_refused(weights: State, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(timm.create_model("test_vit").state_dict(), path)
    with pytest.raises(
        InputError, match=rf"not the weights of timm:{NAME} \(90 of 90 missing or of another shape, conv1"
    ):
        file_state(NAME, path)
    torch.save(weights | {"conv1.0.weight": torch.zeros(1, 3, 3, 3)}, path)
    with pytest.raises(InputError, match=r"\(1 of 90 missing or of another shape, conv1.0.weight first\)"):
        file_state(NAME, path)
    torch.save(weights | {"conv1.0.weight": "none"}, path)
    with pytest.raises(InputError, match=r"\(1 of 90 missing or of another shape, conv1.0.weight first\)"):
        file_state(NAME, path)
    torch.save([1, 2], path)
    with pytest.raises(InputError, match=rf"holds no named weights; expected those of timm:{NAME}"):
        file_state(NAME, path)


@pytest.mark.parametrize("error", [OSError("no route to host"), RuntimeError("none offered"), OSError()])
def test_weights_that_the_hub_does_not_give_are_asked_of_a_folder(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> nn.Module:
        raise error

    monkeypatch.setattr(timm, "create_model", refuse)
    said_ = str(error) or type(error).__name__
    with pytest.raises(
        InputError, match=rf"could not be downloaded from the hub \({said_}\); put {NAME}.*with --weights"
    ):
        hub_state(NAME)


def test_a_size_that_a_network_cannot_take_is_refused() -> None:
    assert feature_count("test_vit", 64) == 64 and feature_count(NAME, CROP_PX) == FEATURES
    with pytest.raises(
        InputError, match=r"timm:test_vit: does not accept pictures of 40 px \(.*divisible by patch size"
    ):
        feature_count("test_vit", 40)
    with pytest.raises(InputError, match=r"timm:test_vit3: does not accept pictures of 64 px \(.*doesn't match model"):
        BagClassifier(network({"timm": {"name": "test_vit3"}}, crop_px=64))


def test_a_tag_that_timm_does_not_have_is_refused() -> None:
    with pytest.raises(InputError, match="nothing"):
        BagClassifier(network(f"timm:{NAME}.nothing"))


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("timm:nothing_like", r"space.yaml: model.encoder.timm: timm has no 'nothing_like'$"),
        ("timm:resnet1", r"timm has no 'resnet1'; there are \w*resnet1\w*, "),
        ("timm:", r"timm has no ''"),
        ({"timm:resnet18": {"pretrained": True, "weights": "a.pth"}}, "'pretrained' and 'weights' exclude each other"),
        ({"timm:resnet18": {"frozen": True}}, "frozen features need trained weights; add 'pretrained: true'"),
        ({"timm:resnet18": {"pca": 8, "pretrained": True}}, "'pca' reduces frozen features; add 'frozen: true'"),
        (
            {"timm": {"pca": 0, "frozen": True, "pretrained": True}},
            "timm.pca: input should be greater than or equal to 1",
        ),
        ({"timm": {"learning_rate_factor": 0.0}}, "timm.learning_rate_factor: input should be greater than 0"),
        ({"timm": {"filters": 4}}, "model.encoder.timm has no 'filters'; there are frozen, learning_rate_factor, name"),
        ("resnet:x", "model.encoder: 'resnet' takes no name behind a colon, or has one already; found 'resnet:x'"),
        ({"timm:resnet18": {"name": "resnet34"}}, "'timm' takes no name behind a colon, or has one already"),
        ("tim:resnet18", "model.encoder has no 'tim'; there are "),
    ],
)
def test_what_does_not_fit_is_said(encoder: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        configuration({"model": {"encoder": encoder}}, "space.yaml")


@pytest.mark.parametrize(
    "encoder",
    [
        "timm",
        "timm:test_resnet",
        {"timm:test_resnet": None},
        {"timm:test_vit": {"weights": "weights.pth", "frozen": True, "pca": 3}},
        {"timm:test_vit": {"pretrained": True, "learning_rate_factor": 0.5}},
    ],
)
def test_a_configuration_of_timm_survives_yaml(encoder: Any) -> None:
    first = configuration({"model": {"encoder": encoder}}, "test")
    again = configuration(first.as_yaml(), "test")
    assert again == first and again.as_yaml() == first.as_yaml()


def test_the_name_may_stand_behind_a_colon_or_among_the_options() -> None:
    assert (
        network("timm:test_resnet") == network({"timm": {"name": "test_resnet"}}) == network({"timm:test_resnet": {}})
    )


@torch.no_grad()
def test_training_starts_from_the_given_weights_and_prediction_needs_no_file(weights: State, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(weights, path)
    chosen = network({f"timm:{NAME}": {"weights": str(path), "learning_rate_factor": 0.25}})
    model = BagClassifier(chosen)
    model.encoder.initialise()
    state = model.encoder.backbone.network.state_dict()
    assert len(state) == 90 and all(value.equal(weights[name]) for name, value in state.items())
    assert model.encoder.learning_rate_factor == 0.25
    assert BagClassifier(network(f"timm:{NAME}")).encoder.learning_rate_factor == 1  # of random weights
    path.unlink()
    NetworkMember.save(model.state_dict(), tmp_path / "fold")
    loaded = load_network(tmp_path / "fold.safetensors", chosen)
    assert output_of(loaded, cells(9)).probability_B.equal(output_of(model.eval(), cells(9)).probability_B)


def frozen(pca: int | None) -> BagClassifier:
    torch.manual_seed(0)
    return BagClassifier(network({f"timm:{NAME}": {"weights": "none.pth", "frozen": True, "pca": pca}}))


def features(count: int = 60) -> np.ndarray:
    """Return features [C, D], float16, of falling variances in turned directions, far from 0."""
    rng = np.random.default_rng(0)
    turn_DD = np.linalg.qr(rng.standard_normal((FEATURES, FEATURES)))[0]
    scale_D = 3 * 0.7 ** np.arange(FEATURES) + 1e-2
    return (rng.standard_normal((count, FEATURES)) * scale_D @ turn_DD + rng.uniform(-2, 2, FEATURES)).astype(
        np.float16
    )


def reduced(encoder: nn.Module, features_CD: np.ndarray) -> torch.Tensor:
    return encoder(torch.from_numpy(features_CD.astype(np.float32)))


def test_frozen_features_are_centred_and_scaled_by_those_of_training() -> None:
    encoder, features_CD = frozen(None).encoder, features()
    features_CD[:, 5] = 2  # without variance
    encoder.fit(features_CD, 0)
    seen_CD = reduced(encoder, features_CD)
    torch.testing.assert_close(seen_CD.mean(dim=0), torch.zeros(FEATURES), atol=1e-4, rtol=0)
    spread_D = seen_CD.std(dim=0, correction=0)
    torch.testing.assert_close(spread_D, torch.ones(FEATURES).index_fill(0, torch.tensor(5), 0), atol=1e-3, rtol=0)
    assert encoder.features == FEATURES


def test_components_are_those_of_scikit_learn() -> None:
    encoder, features_CD = frozen(4).encoder, features()
    encoder.fit(features_CD, 0)
    components_DQ = encoder.reduction_DQ / encoder.reduction_DQ.norm(dim=0)
    assert encoder.features == 4 and components_DQ.shape == (FEATURES, 4)
    torch.testing.assert_close(components_DQ.T @ components_DQ, torch.eye(4), atol=1e-4, rtol=0)
    lengths_Q = encoder.reduction_DQ.norm(dim=0)
    torch.testing.assert_close(lengths_Q, lengths_Q[0].expand(4))  # one scale: large components stay large
    exact = PCA(4, svd_solver="full").fit(features_CD.astype(np.float64))
    likeness_Q = (torch.from_numpy(exact.components_).float() @ components_DQ).diagonal().abs()
    torch.testing.assert_close(likeness_Q, torch.ones(4), atol=1e-3, rtol=0)
    seen_CQ = reduced(encoder, features_CD)
    torch.testing.assert_close(seen_CQ.mean(dim=0), torch.zeros(4), atol=1e-4, rtol=0)
    assert float(seen_CQ.var(dim=0).mean()) == pytest.approx(1, abs=1e-3)
    assert (seen_CQ.var(dim=0).diff() < 0).all()


def test_fewer_cells_than_components_leave_zeros() -> None:
    encoder = frozen(8).encoder
    encoder.fit(features(), 0)
    encoder.fit(features(5), 0)  # nothing of the first fit is left
    seen_CQ = reduced(encoder, features(5))
    assert seen_CQ.shape == (5, 8) and seen_CQ.isfinite().all()
    assert (encoder.reduction_DQ[:, 5:] == 0).all() and (encoder.reduction_DQ[:, :4] != 0).any(dim=0).all()
    assert (seen_CQ[:, 5:] == 0).all()


def test_the_same_seed_fits_the_same_components() -> None:
    one, two = frozen(4).encoder, frozen(4).encoder
    one.fit(features(), 7)
    two.fit(features(), 7)
    assert one.reduction_DQ.equal(two.reduction_DQ)


@pytest.mark.parametrize("pca", [None, 4])
@torch.no_grad()
def test_a_frozen_model_read_back_says_the_same(pca: int | None, tmp_path: Path) -> None:
    model = frozen(pca).eval()
    model.encoder.fit(features(), 0)
    model.fit_attributes(ATTRIBUTES)
    given = torch.from_numpy(features(sum(COUNTS)).astype(np.float32))
    assert not any(name.startswith("encoder.backbone") for name in model.state_dict())
    assert not list(model.encoder.parameters())
    NetworkMember.save(model.state_dict(), tmp_path / "fold")
    configured = network({f"timm:{NAME}": {"weights": "none.pth", "frozen": True, "pca": pca}})
    loaded = load_network(tmp_path / "fold.safetensors", configured)
    first = output_of(model, given)
    assert first.probability_B.unique().numel() == len(COUNTS)
    assert output_of(loaded, given).probability_B.equal(first.probability_B)
    assert not output_of(frozen(pca).eval(), given).probability_B.equal(first.probability_B)


def test_options_have_a_label() -> None:
    options = encoders["timm"].options
    assert options(name="tf_efficientnet_b0").label == "effnet_b0"
    assert options(name=NAME, frozen=True, pretrained=True).label == f"frozen-{NAME}"


def test_counting_features_draws_nothing() -> None:
    """A network built after it starts from the same weights in a process that has counted before."""
    random_numbers = []
    for _ in range(2):
        feature_count.cache_clear()
        for _ in range(2):
            torch.manual_seed(0)
            feature_count(NAME, CROP_PX)
            random_numbers.append(float(torch.rand(())))
    assert len(set(random_numbers)) == 1


def test_a_dead_feature_stays_dead() -> None:
    encoder, features_CD = frozen(None).encoder, features()
    features_CD[:, 3] = 0
    encoder.fit(features_CD, 0)
    features_CD[:, 3] = 0.3
    assert reduced(encoder, features_CD)[:, 3].abs().max() == 0
