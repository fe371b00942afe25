"""Features of a frozen backbone: computed once, kept, and reduced by what training patients alone show."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lymphtune.cohort import Cohort
from lymphtune.config import Configuration
from lymphtune.errors import InputError
from lymphtune.models.backbone import Backbone
from lymphtune.models.bag_classifier import as_pictures
from lymphtune.training import frozen
from lymphtune.training.batches import oriented
from lymphtune.training.frozen import distinct_frozen, features, missing_cost, placeholder_features
from lymphtune.training.loading import predict_cells_with, predict_with
from lymphtune.training.lockstep import fold_models, member_name, train
from tests.conftest import write_backbone
from tests.training.networks import CPU, FOLDS, changed, protocol, small, trained

STILL = {"crop_px": 64, "bag_size": None, "flips": False, "quarter_turns": False}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("LYMPHTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def weights(backbone_weights: Path) -> Path:
    return backbone_weights / "test_resnet.safetensors"


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The views that are computed, in their order."""
    real, orientations = frozen._compute_features, []

    def compute(backbone: Backbone, pictures: np.ndarray, crop_px: int, orientation: int, *more: Any) -> np.ndarray:
        orientations.append(orientation)
        return real(backbone, pictures, crop_px, orientation, *more)

    monkeypatch.setattr(frozen, "_compute_features", compute)
    return orientations


def frozen_model(weights: Path, data: Any = None, fusion: str = "concat", **options: Any) -> Configuration:
    encoder = {"timm:test_resnet": {"weights": str(weights), "frozen": True} | options}
    return small(fusion, encoder, "linear", STILL | (data or {}), learning_rate=1e-2)


def repainted(cohort: Cohort, row: int) -> Cohort:
    """Return the cohort with other pictures of one patient."""
    pictures, digests = np.array(cohort.pictures_CSS3), list(cohort.picture_digests)
    cells = range(cohort.starts[row], cohort.starts[row + 1])
    for cell in cells:
        pictures[cell] = 255 - pictures[cell]
        digests[cell] = f"{cell:064x}"
    return replace(cohort, pictures_CSS3=pictures, picture_digests=digests)


# ---- the features


def test_features_are_the_backbone_s_own_in_every_view(tiny_cohort: Cohort, weights: Path) -> None:
    given = features(frozen_model(weights, {"flips": True, "quarter_turns": True}), tiny_cohort, CPU)
    assert given is not None and len(given) == 8
    backbone = Backbone("test_resnet").eval()
    state = load_file(weights)
    backbone.network.load_state_dict({name: state[name] for name in backbone.network.state_dict()})
    some = slice(0, 52, 9)
    crops = torch.from_numpy(np.array(tiny_cohort.pictures_CSS3[some, 80:144, 80:144]))
    for orientation, features_CD in given.items():
        assert isinstance(features_CD, np.memmap) and features_CD.dtype == np.float16
        with torch.no_grad():
            expected = backbone(as_pictures(oriented(crops, orientation))).numpy()
        np.testing.assert_allclose(features_CD[some], expected, rtol=2e-3, atol=2e-3)
    assert len({features_CD.tobytes() for features_CD in given.values()}) == 8


def test_features_are_computed_once(tiny_cohort: Cohort, weights: Path, computed: list[int], cache: Path) -> None:
    chosen = frozen_model(weights)
    first = features(chosen, tiny_cohort, CPU)
    again = features(frozen_model(weights, pca=4), tiny_cohort, CPU)  # reduced later, from the same
    assert first is not None and again is not None and computed == [0]
    np.testing.assert_array_equal(first[0], again[0])
    trained(chosen, tiny_cohort, epochs=1)
    assert computed == [0]
    features(frozen_model(weights, {"tta": True}), tiny_cohort, CPU)
    assert computed == [0, 1, 2, 3]
    assert len(list(cache.glob("features-*.npy"))) == 4


def test_another_cohort_crop_or_backbone_is_computed_anew(
    tiny_cohort: Cohort, weights: Path, computed: list[int], cache: Path
) -> None:
    other = write_backbone(weights.with_name("other.safetensors"), seed=1)
    requests = [
        (frozen_model(weights), tiny_cohort),
        (frozen_model(weights), repainted(tiny_cohort, 0)),
        (frozen_model(weights, {"crop_px": 72}), tiny_cohort),
        (frozen_model(other), tiny_cohort),
    ]
    for number, (chosen, cohort) in enumerate(requests, start=1):
        features(chosen, cohort, CPU)
        assert len(computed) == len(list(cache.glob("features-*.npy"))) == number
    relabelled = changed(tiny_cohort, int(tiny_cohort.labelled[0]), age_years=50.0, label=1)
    features(frozen_model(weights), relabelled, CPU)
    assert len(computed) == 4  # pictures and backbone alone decide


