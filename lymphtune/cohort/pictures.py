"""Pictures of cells: check them, decode them in parallel, and cache the decoded pixels on disk.

Shapes: C cells, S picture side (PICTURE_PX), 3 colours.
"""

import errno
import hashlib
import io
import json
import os
import shutil
import struct
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from lymphtune import console
from lymphtune.cohort.cohort import PICTURE_PX
from lymphtune.cohort.depth import CURE, BadDepth, Depth, depth_of, stored_as, underused
from lymphtune.errors import InputError
from lymphtune.files import atomic_file, write_json

FORMATS = ("JPEG", "PNG", "BMP", "TIFF")
MAX_PIXELS = 4096 * 4096
MIN_SIDE_PX = 16
LIMITS = f"expected sides of {MIN_SIDE_PX} pixels or more and {MAX_PIXELS} pixels in all at most"
# EXIF tag, and the transpose for each of its values
ORIENTATION = 0x0112
TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = {TRANSPOSES[number] for number in (5, 6, 7, 8)}
# scans of a JPEG file: each takes a pass over all pixels, but may need few bytes
MAX_SCANS = 100
# size of the largest picture allowed: four 16-bit channels, uncompressed
MAX_ENCODED_BYTES = 160 * 2**20
# part of a cache file's name; increase it when decoding changes
CACHE_FORMAT = 2
CACHE_VARIABLE = "LYMPHTUNE_CACHE"
# exceptions that Pillow raises on damaged files, found by fuzzing
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, TypeError, KeyError, IndexError, OverflowError)

# Pillow only warns about pictures up to twice its size limit. The filter is set once because warnings.catch_warnings
# is not thread-safe.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)

Job = TypeVar("Job")
Result = TypeVar("Result")


class Encoded(NamedTuple):
    """An encoded picture; where: its location, for messages; name: relative to its patient's folder."""

    where: str
    name: str
    data: bytes


class PictureSource(Protocol):
    """Pictures that one thread reads in order, such as a patient's folder or a row group of a packed cohort."""

    def __len__(self) -> int: ...

    def read(self) -> Iterator[Encoded]:
        """Yield the encoded pictures."""
        ...


@dataclass(frozen=True)
class PictureFiles:
    """The picture files of one patient; folder: the patient's folder, None for each file's own parent."""

    paths: Sequence[Path]
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def read(self) -> Iterator[Encoded]:
        for path in self.paths:
            name = path.name if self.folder is None else path.relative_to(self.folder).as_posix()
            yield Encoded(str(path), name, read_encoded(path))


@dataclass(frozen=True)
class Picture:
    """A decoded picture [S, S, 3]; changes: conversions made, as text; depth: only of pictures of more than 8 bits."""

    pixels_SS3: np.ndarray
    changes: tuple[str, ...] = ()
    depth: Depth | None = None


# arguments: encoded bytes, and the location that starts error messages
Decoder = Callable[[bytes, str], Picture]


class DecodedSource(NamedTuple):
    """Results of decoding one source.

    changes: number of pictures by conversion. depths: location and depth of each picture, None for 8 bits.
    """

    digests: list[str]
    names: list[str]
    changes: Counter[str]
    depths: list[tuple[str, Depth] | None]


class _Job(NamedTuple):
    """One source, the array [N, S, S, 3] to decode it into, and the digests that it must have, None if unknown."""

    source: PictureSource
    pixels_NSS3: np.ndarray
    decode: Decoder
    expected: Sequence[str] | None = None


def decode(data: bytes, where: str) -> Picture:
    """Decode a picture to uint8 RGB [S, S, 3], converted, scaled and centre-cropped if necessary.

    Thread-safe. The EXIF orientation is applied. Raises InputError, starting with `where`, on anything but a JPEG,
    PNG, BMP or TIFF file of allowed size.
    """
    with open_picture(data, where) as image:
        stored, several_pages = stored_as(image), getattr(image, "is_animated", False)
        turned = upright(image)
        depth = depth_of(turned, stored)
        changes = changes_of(turned, several_pages, turned is not image)
        return Picture(np.asarray(_square(to_rgb(turned))), changes, depth)


def upright(image: Image.Image) -> Image.Image:
    """The picture with its EXIF orientation applied; unchanged if that is missing or damaged."""
    turn = orientation_of(image)
    return image if turn is None else image.transpose(turn)


def orientation_of(image: Image.Image) -> Image.Transpose | None:
    """Decode the picture and return the transpose that its EXIF orientation asks for, None if there is none."""
    # load() lets Pillow apply a TIFF's orientation itself
    image.load()
    try:
        return TRANSPOSES.get(image.getexif().get(ORIENTATION, 1))
    except (*UNREADABLE, AttributeError):
        return None


