"""One simulated picture of a stained blood smear: red cells around one lymphocyte.

Shapes: S side of the picture, H x W a window of it, A angles of an outline, F waves round an outline.
Pixels are computed in float32 with + - * / and sqrt only, everything else in float64, so that every machine draws the
same bytes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache

import numpy as np
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from lymphtune.cohort.cohort import PICTURE_PX

# largest radius of the centre cell's outlines
REACH_PX = 51
# largest offset of the cell's middle from the picture's
JITTER_PX = 3
# largest overlap of a red cell with the centre cell
CLEAR_PX = 6
# radius of a red cell of 7.5 micrometres
RED_CELL_PX = 22.0
# sides of the repeating textures, from which pictures take random windows
ATLAS_PX, BLOCKS_PX = 512, 256

_ANGLES = 2048
_WAVES = 24
# half side of the polar grid, which must reach from a red cell across the centre cell
_HALF = 224

Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Morphology:
    """Appearance of one lymphocyte; lengths in pixels (6 per micrometre), other values from 0 to 1."""

    nucleus_px: float  # radius
    cytoplasm_px: float  # width of the rim round the nucleus
    basophilia: float = 0.3  # blueness of the cytoplasm
    density: float = 0.6  # darkness of the chromatin
    clumping: float = 0.4  # blocks of chromatin with pale lines between
    clump_px: float = 8.0
    coarseness: float = 0.35  # irregular light and dark in the chromatin
    nucleoli: float = 0.0  # prominence
    eccentricity: float = 0.3  # displacement of the nucleus to one side
    oval: float = 0.08
    irregularity: float = 0.02  # waviness of the nucleus
    notch: float = 0.0  # depth of a cleft in the nucleus, in radii
    notch_width: float = 0.25  # radians
    raggedness: float = 0.03  # waviness of the cytoplasm
    hairs: float = 0.0  # thin projections of the cytoplasm
    skirting: float = 0.0  # dents of the cytoplasm at red cells, with a darker border
    granules: float = 0.0  # azurophil granules
    smear: float = 0.0  # a burst nucleus: blurred, streaked, without cytoplasm


# Variation between cells of one type: the standard deviation of each attribute.
SPREAD = Morphology(
    nucleus_px=1.9,
    cytoplasm_px=1.8,
    basophilia=0.11,
    density=0.08,
    clumping=0.15,
    clump_px=0.8,
    coarseness=0.10,
    nucleoli=0.10,
    eccentricity=0.18,
    oval=0.04,
    irregularity=0.010,
    notch=0.07,
    notch_width=0.05,
    raggedness=0.014,
    hairs=0.06,
    skirting=0.10,
    granules=0.07,
    smear=0.0,
)

SMALL = Morphology(nucleus_px=20.0, cytoplasm_px=6.0, basophilia=0.28, density=0.78, clumping=0.28)
REACTIVE = Morphology(
    nucleus_px=27.0,
    cytoplasm_px=17.0,
    basophilia=0.72,
    density=0.45,
    clumping=0.12,
    coarseness=0.50,
    nucleoli=0.18,
    eccentricity=0.55,
    oval=0.16,
    irregularity=0.050,
    notch=0.18,
    notch_width=0.55,
    raggedness=0.075,
    skirting=0.85,
)
LARGE_GRANULAR = Morphology(
    nucleus_px=22.5,
    cytoplasm_px=15.5,
    basophilia=0.10,
    density=0.66,
    clumping=0.25,
    eccentricity=0.6,
    oval=0.13,
    irregularity=0.025,
    notch=0.08,
    notch_width=0.5,
    raggedness=0.045,
    skirting=0.20,
    granules=0.75,
)
CHRONIC = Morphology(
    nucleus_px=23.5,
    cytoplasm_px=3.2,
    basophilia=0.25,
    density=0.68,
    clumping=0.95,
    clump_px=9.0,
    coarseness=0.20,
    eccentricity=0.5,
)
PROLYMPHOCYTE = Morphology(
    nucleus_px=28.5,
    cytoplasm_px=8.0,
    basophilia=0.40,
    density=0.58,
    clumping=0.45,
    clump_px=8.0,
    nucleoli=0.95,
    eccentricity=0.35,
)
VILLOUS = Morphology(
    nucleus_px=23.0,
    cytoplasm_px=10.5,
    basophilia=0.20,
    density=0.52,
    clumping=0.15,
    coarseness=0.28,
    oval=0.15,
    irregularity=0.020,
    notch=0.12,
    notch_width=0.5,
    raggedness=0.05,
    hairs=0.85,
)
CLEAVED = Morphology(
    nucleus_px=26.0,
    cytoplasm_px=4.5,
    basophilia=0.25,
    density=0.62,
    clumping=0.30,
    oval=0.12,
    irregularity=0.045,
    notch=0.62,
    notch_width=0.17,
)
SMUDGE = Morphology(
    nucleus_px=36.0,
    cytoplasm_px=0.0,
    density=0.22,
    clumping=0.0,
    coarseness=0.45,
    oval=0.26,
    irregularity=0.12,
    smear=1.0,
)

CELL_TYPES = {
    "small": SMALL,
    "reactive": REACTIVE,
    "large granular": LARGE_GRANULAR,
    "chronic lymphocytic": CHRONIC,
    "prolymphocyte": PROLYMPHOCYTE,
    "villous": VILLOUS,
    "cleaved": CLEAVED,
    "smudge": SMUDGE,
}


@dataclass(frozen=True, kw_only=True)
class Stain:
    """Stain, spread and light of one patient's smear; colours are transmitted shares of white light."""

    ground: Colour
    red_cell: Colour
    chromatin_pale: Colour
    chromatin_dark: Colour
    cytoplasm_pale: Colour
    cytoplasm_blue: Colour
    crowding: float  # number of attempts to place a red cell
    spacing: float  # minimum distance between two red cells, in diameters
    pallor: float  # paleness of a red cell's centre
    blur_px: float
    scale: float  # relative size of cells, which depends on the thickness of the smear