def test_the_same_weights_under_another_name_are_the_same_backbone(
    tiny_cohort: Cohort, weights: Path, computed: list[int]
) -> None:
    copy = write_backbone(weights.with_name("copy.safetensors"))
    for path in (weights, copy):
        features(frozen_model(path), tiny_cohort, CPU)
    assert computed == [0]


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_damaged_features_are_computed_anew(
    tiny_cohort: Cohort, weights: Path, computed: list[int], cache: Path, damage: str
) -> None:
    chosen = frozen_model(weights)
    first = np.array(features(chosen, tiny_cohort, CPU)[0])
    (kept,) = cache.glob("features-*.npy")
    content = kept.read_bytes()
    if damage == "other":
        np.save(kept, np.zeros((3, 2), np.float16))
    else:
        kept.write_bytes(content[:500] if damage == "cut" else b"")
    np.testing.assert_array_equal(features(chosen, tiny_cohort, CPU)[0], first)
    assert computed == [0, 0] and kept.read_bytes() == content


def test_what_is_missing_is_told_before_it_is_computed(tiny_cohort: Cohort, weights: Path, cache: Path) -> None:
    chosen = frozen_model(weights, {"tta": True})
    seconds, n_bytes = missing_cost(chosen, tiny_cohort, CPU)
    assert seconds > 0 and not list(cache.glob("features-*.npy"))
    made = features(chosen, tiny_cohort, CPU)
    assert n_bytes == sum(made[orientation].nbytes for orientation in made)
    assert missing_cost(chosen, tiny_cohort, CPU) == (0.0, 0)
    noise = placeholder_features(chosen, tiny_cohort)
    assert {orientation: kept.shape for orientation, kept in noise.items()} == {
        orientation: kept.shape for orientation, kept in made.items()
    }
    assert placeholder_features(small(), tiny_cohort) is None


def test_features_in_memory_are_the_same_and_computed_once_for_all_that_share_them(
    tiny_cohort: Cohort, weights: Path, computed: list[int], cache: Path
) -> None:
    chosen, kept = frozen_model(weights, {"tta": True}), dict[str, np.ndarray]()
    here = frozen.features_in_memory(chosen, tiny_cohort, CPU, weights, kept)
    again = frozen.features_in_memory(frozen_model(weights, pca=4), tiny_cohort, CPU, weights, kept)
    assert here is not None and again is not None and again[0] is here[0]
    assert computed == [0, 1, 2, 3] and not list(cache.glob("features-*"))
    other = write_backbone(weights.with_name("other.safetensors"), seed=1)
    unlike = frozen.features_in_memory(chosen, tiny_cohort, CPU, other, kept)
    assert unlike is not None and len(kept) == 8 and not np.array_equal(unlike[0], here[0])
    cached = features(chosen, tiny_cohort, CPU)
    assert cached is not None and list(cached) == list(here)
    for orientation in cached:
        np.testing.assert_array_equal(here[orientation], cached[orientation])
    assert frozen.features_in_memory(small(), tiny_cohort, CPU, weights, kept) is None


def test_some_cells_of_a_cohort_take_what_the_cache_has_of_it(
    tiny_cohort: Cohort, weights: Path, computed: list[int]
) -> None:
    chosen, cells = frozen_model(weights), np.array([5, 0, 9])
    weights = frozen.backbone_file(chosen)  # what a bundle holds a copy of
    some = replace(
        tiny_cohort,
        patients=tiny_cohort.patients.head(1).assign(n_cells=3),
        pictures_CSS3=tiny_cohort.pictures_CSS3[cells],
        picture_digests=[tiny_cohort.picture_digests[c] for c in cells],
    )
    kept: dict[str, np.ndarray] = {}
    frozen.copy_from_cache(chosen, tiny_cohort, some, cells, weights, kept)
    assert kept == {}  # nothing there yet, and nothing is computed for it
    whole = features(chosen, tiny_cohort, CPU)
    frozen.copy_from_cache(chosen, tiny_cohort, some, cells, weights, kept)
    found = frozen.features_in_memory(chosen, some, CPU, weights, kept)
    assert whole is not None and found is not None and computed == [0]
    np.testing.assert_array_equal(found[0], whole[0][cells])
    frozen.copy_from_cache(small(), tiny_cohort, some, cells, weights, kept)
    assert len(kept) == 1