def changes_of(image: Image.Image, several_pages: bool, turned: bool) -> tuple[str, ...]:
    """The conversions that `decode` makes, as text."""
    changes = []
    if several_pages:
        changes.append("with several pages, the first one kept")
    if turned:
        changes.append("turned as their EXIF orientation says")
    if image.mode != "RGB":
        changes.append(f"in mode {image.mode}, converted to RGB")
    if image.size != (PICTURE_PX, PICTURE_PX):
        changes.append(f"not {PICTURE_PX}x{PICTURE_PX} pixels, scaled and centre-cropped")
    return tuple(changes)


@contextmanager
def open_picture(data: bytes, where: str) -> Iterator[Image.Image]:
    """Open a picture of allowed size without decoding it; errors during the block become InputError."""
    if not data:
        raise InputError(f"{where}: truncated or unreadable picture (empty file); replace or remove it")
    if data.startswith(b"\xff\xd8") and (scans := data.count(b"\xff\xda")) > MAX_SCANS:
        raise InputError(f"{where}: a JPEG file of {scans} scans; expected {MAX_SCANS} at most: save it again")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.size, where)
            yield image
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{where}: {str(error).split(',')[0]}; {LIMITS}") from error
    except UnidentifiedImageError as error:
        reason = f"not {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise InputError(f"{where}: truncated or unreadable picture ({reason}); replace or remove it") from error
    except BadDepth as error:
        raise InputError(f"{where}: {error}; convert it to 8 bits") from error
    except UNREADABLE as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"{where}: truncated or unreadable picture ({reason}); replace or remove it") from error


