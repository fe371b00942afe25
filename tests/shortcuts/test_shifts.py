"""Shifts of light, stain and focus: each does what its name says, and little else."""

import numpy as np
import pytest

from lymphtune.shortcuts.shifts import SHIFTS, TINT, blurred, lit, recompressed, stained, tinted

BACKGROUND, CELL = (235, 220, 228), (110, 70, 160)  # pale and violet, as the stain makes them


@pytest.fixture
def pictures() -> np.ndarray:
    """Return two violet discs on a pale ground."""
    away = np.hypot(*(np.indices((48, 48)) - 24))
    one = np.where((away < 12)[..., None], CELL, BACKGROUND).astype(np.uint8)
    return np.stack([one, np.roll(one, 5, axis=0)])


def means(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean colours of background and cell."""
    return pictures[0, :6].mean(axis=(0, 1)), pictures[0, 20:28, 20:28].mean(axis=(0, 1))


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_changes_pictures_a_little_and_leaves_the_given_ones_alone(name: str, pictures: np.ndarray) -> None:
    before = pictures.copy()
    after = SHIFTS[name](pictures)
    np.testing.assert_array_equal(pictures, before)
    assert after.shape == pictures.shape and after.dtype == np.uint8 and not np.array_equal(after, pictures)
    assert np.abs(after.astype(int) - pictures).mean() < 30
    np.testing.assert_array_equal(SHIFTS[name](pictures[1:]), after[1:])  # a picture is shifted for itself
    np.testing.assert_array_equal(SHIFTS[name](pictures), after)


def test_a_tint_is_of_the_background_alone(pictures: np.ndarray) -> None:
    background, cell = means(tinted(TINT)(pictures))
    np.testing.assert_allclose(background - BACKGROUND, [TINT, 0, -TINT], atol=1)
    np.testing.assert_array_equal(cell, CELL)
    cooler, _ = means(tinted(-TINT)(pictures))
    np.testing.assert_allclose(cooler - BACKGROUND, [-TINT, 0, TINT], atol=1)


def test_a_dark_picture_has_a_background_too(pictures: np.ndarray) -> None:
    background, _ = means(tinted(TINT)(pictures // 2))
    np.testing.assert_allclose(background - np.array(BACKGROUND) // 2, [TINT, 0, -TINT], atol=1)


def test_as_much_stain_as_before_changes_nothing(pictures: np.ndarray) -> None:
    assert np.abs(stained(1, 1)(pictures).astype(int) - pictures).max() <= 1


def test_stain_follows_beer_and_lambert(pictures: np.ndarray) -> None:
    density = -np.log((pictures + 1.0) / 256)
    plain = stained(1.0, 1.0)(pictures)
    both = stained(1.2, 1.2)(pictures).astype(int)
    assert (both <= plain).all() and (both[0, 24, 24] < plain[0, 24, 24] - 5).all()
    blue = np.array([0.65, 0.70, 0.29])
    pure = np.rint(256 * np.exp(-blue) - 1).astype(np.uint8)[None, None, None]
    expected = 256 * np.exp(-1.5 * blue) - 1
    np.testing.assert_allclose(stained(1.5, 0.3)(pure)[0, 0, 0], expected, atol=2)  # one dye alone knows of no other
    assert density.min() > 0


def test_bluer_and_redder_go_opposite_ways(pictures: np.ndarray) -> None:
    _, bluer = means(SHIFTS["bluer stain"](pictures))
    _, redder = means(SHIFTS["redder stain"](pictures))
    assert bluer[0] < CELL[0] < redder[0]
    assert bluer[2] / bluer[0] > CELL[2] / CELL[0] > redder[2] / redder[0]


def test_light_is_a_factor(pictures: np.ndarray) -> None:
    _, cell = means(lit(1.1)(pictures))
    np.testing.assert_allclose(cell, np.array(CELL) * 1.1, atol=0.5)
    assert lit(1.5)(pictures).max() == 255


def test_edges_suffer_from_blur_and_compression(pictures: np.ndarray) -> None:
    step = np.abs(np.diff(pictures.astype(int), axis=1)).max()
    assert np.abs(np.diff(blurred(pictures).astype(int), axis=1)).max() < step / 2
    background, cell = means(blurred(pictures))
    np.testing.assert_allclose(background, BACKGROUND, atol=1)
    np.testing.assert_allclose(cell, CELL, atol=1)
    coarse = recompressed(pictures).astype(int)
    assert 0.2 < np.abs(coarse - pictures).mean() < 10
