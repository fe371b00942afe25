"""Cells as small pictures for the page: JPEG data URIs, with or without a saliency map.

Shapes: K side of a picture in the page.
"""

import base64
import io

import numpy as np
from PIL import Image

SIDE_PX = 112  # side of the centre that is shown, which contains the cell
QUALITY = 80
HEAT = np.array([213, 94, 0])  # vermilion, visible on violet and pale red
OPACITY = 0.65  # of the map's colour at its maximum


def centre(picture: np.ndarray) -> np.ndarray:
    """Return the middle SIDE_PX of a picture [S, S, ...], or all of it where it is smaller."""
    side = min(SIDE_PX, picture.shape[0])
    low = (picture.shape[0] - side) // 2
    return picture[low : low + side, low : low + side]


def cell_uri(picture_SS3: np.ndarray) -> str:
    """Return the centre of a cell's picture as a JPEG in a data URI."""
    return _uri(centre(picture_SS3))


def heat_uri(picture_SS3: np.ndarray, heat_SS: np.ndarray) -> str:
    """Return the same in grey, with the saliency map (0 to 1) as an overlay."""
    cell_KK3, heat_KK1 = centre(picture_SS3), centre(heat_SS)[..., None] * OPACITY
    grey_KK3 = np.repeat(cell_KK3.mean(axis=2, keepdims=True), 3, axis=2)
    return _uri((grey_KK3 * (1 - heat_KK1) + HEAT * heat_KK1).round().astype(np.uint8))


def _uri(pixels_KK3: np.ndarray) -> str:
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels_KK3)).save(out, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")