def _check_size(size: tuple[int, int], where: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS or min(size) < MIN_SIDE_PX:
        raise InputError(f"{where}: {width} x {height} pixels; {LIMITS}")


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture in RGB; 16 bits are reduced to the high byte. `depth_of` must have accepted its depth."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("P", "PA", "LA"):
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _square(image: Image.Image) -> Image.Image:
    """The central square scaled to PICTURE_PX."""
    if image.size == (PICTURE_PX, PICTURE_PX):
        return image
    # Crop before scaling: scaling a whole picture of 16 x 1,000,000 pixels would take gigabytes.
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((PICTURE_PX, PICTURE_PX), Image.Resampling.BICUBIC, box=box)


def cache_dir() -> Path:
    """The folder for decoded pictures: $LYMPHTUNE_CACHE, or lymphtune in the user's cache folder."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "lymphtune"


def decode_cached(
    sources: Sequence[PictureSource], folder: Path, decode: Decoder = decode, bags: Sequence[int] | None = None
) -> tuple[np.ndarray, list[str], list[str]]:
    """All pictures [C, S, S, 3], memory-mapped read-only from the cache in `folder`, their digests, and notes.

    A digest is the SHA-256 of a picture's encoded file; notes describe conversions. Pictures are decoded only if the
    cache has no valid file for exactly these digests in this order. bags: number of pictures of each patient; None if
    each source is one patient.
    """
    digests_of_sources = _parallel(_digests, sources, sources, "Reading pictures")
    digests = [digest for some in digests_of_sources for digest in some]
    target = folder / f"pictures-{_key(digests)}.npy"
    notes = _cached_notes(target) if _is_valid_cache(target, len(digests)) else None
    if notes is None:
        notes = _write_cache(sources, digests_of_sources, target, decode, bags)
    return np.load(target, mmap_mode="r", allow_pickle=False), digests, notes


def decode_in_memory(sources: Sequence[PictureSource], decode: Decoder) -> tuple[np.ndarray, list[DecodedSource]]:
    """Decode all pictures [C, S, S, 3] in memory, read-only, without the cache; also the results of each source."""
    starts = np.cumsum([0, *map(len, sources)])
    pixels_CSS3 = np.empty((starts[-1], PICTURE_PX, PICTURE_PX, 3), np.uint8)
    jobs = [
        _Job(source, pixels_CSS3[start : start + len(source)], decode)
        for source, start in zip(sources, starts, strict=False)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        read = list(pool.map(_decode_source, jobs))
    pixels_CSS3.flags.writeable = False
    return pixels_CSS3, read


def digests_of(sources: Sequence[PictureSource]) -> list[str]:
    """The digest of every picture, in order; nothing is decoded."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [digest for some in pool.map(_digests, sources) for digest in some]


def notes_of(read: Sequence[DecodedSource]) -> list[str]:
    """Notes on how many pictures were converted, and how."""
    n_pictures = sum(len(source.digests) for source in read)
    changes = sum((source.changes for source in read), Counter[str]())
    return [f"{count} of {n_pictures} pictures {change}" for change, count in sorted(changes.items())]


def check_depths(read: Sequence[DecodedSource], bags: Sequence[int] | None = None) -> None:
    """Raise InputError if a patient has pictures of more than 8 bits and none of them uses the range.

    bags: number of pictures of each patient, in order; None if each source is one patient.
    """
    every = iter([depth for source in read for depth in source.depths])
    for count in bags if bags is not None else [len(source.depths) for source in read]:
        check_bag_depth([depth for depth in islice(every, count) if depth is not None])


def check_bag_depth(deep: Sequence[tuple[str, Depth]]) -> None:
    """Raise InputError if none of a patient's deep pictures (location, depth) uses its range."""
    if most := underused(depth for _, depth in deep):
        where = next(where for where, depth in deep if depth == most)
        raise InputError(
            f"{where}: {most}, the largest of this patient's {len(deep)} of more than 8 bits: they would be nearly "
            f"black after conversion; {CURE}"
        )


def _parallel(
    work: Callable[[Job], Result], jobs: Sequence[Job], sources: Sequence[PictureSource], label: str
) -> list[Result]:
    results = []
    with (
        console.bar(label, sum(map(len, sources))) as progress,
        # threads suffice: hashing and decoding release the GIL
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for source, result in zip(sources, pool.map(work, jobs), strict=True):
            results.append(result)
            progress.advance(len(source))
    return results


def read_encoded(path: Path) -> bytes:
    """The file's bytes; raises InputError if it cannot be read or is too large for a picture."""
    try:
        with path.open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size > MAX_ENCODED_BYTES:
                raise InputError(f"{path}: over {console.size(MAX_ENCODED_BYTES)}; replace or remove it")
            return file.readall()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _digests(source: PictureSource) -> list[str]:
    return [hashlib.sha256(data).hexdigest() for _, _, data in source.read()]


def _key(digests: Sequence[str]) -> str:
    text = "\n".join([str(CACHE_FORMAT), str(PICTURE_PX), *digests])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _layout(n_pictures: int) -> tuple[bytes, int]:
    """The .npy header for this number of pictures, and the size of the whole file in bytes."""
    shape = (n_pictures, PICTURE_PX, PICTURE_PX, 3)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue(), len(header.getvalue()) + int(np.prod(shape, dtype=np.int64))


def _is_valid_cache(target: Path, n_pictures: int) -> bool:
    header, n_bytes = _layout(n_pictures)
    try:
        with target.open("rb") as file:
            return file.read(len(header)) == header and os.fstat(file.fileno()).st_size == n_bytes
    except OSError:
        return False


def _cached_notes(target: Path) -> list[str] | None:
    try:
        notes = json.loads(target.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return notes if isinstance(notes, list) and all(isinstance(note, str) for note in notes) else None


def _write_cache(
    sources: Sequence[PictureSource],
    digests_of_sources: Sequence[list[str]],
    target: Path,
    decode: Decoder,
    bags: Sequence[int] | None,
) -> list[str]:
    """Decode every picture into a new cache file; return the notes."""
    n_pictures = sum(map(len, digests_of_sources))
    header, n_bytes = _layout(n_pictures)
    _check_room(target.parent, n_bytes)
    with atomic_file(target) as scratch:
        with scratch.open("wb") as file:
            file.write(header)
            _reserve(file, n_bytes, target.parent)
        pixels_CSS3 = np.load(scratch, mmap_mode="r+", allow_pickle=False)
        starts = np.cumsum([0, *map(len, digests_of_sources)])
        jobs = [
            _Job(source, pixels_CSS3[start : start + len(digests)], decode, digests)
            for source, digests, start in zip(sources, digests_of_sources, starts, strict=False)
        ]
        read = _parallel(_decode_source, jobs, sources, "Decoding pictures")
        check_depths(read, bags)
        notes = notes_of(read)
        pixels_CSS3.flush()
        write_json(target.with_suffix(".json"), notes)
    return notes


def _decode_source(job: _Job) -> DecodedSource:
    """Decode one source into its array; raises InputError if its pictures changed since they were hashed."""
    read = DecodedSource([], [], Counter(), [])
    for pixels_SS3, (where, name, data) in zip(job.pixels_NSS3, job.source.read(), strict=True):
        read.digests.append(hashlib.sha256(data).hexdigest())
        if job.expected is not None and read.digests[-1] != job.expected[len(read.digests) - 1]:
            raise InputError(f"{where}: changed while it was read; start again")
        picture = job.decode(data, where)
        pixels_SS3[:] = picture.pixels_SS3
        read.names.append(name)
        read.changes.update(picture.changes)
        read.depths.append(None if picture.depth is None else (where, picture.depth))
    return read


def _check_room(folder: Path, n_bytes: int) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unwritable(folder, PermissionError(errno.EACCES, "no permission"))
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise InputError(
            f"{folder}: the decoded pictures need {console.size(n_bytes)}, {console.size(free)} are free; "
            f"make room or set {CACHE_VARIABLE} to a folder with more"
        )


def _reserve(file: BinaryIO, n_bytes: int, folder: Path) -> None:
    """Reserve the disk space: writing to a mapped file on a full disk would kill the process."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, n_bytes)
    except OSError as error:
        # these two mean that the file system does not support it
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise _unwritable(folder, error) from error
    file.truncate(n_bytes)


def _unwritable(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"{folder}: the cache folder cannot be written ({error.strerror}); set {CACHE_VARIABLE} to a folder that can"
    )
