"""A frozen encoder's features: computed once for a cohort, stored in the cache folder, memory-mapped by each trial.

Shapes: C cells of the cohort, D features, S picture side.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from lymphtune import console
from lymphtune.cohort import Cohort
from lymphtune.cohort.pictures import CACHE_FORMAT, cache_dir
from lymphtune.config import Configuration, digest
from lymphtune.errors import InputError
from lymphtune.files import atomic_file, locked, sha256
from lymphtune.models.backbone import Backbone, feature_count, file_state
from lymphtune.models.bag_classifier import as_pictures
from lymphtune.platforms import link_or_copy
from lymphtune.training.batches import evaluation_orientations, oriented, training_orientations
from lymphtune.training.precision import full_float32

FORMAT = 1  # part of a cache file's name; increase it when the features change
CELLS_AT_ONCE = 64
LARGEST = float(np.finfo(np.float16).max)
WEIGHTS = "backbone.safetensors"  # in the folder of the fold models that need it
FeatureCache = dict[str, np.ndarray]  # features [C, D] of one cohort, by the name of their cache file


def is_frozen(configuration: Configuration) -> bool:
    return configuration.model is not None and getattr(configuration.model.encoder.options, "frozen", False)


def features(
    configuration: Configuration,
    cohort: Cohort,
    device: torch.device,
    weights: Path | None = None,
    check: Callable[[], None] = lambda: None,
) -> dict[int, np.ndarray] | None:
    """Return the features [C, D], float16, of every orientation that the configuration uses; None: nothing is frozen.

    They are memory-mapped from the cache, and computed first where it lacks them. weights: the backbone's, in place of
    those that the configuration names, for a model that only predicts. check: called between batches of pictures; it
    may raise, and the orientation being computed is then not stored. Raises InputError where the weights are not
    available.
    """
    if not is_frozen(configuration):
        return None
    orientations: Sequence[int] = evaluation_orientations(configuration.data)
    if weights is None:
        weights, orientations = backbone_file(configuration), _all_orientations(configuration)
    return {
        orientation: _cached_features(configuration, cohort, device, weights, orientation, check)
        for orientation in orientations
    }


def features_in_memory(
    configuration: Configuration, cohort: Cohort, device: torch.device, weights: Path, kept: FeatureCache
) -> dict[int, np.ndarray] | None:
    """Return the same features for a model that only predicts, computed in memory without the cache folder.

    `kept` stores them, so that models with the same backbone share them.
    """
    if not is_frozen(configuration):
        return None
    names = {
        orientation: _cache_file(configuration, cohort, weights, orientation).name
        for orientation in evaluation_orientations(configuration.data)
    }
    if wanted := [orientation for orientation, name in names.items() if name not in kept]:
        backbone = load_backbone(configuration, weights).to(device)
        for orientation in wanted:
            kept[names[orientation]] = _compute_features(
                backbone, cohort.pictures_CSS3, configuration.data.crop_px, orientation, ""
            )
    return {orientation: kept[name] for orientation, name in names.items()}


def copy_from_cache(
    configuration: Configuration, cohort: Cohort, some: Cohort, cells_C: np.ndarray, weights: Path, kept: FeatureCache
) -> None:
    """Copy cached features of the cohort into `kept`, for the cohort `some`, which has its cells `cells_C`."""
    if not is_frozen(configuration):
        return
    for orientation in evaluation_orientations(configuration.data):
        there, name = (_cache_file(configuration, of, weights, orientation) for of in (cohort, some))
        if name.name not in kept and _is_valid(there, len(cohort.pictures_CSS3)):
            kept[name.name] = np.load(there, mmap_mode="r", allow_pickle=False)[cells_C]


def _all_orientations(configuration: Configuration) -> list[int]:
    """Return the orientations of training and evaluation."""
    return sorted({*training_orientations(configuration.data), *evaluation_orientations(configuration.data)})


def missing_cost(configuration: Configuration, cohort: Cohort, device: torch.device) -> tuple[float, int]:
    """Return the estimated seconds and bytes of the features that the cache lacks, from a few that it computes."""
    weights = backbone_file(configuration)
    files = [
        _cache_file(configuration, cohort, weights, orientation) for orientation in _all_orientations(configuration)
    ]
    n_cells = len(cohort.pictures_CSS3)
    to_make = sum(not _is_valid(file, n_cells) for file in files)
    if not to_make:
        return 0.0, 0
    backbone, few_CSS3 = load_backbone(configuration, weights).to(device), cohort.pictures_CSS3[:CELLS_AT_ONCE]
    for _ in range(2):  # the first warms up
        started = time.perf_counter()
        few_CD = _compute_features(backbone, few_CSS3, configuration.data.crop_px, 0, "")
        took_s = time.perf_counter() - started
    return took_s / len(few_CD) * n_cells * to_make, few_CD.nbytes // len(few_CD) * n_cells * to_make


def placeholder_features(configuration: Configuration, cohort: Cohort) -> dict[int, np.ndarray] | None:
    """Return noise of the features' shape, to measure the time of a step; None: nothing is frozen."""
    if not is_frozen(configuration):
        return None
    assert configuration.model is not None
    width = feature_count(configuration.model.encoder.options.name, configuration.data.crop_px)
    noise_CD = np.random.default_rng(0).standard_normal((len(cohort.pictures_CSS3), width), np.float32)
    return dict.fromkeys(_all_orientations(configuration), noise_CD.astype(np.float16))


