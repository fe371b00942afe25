"""A frozen encoder's features: computed once for a cohort, kept in the cache folder, mapped by every trial.

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
from lymphtune.training.arithmetic import exact
from lymphtune.training.batches import evaluation_views, seen_as, training_views

FORMAT = 1  # part of a cache file's name; raise it when the features change
CELLS_AT_ONCE = 64
LARGEST = float(np.finfo(np.float16).max)
WEIGHTS = "backbone.safetensors"  # beside the fold models that need it
Kept = dict[str, np.ndarray]  # features [C, D] of one cohort by all else that they depend on


def is_frozen(configuration: Configuration) -> bool:
    return configuration.model is not None and getattr(configuration.model.encoder.options, "frozen", False)


def features(
    configuration: Configuration,
    cohort: Cohort,
    device: torch.device,
    weights: Path | None = None,
    check: Callable[[], None] = lambda: None,
) -> dict[int, np.ndarray] | None:
    """Return the features [C, D] of every view the configuration looks at; None: nothing is frozen.

    `check` is called between batches of pictures and may raise: the view being computed then leaves nothing.

    float16, mapped from the cache; computed where they are not there. `weights`: the backbone's, in place of
    those that the configuration names, for a model that only judges. Raises InputError where they cannot be had.
    """
    if not is_frozen(configuration):
        return None
    views: Sequence[int] = evaluation_views(configuration.data)
    if weights is None:
        weights, views = backbone_file(configuration), _views(configuration)
    return {view: _view(configuration, cohort, device, weights, view, check) for view in views}


def features_here(
    configuration: Configuration, cohort: Cohort, device: torch.device, weights: Path, kept: Kept
) -> dict[int, np.ndarray] | None:
    """Return the same features for a model that only judges, computed in memory; the cache is left alone.

    What is computed goes into `kept`, where models with the same backbone find it.
    """
    if not is_frozen(configuration):
        return None
    names = {view: _file(configuration, cohort, weights, view).name for view in evaluation_views(configuration.data)}
    if wanted := [view for view, name in names.items() if name not in kept]:
        backbone = load_backbone(configuration, weights).to(device)
        for view in wanted:
            kept[names[view]] = _computed(backbone, cohort.pictures_CSS3, configuration.data.crop_px, view, "")
    return {view: kept[name] for view, name in names.items()}


def take_from_cache(
    configuration: Configuration, cohort: Cohort, some: Cohort, cells_C: np.ndarray, weights: Path, kept: Kept
) -> None:
    """Put into `kept` what the cache has of the cohort's features, for `some`: its cells in rows `cells_C`."""
    if not is_frozen(configuration):
        return
    for view in evaluation_views(configuration.data):
        there, name = (_file(configuration, of, weights, view) for of in (cohort, some))
        if name.name not in kept and _sound(there, len(cohort.pictures_CSS3)):
            kept[name.name] = np.load(there, mmap_mode="r", allow_pickle=False)[cells_C]


def _views(configuration: Configuration) -> list[int]:
    """Return the views that training and evaluation look at."""
    return sorted({*training_views(configuration.data), *evaluation_views(configuration.data)})


def missing(configuration: Configuration, cohort: Cohort, device: torch.device) -> tuple[float, int]:
    """Return about how many seconds and bytes the features take that are not in the cache; computes a few of them."""
    weights = backbone_file(configuration)
    files = [_file(configuration, cohort, weights, view) for view in _views(configuration)]
    n_cells = len(cohort.pictures_CSS3)
    to_make = sum(not _sound(file, n_cells) for file in files)
    if not to_make:
        return 0.0, 0
    backbone, few_CSS3 = load_backbone(configuration, weights).to(device), cohort.pictures_CSS3[:CELLS_AT_ONCE]
    for _ in range(2):  # the first warms up
        started = time.perf_counter()
        few_CD = _computed(backbone, few_CSS3, configuration.data.crop_px, 0, "")
        took_s = time.perf_counter() - started
    return took_s / len(few_CD) * n_cells * to_make, few_CD.nbytes // len(few_CD) * n_cells * to_make


def stand_in(configuration: Configuration, cohort: Cohort) -> dict[int, np.ndarray] | None:
    """Return noise of the features' shape, to time a step by; None: nothing is frozen."""
    if not is_frozen(configuration):
        return None
    assert configuration.model is not None
    width = feature_count(configuration.model.encoder.options.name, configuration.data.crop_px)
    noise_CD = np.random.default_rng(0).standard_normal((len(cohort.pictures_CSS3), width), np.float32)
    return dict.fromkeys(_views(configuration), noise_CD.astype(np.float16))


def backbone_file(configuration: Configuration) -> Path:
    """Return a file in the cache folder that holds the frozen backbone's weights, whichever way they are named."""
    assert configuration.model is not None
    options = configuration.model.encoder.options
    source = f"hub:{options.name}" if options.weights is None else _content(Path(options.weights))
    kept = cache_dir() / f"backbone-{digest([options.name, source])}.safetensors"
    with _alone(kept, Path.is_file) as wanted:
        if wanted:
            state = {key: value.contiguous() for key, value in options.state().items()}
            with atomic_file(kept) as scratch:
                save_file(state, scratch)
    return kept


