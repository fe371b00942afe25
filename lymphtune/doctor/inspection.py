"""Inspect pictures: whether each can be used, its properties and a thumbnail; each is decoded once, at reduced size.

A JPEG is decoded in grey at a quarter of its size or less. The decoder still reads the whole file, so truncated and
damaged files fail as they would at full size.
Shapes: C pictures, T side of a thumbnail (SIDE), S side of a picture.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from lymphtune import console
from lymphtune.cohort.cohort import Cohort
from lymphtune.cohort.depth import depth_of, stored_as
from lymphtune.cohort.folders import composed
from lymphtune.cohort.pictures import SIDEWAYS, PictureSource, open_picture, orientation_of, read_encoded, to_rgb
from lymphtune.doctor.evidence import Bag, InspectedPicture
from lymphtune.errors import InputError

SIDE = 16
# text before the patient's id in the location of a packed picture
OF_PACKED = re.compile(r"\.parquet, ", re.IGNORECASE)
# a quarter of 224 pixels
DRAFT = (56, 56)


class _SmallPicture(NamedTuple):
    """An inspected picture without its thumbnail statistics, and its thumbnail as bytes, "" if it is unreadable."""

    seen: InspectedPicture
    bright: bytes = b""


def inspect_picture(name: str, data: bytes) -> InspectedPicture:
    """Inspect one encoded picture."""
    return _with_brightness([_inspect(name, data)])[0]


def _inspect(name: str, data: bytes) -> _SmallPicture:
    digest = hashlib.sha256(data).hexdigest()
    try:
        with open_picture(data, name) as image:
            seen = InspectedPicture(
                name,
                digest,
                len(data),
                "",
                image.format or "",
                image.mode,
                image.size,
                getattr(image, "is_animated", False),
            )
            stored = stored_as(image)
            image.draft("L", DRAFT)
            turn = orientation_of(image)
            turned = image if turn is None else image.transpose(turn)
            size = seen.size[::-1] if turn in SIDEWAYS else seen.size
            depth = depth_of(turned, stored)
            grey = turned if turned.mode == "L" else to_rgb(turned).convert("L")
            return _SmallPicture(replace(seen, size=size, depth=depth, levels=_levels(grey)), _small(grey, size))
    except InputError as error:
        return _SmallPicture(InspectedPicture(name, digest, len(data), str(error).removeprefix(f"{name}: ")))


def _levels(grey: Image.Image) -> tuple[int, int]:
    low, high = grey.getextrema()
    return int(low), int(high)  # type: ignore[arg-type]


def _small(image: Image.Image, size: tuple[int, int]) -> bytes:
    """Thumbnail [T, T], as bytes, of the central square of a grey picture.

    size: size of the picture at full resolution, in which the square is placed.
    """
    scale = next(scale for scale in (1, 2, 4, 8) if -(-size[0] // scale) == image.width)
    side = min(size)
    left, top = (size[0] - side) / 2, (size[1] - side) / 2
    box = (left / scale, top / scale, (left + side) / scale, (top + side) / scale)
    return image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box).tobytes()


def _with_brightness(small_pictures: Sequence[_SmallPicture]) -> list[InspectedPicture]:
    """The inspected pictures with thumbnails [T, T] and the standard deviation and mean of their brightness.

    Computed for several pictures at once, which is faster.
    """
    decoded = b"".join(small_picture.bright for small_picture in small_pictures)
    thumbnails_CTT = np.frombuffer(decoded, np.uint8).reshape(-1, SIDE, SIDE)
    contrast_C, brightness_C = thumbnails_CTT.std(axis=(1, 2)), thumbnails_CTT.mean(axis=(1, 2))
    counted = zip(thumbnails_CTT, contrast_C.tolist(), brightness_C.tolist(), strict=True)
    inspected = []
    for seen, bright in small_pictures:
        if bright:
            thumbnail_TT, contrast, brightness = next(counted)
            seen = replace(seen, thumbnail_TT=thumbnail_TT, contrast=contrast, brightness=brightness)
        inspected.append(seen)
    return inspected


def inspect_folder(folder: Path, bags: Sequence[Bag]) -> None:
    """Inspect every picture of a folder's bags, in place."""
    jobs = [(folder, bag) for bag in bags]
    with (
        console.bar("Examining pictures", sum(len(bag.names) for bag in bags)) as progress,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for bag, inspected in zip(bags, pool.map(_inspect_bag, jobs), strict=True):
            bag.inspected = inspected
            progress.advance(len(bag.names))


def _inspect_bag(job: tuple[Path, Bag]) -> list[InspectedPicture]:
    folder, bag = job
    return _with_brightness([_inspect_file(folder / bag.place(name), name) for name in bag.names])


def _inspect_file(path: Path, name: str) -> _SmallPicture:
    try:
        data = read_encoded(path)
    except InputError as error:
        return _SmallPicture(InspectedPicture(name, "", 0, str(error).removeprefix(f"{path}: ")))
    return _inspect(name, data)


def inspect_sources(sources: Sequence[PictureSource], bags: dict[str, Bag]) -> list[InputError]:
    """Inspect every picture of a packed cohort's bags (by patient), in place; return the read errors."""
    failed = []
    with (
        console.bar("Examining pictures", sum(map(len, sources))) as progress,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for source, (inspected, error) in zip(sources, pool.map(_inspect_source, sources), strict=True):
            for patient, seen in inspected:
                bags[patient].inspected.append(seen)
            if error is not None:
                failed.append(error)
            progress.advance(len(source))
    return failed


def _inspect_source(source: PictureSource) -> tuple[list[tuple[str, InspectedPicture]], InputError | None]:
    patients, small_pictures, failed = [], [], None
    try:
        for where, name, data in source.read():
            patients.append(composed(OF_PACKED.split(where.removesuffix(f"/{name}"), 1)[-1]))
            small_pictures.append(_inspect(name, data))
    except InputError as error:
        failed = error
    return list(zip(patients, _with_brightness(small_pictures), strict=True)), failed


def inspect_pixels(cohort: Cohort) -> Iterator[list[InspectedPicture]]:
    """Yield each patient's inspected pictures for a cohort in memory, such as a simulated one."""
    for row, digests in enumerate(cohort.digests_of_bags):
        yield _with_brightness(
            [_inspect_array(digest, pixels) for digest, pixels in zip(digests, cohort.bag(row), strict=True)]
        )


def _inspect_array(digest: str, pixels_SS3: np.ndarray) -> _SmallPicture:
    image = Image.fromarray(pixels_SS3).convert("L")
    seen = InspectedPicture(digest[:8], digest, 0, mode="RGB", size=image.size, levels=_levels(image))
    return _SmallPicture(seen, _small(image, image.size))
