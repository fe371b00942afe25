"""Picture shifts that imitate another microscope, stain or camera and should not change a prediction.

Shapes: C pictures, S side, 3 colours; D dyes.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

Shift = Callable[[np.ndarray], np.ndarray]

# Optical densities of haematoxylin, eosin and DAB in red, green and blue: Ruifrok and Johnston 2001, table 1.
DYES_D3 = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
UNMIXED_3D = np.linalg.inv(DYES_D3 / np.linalg.norm(DYES_D3, axis=1, keepdims=True))
MIXED_D3 = np.linalg.inv(UNMIXED_3D)
# levels added to red and subtracted from blue
TINT = 12
# a pixel this many levels darker than the palest ones is not background
PALE_LEVELS = 40
# quantile of brightness that represents the palest pixels
PALEST = 0.9
# standard deviation of the Gaussian blur
BLUR_PX = 1.5
# JPEG quality
QUALITY = 30


def tinted(levels: int) -> Shift:
    """A shift that makes the background, but not the cells, warmer by this many levels (cooler if negative)."""

    def shift(pictures_CSS3: np.ndarray) -> np.ndarray:
        given_CSS3 = pictures_CSS3.astype(np.float32)
        light_CSS = given_CSS3.mean(axis=3)
        palest_C = np.quantile(light_CSS.reshape(len(light_CSS), -1), PALEST, axis=1).astype(np.float32)
        pale_CSS = np.clip(1 - (palest_C[:, None, None] - light_CSS) / PALE_LEVELS, 0, 1)
        return _as_levels(given_CSS3 + pale_CSS[..., None] * np.array([levels, 0, -levels], np.float32))

    return shift


def stained(haematoxylin: float, eosin: float) -> Shift:
    """A shift that multiplies the amount of each dye.

    Source: colour deconvolution, Ruifrok and Johnston 2001. Haematoxylin stands in for azure, the dye of blood smears.
    """
    factor_D = np.array([haematoxylin, eosin, 1.0])
    change_33 = (UNMIXED_3D @ np.diag(factor_D) @ MIXED_D3).astype(np.float32)

    def shift(pictures_CSS3: np.ndarray) -> np.ndarray:
        density_CSS3 = -np.log((pictures_CSS3.astype(np.float32) + 1) / 256)
        return _as_levels(256 * np.exp(-(density_CSS3 @ change_33)) - 1)

    return shift


def lit(factor: float) -> Shift:
    """A shift that multiplies the light."""
    return lambda pictures_CSS3: _as_levels(pictures_CSS3.astype(np.float32) * factor)


def blurred(pictures_CSS3: np.ndarray) -> np.ndarray:
    """The pictures slightly out of focus."""
    return _each(pictures_CSS3, lambda picture: picture.filter(ImageFilter.GaussianBlur(BLUR_PX)))


def recompressed(pictures_CSS3: np.ndarray) -> np.ndarray:
    """The pictures after strong JPEG compression."""

    def through_jpeg(picture: Image.Image) -> Image.Image:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=QUALITY)
        return Image.open(file)

    return _each(pictures_CSS3, through_jpeg)


SHIFTS: dict[str, Shift] = {
    "warmer background": tinted(TINT),
    "cooler background": tinted(-TINT),
    "more stain": stained(1.2, 1.2),
    "less stain": stained(0.8, 0.8),
    "bluer stain": stained(1.2, 0.8),
    "redder stain": stained(0.8, 1.2),
    "brighter": lit(1.1),
    "darker": lit(0.9),
    "blurred": blurred,
    "recompressed": recompressed,
}


def _each(pictures_CSS3: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(change(Image.fromarray(picture_SS3))) for picture_SS3 in pictures_CSS3])


def _as_levels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
