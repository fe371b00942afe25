"""A look at a picture: whether it can be used, and what it would be told apart by; each is decoded once, small.

A JPEG is decoded at a quarter of its size or less, which takes its whole stream of codes through the same decoder: what
is truncated or damaged fails as it would at full size. Shapes: T side of a thumbnail (SIDE), S of a picture.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from lymphtune import console
from lymphtune.cohort.cohort import Cohort
from lymphtune.cohort.examination.evidence import Bag, Look
from lymphtune.cohort.pictures import PictureSource, encoded, opened, rgb
from lymphtune.errors import InputError

SIDE = 16
DRAFT = (56, 56)  # a quarter of 224 pixels


def look(name: str, data: bytes) -> Look:
    """Return what is seen of one encoded picture."""
    digest = hashlib.sha256(data).hexdigest()
    try:
        with opened(data, name) as image:
            form, mode, size, n_pages = image.format or "", image.mode, image.size, getattr(image, "n_frames", 1)
            image.draft("RGB", DRAFT)
            thumbnail_TT, contrast, brightness = _small(rgb(image), size)
    except InputError as error:
        return Look(name, digest, len(data), str(error).removeprefix(f"{name}: "))
    return Look(name, digest, len(data), "", form, mode, size, n_pages, thumbnail_TT, contrast, brightness)


def _small(image: Image.Image, size: tuple[int, int]) -> tuple[np.ndarray, float, float]:
    """Return the thumbnail [T, T] of the central square, the largest standard deviation of a colour, the mean.

    size: of the picture before it was decoded smaller; its square is cut where it lay there.
    """
    scale = next(scale for scale in (1, 2, 4, 8) if -(-size[0] // scale) == image.width)
    side = min(size)
    left, top = (size[0] - side) / 2, (size[1] - side) / 2
    box = tuple(edge / scale for edge in (left, top, left + side, top + side))
    small = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)
    colours_N3 = np.asarray(small, dtype=np.float32).reshape(-1, 3)
    return np.asarray(small.convert("L")), float(colours_N3.std(axis=0).max()), float(colours_N3.mean())


def look_through(folder: Path, bags: Sequence[Bag]) -> None:
    """Fill the bags of a folder with a look at each of their pictures."""
    jobs = [(folder, bag) for bag in bags]
    with (
        console.bar("Examining pictures", sum(len(bag.names) for bag in bags)) as progress,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for bag, looks in zip(bags, pool.map(_looks_of_bag, jobs), strict=True):
            bag.looks = looks
            progress.advance(len(bag.names))


def _looks_of_bag(job: tuple[Path, Bag]) -> list[Look]:
    folder, bag = job
    return [_look_at_file(folder / bag.place(name), name) for name in bag.names]


def _look_at_file(path: Path, name: str) -> Look:
    try:
        data = encoded(path)
    except InputError as error:
        return Look(name, "", 0, str(error).removeprefix(f"{path}: "))
    return look(name, data)


def look_through_sources(sources: Sequence[PictureSource], bags: dict[str, Bag]) -> list[InputError]:
    """Fill the bags (by patient) of a packed cohort, and return what could not be read of it."""
    failed = []
    with (
        console.bar("Examining pictures", sum(map(len, sources))) as progress,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for source, (looks, error) in zip(sources, pool.map(_looks_of_source, sources), strict=True):
            for patient, seen in looks:
                bags[patient].looks.append(seen)
            if error is not None:
                failed.append(error)
            progress.advance(len(source))
    return failed


def _looks_of_source(source: PictureSource) -> tuple[list[tuple[str, Look]], InputError | None]:
    looks = []
    try:
        for where, data in source.read():
            patient, _, name = where.partition(", ")[2].partition("/")
            looks.append((patient, look(name, data)))
    except InputError as error:
        return looks, error
    return looks, None


def look_through_pixels(cohort: Cohort) -> Iterator[list[Look]]:
    """Yield the looks of each patient of a cohort whose pictures are at hand decoded, as a drawn one's are."""
    for row, digests in enumerate(cohort.digests_of_bags):
        yield [_look_at_pixels(digest, pixels) for digest, pixels in zip(digests, cohort.bag(row), strict=True)]


def _look_at_pixels(digest: str, pixels_SS3: np.ndarray) -> Look:
    image = Image.fromarray(pixels_SS3)
    return Look(digest[:8], digest, 0, "", "", "RGB", image.size, 1, *_small(image, image.size))
