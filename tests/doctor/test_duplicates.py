"""Pictures that are alike: every one that was turned, mirrored, scaled or saved anew is found, and no other."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.stats import fisher_exact

from lymphtune.cohort.pictures import decode
from lymphtune.doctor import examine
from lymphtune.doctor.duplicates import _orientation_mean, _orientations, _standardised, similar_pairs
from lymphtune.doctor.inspection import inspect_picture
from lymphtune.doctor.values import fisher
from lymphtune.errors import InputError
from tests.conftest import draw_cell


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def thumbnail(image: Image.Image, **options: object) -> np.ndarray:
    seen = inspect_picture("x", encoded(image, **options)).thumbnail_TT
    assert seen is not None
    return seen


@pytest.fixture(scope="module")
def cells() -> list[Image.Image]:
    generator = np.random.default_rng(3)
    return [draw_cell(generator, tumoral=bool(number % 2)) for number in range(60)]


def test_cells_that_are_not_the_same_are_not_taken_for_it(cells: list[Image.Image]) -> None:
    assert similar_pairs([thumbnail(cell) for cell in cells]) == []
    assert similar_pairs([]) == similar_pairs([thumbnail(cells[0])]) == []


@pytest.mark.parametrize("way", range(8))
def test_a_copy_is_found_however_it_is_laid_down(cells: list[Image.Image], way: int) -> None:
    turned = cells[7].rotate(90 * (way // 2))
    copy = turned.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if way % 2 else turned
    seen = [thumbnail(cell) for cell in cells]
    assert similar_pairs([*seen, thumbnail(copy, quality=40)]) == [(7, len(cells))]
    for side in (100, 160, 300, 450):
        assert similar_pairs([*seen, thumbnail(copy.resize((side, side)))]) == [(7, len(cells))]


def test_pairs_across_blocks_are_found(cells: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lymphtune.doctor.duplicates.BLOCK", 7)
    seen = [thumbnail(cell) for cell in cells]
    assert similar_pairs([*seen, *seen[:20]]) == [(number, len(cells) + number) for number in range(20)]


def test_of_pictures_that_are_all_alike_no_copies_are_claimed(tiny_cohort_folder: Path) -> None:
    """A round cell on a clean ground is like every other."""
    for number, path in enumerate(sorted(tiny_cohort_folder.glob("*set/*/*.jpg"))):
        picture = Image.new("RGB", (224, 224), (240, 240, 240))
        ImageDraw.Draw(picture).ellipse((60, 60, 164, 164), fill=(90 + number, 40, 120))
        picture.save(path)
    (found,) = (one for one in examine(tiny_cohort_folder).findings if one.check == "similar pictures")
    assert (found.severity, found.places) == ("note", ()) and "so alike" in found.text


def test_a_look_refuses_what_decoding_refuses() -> None:
    """Wherever a file is cut, or a byte of it turned: the small decoding sees what the whole one sees."""
    data = encoded(draw_cell(np.random.default_rng(0), tumoral=True), quality=80)
    generator = np.random.default_rng(1)
    spoilt = [data[:length] for length in range(0, len(data), 37)]
    for _ in range(200):
        turned = bytearray(data)
        turned[generator.integers(2, len(data))] ^= int(generator.integers(1, 256))
        spoilt.append(bytes(turned))
    refused = 0
    for one in spoilt:
        try:
            decode(one, "x")
            problem = ""
        except InputError as error:
            problem = str(error).removeprefix("x: ")
        assert bool(inspect_picture("x", one).problem) == bool(problem)
        refused += bool(problem)
    assert len(spoilt) / 4 < refused < len(spoilt)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_a_look_at_other_formats(kind: str) -> None:
    cell = draw_cell(np.random.default_rng(0), tumoral=True)
    seen, of_jpeg = inspect_picture("x", encoded(cell, kind)), inspect_picture("x", encoded(cell, "JPEG", quality=95))
    assert (seen.problem, seen.format, seen.mode, seen.size) == ("", kind, "RGB", (224, 224))
    assert seen.thumbnail_TT is not None and of_jpeg.thumbnail_TT is not None
    np.testing.assert_allclose(seen.thumbnail_TT.astype(int), of_jpeg.thumbnail_TT.astype(int), atol=6)
    assert seen.contrast == pytest.approx(of_jpeg.contrast, abs=2)


@pytest.mark.parametrize("table", [[[3, 5], [7, 1]], [[0, 50], [9, 104]], [[0, 0], [3, 9]], [[6, 0], [0, 6]]])
def test_fishers_test_is_that_of_scipy(table: list[list[int]]) -> None:
    assert fisher(table) == pytest.approx(fisher_exact(table).pvalue)


def test_what_is_near_in_any_way_is_near_in_what_is_compared_first(cells: list[Image.Image]) -> None:
    """The first comparison leaves out no pair, and is that of the means over all ways."""
    fine = _standardised(np.stack([thumbnail(cell) for cell in cells]))
    folded, means = _orientation_mean(fine), np.mean(list(_orientations(fine)), axis=0)
    for one, other in ((0, 1), (3, 8), (20, 41)):
        apart = ((folded[one] - folded[other]) ** 2).sum()
        assert apart == pytest.approx(((means[one] - means[other]) ** 2).sum(), rel=1e-4)
        assert all(apart <= ((fine[one] - way[other]) ** 2).sum() + 1e-6 for way in _orientations(fine))