def backbone_file(configuration: Configuration) -> Path:
    """Return the file in the cache folder that holds the frozen backbone's weights, from the hub or a file."""
    assert configuration.model is not None
    options = configuration.model.encoder.options
    source = f"hub:{options.name}" if options.weights is None else _content_hash(Path(options.weights))
    kept = cache_dir() / f"backbone-{digest([options.name, source])}.safetensors"
    with _lock_if_needed(kept, Path.is_file) as wanted:
        if wanted:
            state = {key: value.contiguous() for key, value in options.state().items()}
            with atomic_file(kept) as scratch:
                save_file(state, scratch)
    return kept


def place_backbone(configuration: Configuration, folder: Path) -> None:
    """Put the frozen backbone's weights into a folder of fold models, as a hard link where the disk allows it."""
    if not is_frozen(configuration) or (folder / WEIGHTS).exists():
        return
    source = backbone_file(configuration)
    with atomic_file(folder / WEIGHTS) as scratch:
        link_or_copy(source, scratch)


def _content_hash(path: Path) -> str:
    """Return the file's hash; raises InputError where it cannot be read."""
    try:
        return _hashed(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a backbone's weights") from error


@lru_cache(maxsize=32)
def _hashed(path: Path, changed_ns: int) -> str:
    return sha256(path)


def _cached_features(
    configuration: Configuration,
    cohort: Cohort,
    device: torch.device,
    weights: Path,
    orientation: int,
    check: Callable[[], None],
) -> np.ndarray:
    kept, n_cells = _cache_file(configuration, cohort, weights, orientation), len(cohort.pictures_CSS3)
    with _lock_if_needed(kept, lambda path: _is_valid(path, n_cells)) as wanted:
        if wanted:
            backbone, crop_px = load_backbone(configuration, weights).to(device), configuration.data.crop_px
            label = f"{configuration.title.split()[0]} features, {crop_px} px, orientation {orientation + 1}"
            computed_CD = _compute_features(backbone, cohort.pictures_CSS3, crop_px, orientation, label, check)
            with atomic_file(kept) as scratch, scratch.open("wb") as file:
                np.save(file, computed_CD, allow_pickle=False)
    return np.load(kept, mmap_mode="r", allow_pickle=False)


@contextmanager
def _lock_if_needed(kept: Path, sound: Callable[[Path], bool]) -> Iterator[bool]:
    """Yield whether the file has to be made, under a lock against other processes on this host."""
    if sound(kept):
        yield False
        return
    with locked(kept.with_suffix(".lock")):
        yield not sound(kept)


def _cache_file(configuration: Configuration, cohort: Cohort, weights: Path, orientation: int) -> Path:
    """Return the cache file of one orientation's features, whose name hashes all that they depend on."""
    assert configuration.model is not None
    name, crop_px = configuration.model.encoder.options.name, configuration.data.crop_px
    key = digest(
        [FORMAT, CACHE_FORMAT, name, _content_hash(weights), crop_px, orientation, list(cohort.picture_digests)]
    )
    return cache_dir() / f"features-{key}.npy"


def load_backbone(configuration: Configuration, weights: Path) -> Backbone:
    """Return the frozen backbone that a file holds; raises InputError where it is of another network."""
    assert configuration.model is not None
    backbone = Backbone(configuration.model.encoder.options.name)
    backbone.network.load_state_dict(file_state(configuration.model.encoder.options.name, weights))
    return backbone


def _is_valid(path: Path, n_cells: int) -> bool:
    """Return whether the file exists and holds features of `n_cells` cells."""
    try:
        kept_CD = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return kept_CD.ndim == 2 and len(kept_CD) == n_cells


@torch.no_grad()
def _compute_features(
    backbone: Backbone,
    pictures_CSS3: np.ndarray,
    crop_px: int,
    orientation: int,
    label: str,
    check: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Return features [C, D], float16, of the pictures' centres in one orientation, computed in float32."""
    backbone = backbone.eval().to(memory_format=torch.channels_last)
    device = backbone.scale.device
    low = (pictures_CSS3.shape[1] - crop_px) // 2
    parts: list[np.ndarray] = []
    with full_float32(), console.bar(label, len(pictures_CSS3)) as bar:
        for start in range(0, len(pictures_CSS3), CELLS_AT_ONCE):
            check()
            crops = pictures_CSS3[start : start + CELLS_AT_ONCE, low : low + crop_px, low : low + crop_px]
            cells = oriented(torch.from_numpy(np.ascontiguousarray(crops)).to(device), orientation)
            parts.append(rounded_features(backbone, cells).cpu().numpy())
            bar.advance(len(crops))
    return np.concatenate(parts)


def rounded_features(backbone: Backbone, cells_MSS3: Tensor) -> Tensor:
    """Return features [M, D] of pictures, rounded to float16 as in the cache."""
    return backbone(as_pictures(cells_MSS3)).float().clamp(-LARGEST, LARGEST).half()


def distinct_frozen(configurations: Sequence[Configuration]) -> list[Configuration]:
    """Return one configuration for each distinct set of frozen features."""
    distinct = {}
    for chosen in filter(is_frozen, configurations):
        assert chosen.model is not None
        options, crop_px = chosen.model.encoder.options, chosen.data.crop_px
        distinct[options.name, options.pretrained, options.weights, crop_px, *_all_orientations(chosen)] = chosen
    return list(distinct.values())