def draw_stain(rng: np.random.Generator) -> Stain:
    """Sample the stain of one patient, independent of the disease."""
    # shift of all dyes towards pink or blue
    tilt = rng.normal(0, 1)
    light = rng.normal(0.985, 0.035)

    def colour(red: float, green: float, blue: float, spread: float = 0.015, lean: float = 0.03) -> Colour:
        dye = (red + lean * tilt, green - 0.2 * lean * tilt, blue - lean * tilt)
        r, g, b = (min(1.02, max(0.05, light * value + rng.normal(0, spread))) for value in dye)
        return r, g, b

    return Stain(
        ground=colour(0.935, 0.915, 0.885, lean=0.012),
        red_cell=colour(0.770, 0.665, 0.675, 0.02),
        chromatin_pale=colour(0.66, 0.50, 0.82),
        chromatin_dark=colour(0.32, 0.17, 0.53, lean=0.04),
        cytoplasm_pale=colour(0.80, 0.80, 0.895),
        cytoplasm_blue=colour(0.47, 0.53, 0.78),
        crowding=rng.uniform(12, 44),
        spacing=rng.uniform(0.72, 1.05),
        pallor=rng.uniform(0.40, 1.0),
        blur_px=rng.uniform(0.55, 1.15),
        scale=rng.normal(1, 0.035),
    )


def vary(kind: Morphology, rng: np.random.Generator, spread: float = 1.0) -> Morphology:
    """Sample one cell of the type; `spread` scales the standard deviations."""
    values = {}
    for attribute in fields(Morphology):
        value = getattr(kind, attribute.name) + spread * getattr(SPREAD, attribute.name) * rng.normal()
        values[attribute.name] = max(0.0, value)
    return replace(kind, **values)


Point = tuple[int, int]
Span = tuple[slice, slice]


@dataclass(frozen=True)
class _Cell:
    """The centre cell of one picture; outlines [A] are radii in pixels by angle."""

    look: Morphology
    middle: Point
    body: np.ndarray  # outline [A], radius in pixels by angle
    nucleus_middle: Point
    nucleus: np.ndarray  # outline [A]