def test_features_to_compute_are_named_once_each(weights: Path) -> None:
    still, turned = frozen_model(weights), frozen_model(weights, {"flips": True})
    given = [still, frozen_model(weights, pca=3), turned, small()]
    assert distinct_frozen(given) in ([still, turned], [given[1], turned])


def test_nothing_frozen_has_no_features(tiny_cohort: Cohort, weights: Path) -> None:
    tuned = small(encoder={"timm:test_resnet": {"weights": str(weights)}}, data=STILL)
    assert features(small(), tiny_cohort, CPU) is None and features(tuned, tiny_cohort, CPU) is None


def test_weights_that_are_not_there_are_named(tiny_cohort: Cohort, weights: Path) -> None:
    chosen = frozen_model(weights.with_name("none.safetensors"))
    with pytest.raises(InputError, match=r"none\.safetensors: cannot be read"):
        features(chosen, tiny_cohort, CPU)


# ---- training on them


@pytest.mark.parametrize("pca", [None, 4])
def test_the_reduction_is_fitted_on_training_patients_only(
    tiny_cohort: Cohort, weights: Path, tmp_path: Path, pca: int | None
) -> None:
    """Other pictures of one patient change no model that holds the patient out, and every other."""
    chosen, wanted = frozen_model(weights, pca=pca), protocol(tiny_cohort, epochs=1)
    row = int(tiny_cohort.labelled[0])
    for name, cohort in (("first", tiny_cohort), ("other", repainted(tiny_cohort, row))):
        for result in train(chosen, cohort, wanted):
            result.save(tmp_path / name)
    models = fold_models(wanted.folds_RP)
    assert len(models) == FOLDS
    for repeat, fold in models:
        file = f"{member_name(repeat, fold)}.safetensors"
        first, other = load_file(tmp_path / "first" / file), load_file(tmp_path / "other" / file)
        same = {name: value.equal(other[name]) for name, value in first.items()}
        if wanted.folds_RP[0, row] == fold:
            assert all(same.values())
        else:
            assert not same["encoder.mean_D"] and not same["encoder.reduction_DQ"]
        cells = first["encoder.reduction_DQ"]
        assert cells.shape == ((96, pca) if pca else (96,))
        given = features(chosen, tiny_cohort, CPU)
        rows = np.setdiff1d(tiny_cohort.labelled, np.flatnonzero(wanted.folds_RP[0] == fold))
        starts = tiny_cohort.starts
        of_training = np.concatenate([given[0][starts[r] : starts[r + 1]] for r in rows]).astype(np.float64)
        np.testing.assert_allclose(first["encoder.mean_D"], of_training.mean(axis=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("data", [{}, {"tta": True, "flips": True}], ids=["plain", "tta"])
def test_saved_models_need_neither_the_cache_nor_the_first_weights(
    tiny_cohort: Cohort, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: dict
) -> None:
    chosen, wanted = frozen_model(weights, data, "gated", pca=4), protocol(tiny_cohort)
    for result in train(chosen, tiny_cohort, wanted):
        result.save(tmp_path / "saved")
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {"backbone.safetensors", *(f"{member_name(0, fold)}.safetensors" for fold in range(FOLDS))}
    weights.unlink()
    monkeypatch.setenv("LYMPHTUNE_CACHE", str(tmp_path / "elsewhere"))
    kept: dict[str, np.ndarray] = {}
    for repeat, fold in fold_models(wanted.folds_RP):
        held_out = np.flatnonzero(wanted.folds_RP[repeat] == fold)
        path = tmp_path / "saved" / f"{member_name(repeat, fold)}.safetensors"
        in_memory, _ = predict_cells_with(path, chosen, tiny_cohort, held_out, kept)
        assert len(kept) == (4 if data else 1) and (fold > 0 or not (tmp_path / "elsewhere").exists())
        found = predict_with(path, chosen, tiny_cohort, held_out)
        np.testing.assert_array_equal(in_memory.probability_P, found.probability_P)
        np.testing.assert_allclose(found.probability_P, result.probabilities_RP[repeat, held_out], rtol=0, atol=1e-5)
        np.testing.assert_allclose(found.gate_P, result.gates_RP[repeat, held_out], rtol=0, atol=1e-5)
