"""Bit depth: find pictures of more than 8 bits that use so little of the range that conversion makes them black.

Pictures of 16 bits are reduced to their high byte. With a 12-bit camera that byte is at most 15 of 255, and the picture
is nearly black. A single picture may just be dark, so all pictures of a patient are checked together.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image

# bits of the brightest value of a patient's pictures; cameras give 10, 12, 14 or 16
MIN_BITS = 15
CURE = "convert them to 8 bits, from the lowest to the highest value of the camera"


class BadDepth(ValueError):
    """Grey levels that do not fit 16 bits."""


class Depth(NamedTuple):
    """Range of a picture of more than 8 bits; kind: such as `16-bit grey`; largest: value, a bound if not exact."""

    kind: str
    largest: int
    exact: bool = True

    @property
    def bits(self) -> int:
        return self.largest.bit_length()

    def __str__(self) -> str:
        range_text = f"whose largest value is {self.largest}" if self.exact else f"without a value over {self.largest}"
        return f"{self.kind} {range_text} ({self.bits} bits)"


def stored_as(image: Image.Image) -> str:
    """Pillow's name for the file's pixel format, such as `RGB;16B`; call it before the picture is decoded."""
    tile = image.tile[0] if image.tile else None  # type: ignore[attr-defined]
    given = tile[3] if tile else ""
    return str(given[0] if isinstance(given, tuple) and given else given)


def depth_of(image: Image.Image, stored: str) -> Depth | None:
    """The depth of a decoded picture, None if it has 8 bits or fewer; raises BadDepth beyond 16 bits."""
    if image.mode == "F":
        raise BadDepth("floating-point grey levels")
    found = re.search(r";(12|16|32)", stored)
    bits = found[1] if found else "16"
    if image.mode.startswith("I"):
        grey = np.asarray(image)
        low, high = int(grey.min()), int(grey.max())
        kind = "32-bit integer grey" if bits == "32" else f"{bits}-bit grey"
        if low < 0 or high > 0xFFFF:
            raise BadDepth(f"{kind} from {low} to {high}, beyond 16 bits")
        return Depth(kind, high)
    if not found or stored.startswith("BGR") or image.mode not in ("RGB", "RGBA", "LA"):
        return None
    # Pillow keeps only the high byte of each colour, so the low byte is unknown
    colours = image.getextrema()[: 1 if image.mode == "LA" else 3]
    high_byte = max(int(high) for _, high in colours)  # type: ignore[misc]
    return Depth("16-bit grey" if image.mode == "LA" else "16-bit colour", high_byte << 8 | 0xFF, exact=False)


def underused(depths: Iterable[Depth | None]) -> Depth | None:
    """The largest depth of a patient's pictures if none of them uses the range of 16 bits, else None.

    Pictures of 8 bits and black ones are ignored.
    """
    known = [depth for depth in depths if depth is not None and depth.largest]
    most = max(known, key=lambda depth: depth.largest, default=None)
    return most if most is not None and most.bits < MIN_BITS else None
