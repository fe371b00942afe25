"""Remove metadata (camera, date, names, thumbnails) from picture files."""

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from lymphtune.cohort.pictures import decode

# markers of a JPEG file: start of scan, and end of image
SOS, EOI = 0xDA, 0xD9
# segments that define the colour space
JFIF, ADOBE = 0xE0, 0xEE
COMMENT = 0xFE
PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_KEPT = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"pHYs"}


def without_metadata(data: bytes, where: str) -> bytes:
    """The picture's file without metadata; unchanged if it has none.

    JPEG and PNG files keep their encoded pixels. Other formats and irregular files are re-encoded losslessly as PNG.
    Raises InputError if the picture cannot be decoded.
    """
    pixels_SS3 = decode(data, where).pixels_SS3
    if data.startswith(b"BM"):
        # BMP files contain no metadata
        return data
    try:
        if data.startswith(b"\xff\xd8"):
            bare = b"".join(_jpeg_parts(data))
        elif data.startswith(PNG_START):
            bare = PNG_START + b"".join(_png_parts(data))
        else:
            return _encoded(pixels_SS3)
    except (IndexError, ValueError):
        return _encoded(pixels_SS3)
    same = bare == data or np.array_equal(decode(bare, where).pixels_SS3, pixels_SS3)
    return bare if same else _encoded(pixels_SS3)


def _jpeg_parts(data: bytes) -> Iterator[bytes]:
    """Yield the segments that the pixels need, up to the end of the picture; later bytes are dropped."""
    yield data[:2]
    place = 2
    while data[place] == 0xFF:
        marker = data[place + 1]
        if marker == EOI:
            yield data[place : place + 2]
            return
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if end < place + 4 or end > len(data):
            break
        if marker == SOS:
            end = _end_of_scan(data, end)
        if not _is_metadata(marker, data[place + 4 : end]):
            yield data[place:end]
        place = end
    raise ValueError("no JPEG file")


def _end_of_scan(data: bytes, place: int) -> int:
    """Position of the next marker after a scan, in which 0xFF is followed by 0 or a restart number."""
    while data[place] != 0xFF or data[place + 1] == 0 or 0xD0 <= data[place + 1] <= 0xD7:
        place = data.index(b"\xff", place + 1)
    return place


def _is_metadata(marker: int, content: bytes) -> bool:
    if marker == JFIF:
        # a longer segment contains a thumbnail
        return content[:5] != b"JFIF\0" or len(content) != 14
    return marker == COMMENT or (0xE0 <= marker <= 0xEF and marker != ADOBE)


def _png_parts(data: bytes) -> Iterator[bytes]:
    place = len(PNG_START)
    while place < len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        chunk = data[place : place + 12 + length]
        if len(chunk) < 12 + length:
            raise ValueError("no chunk")
        if kind in PNG_KEPT:
            yield chunk
        if kind == b"IEND":
            return
        place += 12 + length
    raise ValueError("no end")


def _encoded(pixels_SS3: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels_SS3).save(out, "png")
    return out.getvalue()