def place_backbone(configuration: Configuration, folder: Path) -> None:
    """Lay the frozen backbone's weights into a folder of fold models, without a copy where the disk allows it."""
    if not is_frozen(configuration) or (folder / WEIGHTS).exists():
        return
    source = backbone_file(configuration)
    with atomic_file(folder / WEIGHTS) as scratch:
        link_or_copy(source, scratch)


def _content(path: Path) -> str:
    """Return the file's hash; raises InputError where it is not there."""
    try:
        return _hashed(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a backbone's weights") from error


@lru_cache(maxsize=32)
def _hashed(path: Path, changed_ns: int) -> str:
    return sha256(path)


def _view(
    configuration: Configuration, cohort: Cohort, device: torch.device, weights: Path, view: int,
    check: Callable[[], None],
) -> np.ndarray:  # fmt: skip
    kept, n_cells = _file(configuration, cohort, weights, view), len(cohort.pictures_CSS3)
    with _alone(kept, lambda path: _sound(path, n_cells)) as wanted:
        if wanted:
            backbone, crop_px = load_backbone(configuration, weights).to(device), configuration.data.crop_px
            label = f"{configuration.title.split()[0]} features, {crop_px} px, view {view + 1}"
            computed_CD = _computed(backbone, cohort.pictures_CSS3, crop_px, view, label, check)
            with atomic_file(kept) as scratch, scratch.open("wb") as file:
                np.save(file, computed_CD, allow_pickle=False)
    return np.load(kept, mmap_mode="r", allow_pickle=False)


@contextmanager
def _alone(kept: Path, sound: Callable[[Path], bool]) -> Iterator[bool]:
    """Yield whether the file is wanted, while no other process of this host makes it."""
    if sound(kept):
        yield False
        return
    with locked(kept.with_suffix(".lock")):
        yield not sound(kept)


def _file(configuration: Configuration, cohort: Cohort, weights: Path, view: int) -> Path:
    """Return where the cache keeps one view's features, named by all that they depend on."""
    assert configuration.model is not None
    name, crop_px = configuration.model.encoder.options.name, configuration.data.crop_px
    key = digest([FORMAT, CACHE_FORMAT, name, _content(weights), crop_px, view, list(cohort.picture_digests)])
    return cache_dir() / f"features-{key}.npy"


def load_backbone(configuration: Configuration, weights: Path) -> Backbone:
    """Return the frozen backbone that a file holds; raises InputError where it is another's."""
    assert configuration.model is not None
    backbone = Backbone(configuration.model.encoder.options.name)
    backbone.network.load_state_dict(file_state(configuration.model.encoder.options.name, weights))
    return backbone


def _sound(path: Path, n_cells: int) -> bool:
    """Return whether the file is there and holds features of so many cells."""
    try:
        kept_CD = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return kept_CD.ndim == 2 and len(kept_CD) == n_cells


@torch.no_grad()
def _computed(
    backbone: Backbone, pictures_CSS3: np.ndarray, crop_px: int, view: int, label: str,
    check: Callable[[], None] = lambda: None,
) -> np.ndarray:  # fmt: skip
    """Return features [C, D] float16 of the pictures' centres in one view, in float32 arithmetic."""
    backbone = backbone.eval().to(memory_format=torch.channels_last)
    device = backbone.scale.device
    low = (pictures_CSS3.shape[1] - crop_px) // 2
    said: list[np.ndarray] = []
    with exact(), console.bar(label, len(pictures_CSS3)) as bar:
        for start in range(0, len(pictures_CSS3), CELLS_AT_ONCE):
            check()
            crops = pictures_CSS3[start : start + CELLS_AT_ONCE, low : low + crop_px, low : low + crop_px]
            cells = seen_as(torch.from_numpy(np.ascontiguousarray(crops)).to(device), view)
            said.append(rounded_features(backbone, cells).cpu().numpy())
            bar.advance(len(crops))
    return np.concatenate(said)


def rounded_features(backbone: Backbone, cells_MSS3: Tensor) -> Tensor:
    """Return features [M, D] of pictures as they are kept: float16."""
    return backbone(as_pictures(cells_MSS3)).float().clamp(-LARGEST, LARGEST).half()


def all_frozen(configurations: Sequence[Configuration]) -> list[Configuration]:
    """Return one configuration for each set of features that some of these look at."""
    asked = {}
    for chosen in filter(is_frozen, configurations):
        assert chosen.model is not None
        options, crop_px = chosen.model.encoder.options, chosen.data.crop_px
        asked[options.name, options.pretrained, options.weights, crop_px, *_views(chosen)] = chosen
    return list(asked.values())