@dataclass(frozen=True)
class _Disc:
    """A red cell: its centre, its outline, its radius."""

    middle: Point
    outline: np.ndarray  # [A], radius in pixels by angle
    radius_px: float


class _Canvas:
    """A picture while it is painted, as transmitted shares of light from 0 to 1."""

    def __init__(self, stain: Stain, rng: np.random.Generator) -> None:
        self.stain, self.rng = stain, rng
        # the lamp is slightly off-centre
        slope_y, slope_x = rng.normal(0, 0.018, size=2)
        ramp_S = np.linspace(-1, 1, PICTURE_PX, dtype=np.float32)
        light_SS = 1 + np.float32(slope_y) * ramp_S[:, None] + np.float32(slope_x) * ramp_S
        light_SS += np.float32(0.010) * self.texture("cloud", light_SS.shape)
        light_SS += np.float32(0.006) * self.texture("grain", light_SS.shape)
        self.light_3SS = np.asarray(stain.ground, np.float32)[:, None, None] * light_SS

    def texture(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A random window [H, W] of a repeating texture with mean 0 and standard deviation 1."""
        atlas = _atlas(name)
        top, left = (int(self.rng.integers(0, len(atlas) - side + 1)) for side in shape)
        return atlas[top : top + shape[0], left : left + shape[1]]

    def cover(self, span: Span, opacity_HW: np.ndarray, colours: Sequence[np.ndarray | float]) -> None:
        """Blend a colour over the picture."""
        for plane_SS, colour in zip(self.light_3SS, colours, strict=True):
            below_HW = plane_SS[span]
            below_HW += opacity_HW * (colour - below_HW)

    def dim(self, span: Span, thickness_HW: np.ndarray, colour: Colour) -> None:
        """Multiply the light by a layer of the colour; thickness 1 is its full strength."""
        for plane_SS, share in zip(self.light_3SS, colour, strict=True):
            plane_SS[span] *= 1 - thickness_HW * np.float32(1 - share)

    def photograph(self) -> np.ndarray:
        """The picture [S, S, 3] with the blur and noise of a camera."""
        bytes_SS3 = (self.light_3SS.clip(0, 1) * np.float32(255)).astype(np.uint8).transpose(1, 2, 0)
        blur = ImageFilter.GaussianBlur(self.stain.blur_px * self.rng.uniform(0.8, 1.3))
        seen_SS3 = np.asarray(Image.fromarray(np.ascontiguousarray(bytes_SS3)).filter(blur), np.float32)
        noise_SS = np.float32(1.3) * self.texture("white", seen_SS3.shape[:2])
        noisy_SS3 = seen_SS3 + noise_SS[:, :, None]
        return noisy_SS3.clip(0, 255).astype(np.uint8)


def draw_picture(look: Morphology, stain: Stain, rng: np.random.Generator) -> np.ndarray:
    """Draw a picture [S, S, 3] in uint8 RGB with the cell within its central 112 pixels."""
    canvas = _Canvas(stain, rng)
    cell = _place_cell(look, stain.scale, rng)
    discs = _place_red_cells(cell, stain, rng)
    for disc in discs:
        _paint_red_cell(canvas, disc)
    _paint_platelets(canvas, cell)
    if look.smear < 0.5:
        _paint_cytoplasm(canvas, cell, discs)
        _paint_granules(canvas, cell)
    _paint_nucleus(canvas, cell)
    return canvas.photograph()


def _place_cell(look: Morphology, scale: float, rng: np.random.Generator) -> _Cell:
    """Place the cell near the middle of the picture with outlines within REACH_PX."""
    middle = tuple(int(PICTURE_PX // 2 + step) for step in rng.integers(-JITTER_PX, JITTER_PX + 1, size=2))
    direction, leaning = rng.uniform(0, 2 * math.pi, size=2)
    round_A = (
        1
        + min(look.oval, 0.3) * _COS_FA[1] * math.cos(2 * leaning)
        + (min(look.oval, 0.3) * _SIN_FA[1] * math.sin(2 * leaning))
    )
    push = min(look.eccentricity, 1.0) * min(look.cytoplasm_px, 14) * scale
    shift = (round(push * math.sin(direction)), round(push * math.cos(direction)))
    nucleus_A = look.nucleus_px * scale * (round_A + _waves(rng, 3, 9, look.irregularity))
    nucleus_A *= 1 - min(look.notch, 0.8) * _bump(rng, max(look.notch_width, 0.1))
    body_A = (look.nucleus_px + look.cytoplasm_px) * scale * ((1 + round_A) / 2 + _waves(rng, 2, 7, look.raggedness))
    body_A += look.hairs * _hairs(rng)
    return _Cell(
        look,
        (middle[0], middle[1]),
        _within(body_A, REACH_PX),
        (middle[0] + shift[0], middle[1] + shift[1]),
        _within(nucleus_A, REACH_PX - math.hypot(*shift)),
    )


def _place_red_cells(cell: _Cell, stain: Stain, rng: np.random.Generator) -> list[_Disc]:
    """Place red cells that do not overlap each other or the centre cell; some are cut by the border."""
    body = float(cell.body.mean())
    tries = [(float(y), float(x)) for y, x in rng.uniform(-18, PICTURE_PX + 18, size=(round(stain.crowding), 2))]
    if cell.look.skirting > 0.3:
        # neighbours that the cytoplasm flows round
        away = body + RED_CELL_PX - CLEAR_PX
        angles = rng.uniform(0, 2 * math.pi) + np.array([0.0, 1.9, 3.9]) + rng.normal(0, 0.3, size=3)
        tries = [(cell.middle[0] + away * math.sin(a), cell.middle[1] + away * math.cos(a)) for a in angles] + tries
    discs: list[_Disc] = []
    for y, x in tries:
        radius = RED_CELL_PX * stain.scale * rng.uniform(0.9, 1.1)
        near_cell = math.hypot(y - cell.middle[0], x - cell.middle[1]) < body + radius - CLEAR_PX - 0.5
        gap = 2 * RED_CELL_PX * stain.spacing
        near_disc = any(math.hypot(y - disc.middle[0], x - disc.middle[1]) < gap for disc in discs)
        if not near_cell and not near_disc:
            outline_A = radius * (1 + _waves(rng, 2, 2, 0.035) + _waves(rng, 3, 6, 0.012))
            discs.append(_Disc((round(y), round(x)), outline_A.astype(np.float32), radius))
    return discs


def _paint_red_cell(canvas: _Canvas, disc: _Disc) -> None:
    """A biconcave disc: the light dims with its thickness (Evans and Fung 1972), pale in the middle."""
    span = _span(disc.middle, disc.radius_px * 1.4)
    distance_HW, angle_HW = _polar(span, disc.middle)
    outline_HW = disc.outline[angle_HW]
    square_HW = np.minimum(1, distance_HW / outline_HW) ** 2
    hollow = np.float32(canvas.stain.pallor * canvas.rng.uniform(0.7, 1.15))
    rise_HW = square_HW * (np.float32(1.9) - square_HW)
    thickness_HW = 1 - hollow * (1 - np.minimum(1, rise_HW * np.float32(1.25)))
    thickness_HW *= _edge(outline_HW - distance_HW, 2.0) * np.float32(canvas.rng.uniform(0.8, 1.05))
    canvas.dim(span, thickness_HW, canvas.stain.red_cell)


def _paint_platelets(canvas: _Canvas, cell: _Cell) -> None:
    """A few small purple specks away from the centre cell."""
    rng = canvas.rng
    for _ in range(rng.poisson(0.8)):
        middle = (int(rng.integers(0, PICTURE_PX)), int(rng.integers(0, PICTURE_PX)))
        if math.dist(middle, cell.middle) < REACH_PX + 18:
            continue
        outline_A = (rng.uniform(4, 7) * (1 + _waves(rng, 2, 6, 0.12))).astype(np.float32)
        span = _span(middle, 12)
        distance_HW, angle_HW = _polar(span, middle)
        speckle_HW = np.float32(0.55) + np.float32(0.16) * canvas.texture("chromatin", distance_HW.shape)
        canvas.cover(span, _edge(outline_A[angle_HW] - distance_HW, 3.0) * speckle_HW, canvas.stain.chromatin_pale)


def _paint_cytoplasm(canvas: _Canvas, cell: _Cell, discs: Sequence[_Disc]) -> None:
    """Blue where it is basophil, darker at a skirting border, paler beside the nucleus."""
    look, stain = cell.look, canvas.stain
    span = _span(cell.middle, REACH_PX + 3)
    distance_HW, angle_HW = _polar(span, cell.middle)
    depth_HW = cell.body[angle_HW] - distance_HW
    if look.skirting > 0.3:
        for disc in discs:
            if math.dist(disc.middle, cell.middle) < REACH_PX + disc.radius_px:
                away_HW, turn_HW = _polar(span, disc.middle)
                depth_HW = np.minimum(depth_HW, away_HW - disc.outline[turn_HW])
    beside_HW, turn_HW = _polar(span, cell.nucleus_middle)
    halo_HW = 1 - np.abs(beside_HW - cell.nucleus[turn_HW] - 3).clip(0, 6) / np.float32(6)
    blue_HW = np.float32(look.basophilia) - np.float32(0.3 * look.basophilia) * halo_HW
    blue_HW += np.float32(0.38 * look.skirting) * (1 - depth_HW.clip(0, 9) / np.float32(9))
    blue_HW += np.float32(0.07) * canvas.texture("cytoplasm", depth_HW.shape)
    blue_HW = blue_HW.clip(0, 1)
    opacity_HW = _edge(depth_HW, 2.0 + 2.0 * min(look.hairs, 1)) * (np.float32(0.72) + np.float32(0.25) * blue_HW)
    canvas.cover(span, opacity_HW, _between(stain.cytoplasm_pale, stain.cytoplasm_blue, blue_HW))


def _paint_granules(canvas: _Canvas, cell: _Cell) -> None:
    """Azurophil granules: red-purple dots between nucleus and border."""
    rng = canvas.rng
    for _ in range(rng.poisson(34 * max(0.0, cell.look.granules - 0.15))):
        direction = rng.uniform(0, 2 * math.pi)
        border = float(cell.body[int(direction / (2 * math.pi) * _ANGLES) % _ANGLES])
        away = border * rng.uniform(0.45, 0.9)
        middle = tuple(
            round(m + away * t) for m, t in zip(cell.middle, (math.sin(direction), math.cos(direction)), strict=True)
        )
        span = _span((middle[0], middle[1]), 4)
        distance_HW, _ = _polar(span, (middle[0], middle[1]))
        spot_HW = _edge(np.float32(rng.uniform(0.9, 1.7)) - distance_HW, 1.5) * np.float32(rng.uniform(0.5, 0.9))
        canvas.cover(span, spot_HW, (0.62, 0.26, 0.52))


def _paint_nucleus(canvas: _Canvas, cell: _Cell) -> None:
    """Chromatin in blocks or smooth, darker at its membrane; nucleoli show through it."""
    look, stain = cell.look, canvas.stain
    span = _span(cell.nucleus_middle, REACH_PX + 6)
    distance_HW, angle_HW = _polar(span, cell.nucleus_middle)
    depth_HW = cell.nucleus[angle_HW] - distance_HW
    dark_HW = np.float32(look.density) + np.float32(0.30 * look.coarseness) * canvas.texture(
        "chromatin", depth_HW.shape
    )
    dark_HW += np.float32(0.05) * canvas.texture("grain", depth_HW.shape)
    dark_HW += np.float32(0.22 * look.clumping) * canvas.texture(_blocks(look.clump_px), depth_HW.shape)
    dark_HW += np.float32(0.22) * (1 - depth_HW.clip(0, 4) / np.float32(4)) * np.float32(1 - look.smear)
    opacity_HW = _edge(depth_HW, 2.0 + 13.0 * look.smear)
    if look.smear >= 0.5:
        opacity_HW *= (np.float32(0.62) + np.float32(0.14) * canvas.texture("strands", depth_HW.shape)).clip(0, 1)
    canvas.cover(span, opacity_HW, _between(stain.chromatin_pale, stain.chromatin_dark, dark_HW.clip(0, 1)))
    for middle, radius in _place_nucleoli(cell, canvas.rng):
        _paint_nucleolus(canvas, middle, radius, min(1.0, look.nucleoli))


def _place_nucleoli(cell: _Cell, rng: np.random.Generator) -> list[tuple[Point, float]]:
    """Place one large nucleolus if nucleoli are prominent, else up to three small ones."""
    strength = cell.look.nucleoli
    if strength < 0.12:
        return []
    spots = []
    for _ in range(1 if strength > 0.5 else int(rng.integers(1, 4))):
        direction = rng.uniform(0, 2 * math.pi)
        away = cell.look.nucleus_px * rng.uniform(0.0, 0.42)
        y, x = cell.nucleus_middle
        middle = (round(y + away * math.sin(direction)), round(x + away * math.cos(direction)))
        spots.append((middle, rng.uniform(3.0, 4.0) + 3.2 * min(1.0, strength)))
    return spots


def _paint_nucleolus(canvas: _Canvas, middle: Point, radius_px: float, strength: float) -> None:
    """A pale blue spot within a ring of dense chromatin."""
    span = _span(middle, radius_px + 6)
    distance_HW, _ = _polar(span, middle)
    ring_HW = 1 - np.abs(distance_HW - np.float32(radius_px + 1)).clip(0, 3) / np.float32(3)
    canvas.cover(span, ring_HW * np.float32(0.55 * strength), canvas.stain.chromatin_dark)
    spot = [0.5 * (a + b) for a, b in zip(canvas.stain.chromatin_pale, canvas.stain.cytoplasm_blue, strict=True)]
    canvas.cover(span, _edge(np.float32(radius_px) - distance_HW, 3.0) * np.float32(0.7 * strength), spot)


def _edge(depth_HW: np.ndarray, softness_px: float) -> np.ndarray:
    """Opacity from 0 outside to 1 inside, over a border of the given width."""
    return (depth_HW * np.float32(1 / softness_px) + np.float32(0.5)).clip(0, 1)


def _between(first: Colour, second: Colour, share_HW: np.ndarray) -> list[np.ndarray]:
    return [np.float32(a) + np.float32(b - a) * share_HW for a, b in zip(first, second, strict=True)]


def _within(outline_A: np.ndarray, reach_px: float) -> np.ndarray:
    """The outline with radii beyond four fifths of `reach_px` compressed so that none exceeds it."""
    bend = 0.8 * reach_px
    beyond_A = np.maximum(0, outline_A - bend)
    bent_A = np.minimum(outline_A, bend) + beyond_A / (1 + beyond_A / (reach_px - bend))
    return np.maximum(1, bent_A).astype(np.float32)


def _waves(rng: np.random.Generator, lowest: int, highest: int, amplitude: float) -> np.ndarray:
    """A smooth random function of the angle [A] with standard deviation of about `amplitude`."""
    n_waves = highest - lowest + 1
    fall_F = 1 / np.sqrt(np.arange(1, n_waves + 1))
    weights_2F = rng.normal(0, amplitude, size=(2, n_waves)) * fall_F / math.sqrt((fall_F**2).sum())
    return weights_2F[0] @ _COS_FA[lowest - 1 : highest] + weights_2F[1] @ _SIN_FA[lowest - 1 : highest]


def _bump(rng: np.random.Generator, width: float) -> np.ndarray:
    """A bell curve [A] of height 1 around a random angle."""
    turn_A = (np.arange(_ANGLES) + rng.integers(_ANGLES)) % _ANGLES - _ANGLES // 2
    return np.exp(-0.5 * (turn_A * (2 * math.pi / _ANGLES) / width) ** 2)


def _hairs(rng: np.random.Generator) -> np.ndarray:
    """The length [A] of thin projections in pixels, denser in some directions."""
    where_A = (0.75 + 0.6 * _waves(rng, 1, 3, 1.0)).clip(0.15, 1.6)
    return where_A * (4.5 * np.maximum(0, _waves(rng, 11, _WAVES, 1.1) + 0.2) ** 1.4 - 2.0) + _waves(rng, 4, 9, 1.4)


def _span(middle: Point, half_px: float) -> Span:
    """The window of the picture within `half_px` of a point."""
    half = math.ceil(half_px)
    y, x = (slice(max(0, m - half), max(0, min(PICTURE_PX, m + half + 1))) for m in middle)
    return y, x


def _polar(span: Span, middle: Point) -> tuple[np.ndarray, np.ndarray]:
    """The distance [H, W] of each pixel from a point, and its angle as an index into outlines."""
    y, x = (slice(s.start - m + _HALF, s.stop - m + _HALF) for s, m in zip(span, middle, strict=True))
    return _DISTANCE[y, x], _ANGLE[y, x]


def _blocks(size_px: float) -> str:
    return f"blocks {min(12, max(6, round(size_px)))}"


@cache
def _atlas(name: str) -> np.ndarray:
    """A square texture that repeats at its borders, with mean 0 and standard deviation 1."""
    rng = np.random.default_rng(list(name.encode()))
    if name.startswith("blocks"):
        texture = _block_pattern(rng, BLOCKS_PX // int(name.split()[1]))
    else:
        noise = rng.normal(size=(ATLAS_PX, ATLAS_PX))
        texture = sum(share * gaussian_filter(noise, sigma, mode="wrap") * sigma for sigma, share in _GRAINS[name])
    return ((texture - texture.mean()) / texture.std()).astype(np.float32)


def _block_pattern(rng: np.random.Generator, n_side: int) -> np.ndarray:
    """Blocks of chromatin of uneven darkness with pale lines between them: cells of a Voronoi pattern."""
    pitch = BLOCKS_PX / n_side
    corner = np.stack(np.meshgrid(*2 * [np.arange(n_side)], indexing="ij"), axis=-1).reshape(-1, 2)
    seeds = ((corner + rng.uniform(0.08, 0.92, size=corner.shape)) * pitch) % BLOCKS_PX
    pixels = np.stack(np.meshgrid(*2 * [np.arange(BLOCKS_PX)], indexing="ij"), axis=-1)
    warp = [gaussian_filter(rng.normal(size=pixels.shape[:2]), 3.0, mode="wrap") * 17 for _ in range(2)]
    warped = (pixels + np.stack(warp, axis=-1)) % BLOCKS_PX
    distance, nearest = cKDTree(seeds, boxsize=BLOCKS_PX).query(warped, k=2)
    gap = distance[..., 1] - distance[..., 0]
    path_px = rng.uniform(2.2, 6.5, size=len(seeds))[nearest[..., 0]]
    darkness = 0.25 * rng.normal(size=len(seeds))[nearest[..., 0]]
    return gaussian_filter(np.minimum(1, gap / path_px) + darkness, 0.7, mode="wrap")


# standard deviations in pixels and weights of the Gaussians that form each texture
_GRAINS = {
    "white": ((0.3, 1.0),),
    "grain": ((1.0, 1.0),),
    "chromatin": ((1.4, 0.5), (3.2, 1.0)),
    "cytoplasm": ((1.5, 0.5), (4.0, 1.0)),
    "strands": ((2.0, 0.7), (6.0, 1.0)),
    "cloud": ((30.0, 1.0),),
}

_TURN_A = np.arange(_ANGLES) * (2 * math.pi / _ANGLES)
_COS_FA = np.cos(np.outer(np.arange(1, _WAVES + 1), _TURN_A))
_SIN_FA = np.sin(np.outer(np.arange(1, _WAVES + 1), _TURN_A))
_Y, _X = np.meshgrid(*2 * [np.arange(-_HALF, _HALF + 1, dtype=np.float64)], indexing="ij")
_DISTANCE = np.sqrt(_Y**2 + _X**2).astype(np.float32)
_ANGLE = np.floor(np.arctan2(_Y, _X) * (_ANGLES / (2 * math.pi)) + 0.5).astype(np.int32) % _ANGLES
