"""Pictures of more than 8 bits: those that use their range keep their values, those of 12 bits in 16 are refused."""

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lymphtune.cohort import load_cohort, survey_cohort
from lymphtune.cohort.depth import Depth, underused
from lymphtune.cohort.packed import pack, read_packed
from lymphtune.cohort.pictures import decode
from lymphtune.doctor import examine
from lymphtune.errors import InputError

RAMP = np.linspace(0, 1, 224 * 224).reshape(224, 224)


def png(levels: np.ndarray) -> bytes:
    return encoded(Image.fromarray(levels.astype(np.uint16)))


def colour_png(levels: np.ndarray) -> bytes:
    """Return 16 bits of each colour, which Pillow reads and does not write."""
    height, width = levels.shape
    rows = np.repeat(levels.astype(">u2")[:, :, None], 3, axis=2).reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(raw)),
        (b"IEND", b""),
    )
    found = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(found)


def tiff(levels: np.ndarray, kind: type = np.int32, **options: object) -> bytes:
    return encoded(Image.fromarray(levels.astype(kind)), "TIFF", **options)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("write", [png, colour_png, lambda levels: tiff(levels, np.uint16), tiff])
def test_the_whole_range_of_16_bits_keeps_its_levels(write: Callable[[np.ndarray], bytes]) -> None:
    """What was 8 bits, shifted or replicated to 16, comes back as it was, and nothing is clipped."""
    eight = (RAMP * 255).round()
    for factor in (256, 257):
        pixels_SS3 = decode(write(eight * factor), "x").pixels_SS3
        np.testing.assert_array_equal(pixels_SS3, eight[..., None].repeat(3, axis=2))
    pixels_SS3 = decode(write((RAMP * 65535).round()), "x").pixels_SS3.astype(float)
    assert abs(pixels_SS3 - (RAMP * 65535).round()[..., None] / 257).max() <= 1


@pytest.mark.parametrize(
    ("write", "largest", "says"),
    [
        (png, 4095, "16-bit grey whose largest value is 4095 (12 bits)"),
        (
            lambda levels: tiff(levels, np.uint16, compression="tiff_lzw"),
            1023,
            "16-bit grey whose largest value is 1023 (10 bits)",
        ),
        (tiff, 255, "32-bit integer grey whose largest value is 255 (8 bits)"),
        (tiff, 16383, "32-bit integer grey whose largest value is 16383 (14 bits)"),
        (colour_png, 4000, "16-bit colour without a value over 4095 (12 bits)"),
    ],
)
def test_what_a_picture_uses_is_told(write: Callable[[np.ndarray], bytes], largest: int, says: str) -> None:
    depth = decode(write((RAMP * largest).round()), "x").depth
    assert str(depth) == says


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA"])
def test_8_bits_and_fewer_have_no_depth(mode: str) -> None:
    assert decode(encoded(Image.new("RGB", (32, 32)).convert(mode)), "x").depth is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tiff(RAMP * 70000), "x: 32-bit integer grey from 0 to 70000, beyond 16 bits; convert it to 8 bits"),
        (tiff(RAMP * 100 - 1), "x: 32-bit integer grey from -1 to 99, beyond 16 bits; convert it to 8 bits"),
        (tiff(RAMP, np.float32), "x: floating-point grey levels; convert it to 8 bits"),
    ],
)
def test_what_no_16_bits_hold_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        decode(data, "x")


def test_a_dark_picture_among_others_is_no_fault() -> None:
    """A patient's pictures are looked at together: the brightest of them says what the camera gives."""
    dark, bright = Depth("16-bit grey", 3000), Depth("16-bit grey", 60000)
    assert underused([None, dark, Depth("16-bit grey", 900)]) == dark
    assert underused([dark, bright]) is None
    assert underused([Depth("16-bit grey", 16383)]) is not None and underused([Depth("16-bit grey", 16384)]) is None
    assert underused([]) is underused([None, None]) is underused([Depth("16-bit grey", 0)]) is None


def in_16_bits(folder: Path, patient: str, largest: Sequence[int]) -> None:
    """Make grey pictures of 16 bits of a patient's, each with another largest value."""
    bag = next(folder.glob(f"*set/{patient}"))
    for path, most in zip(sorted(bag.iterdir()), largest, strict=False):
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L")).astype(float)
        path.with_suffix(".png").write_bytes(png(((grey - grey.min()) / np.ptp(grey) * most).round()))
        path.unlink()


REFUSAL = (
    r"P3/00000\d.png: 16-bit grey whose largest value is 4095 \(12 bits\), .* nearly black after conversion; convert "
    "them to 8 bits"
)


def test_a_patient_of_12_bits_is_refused_alike_everywhere(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    in_16_bits(tiny_cohort_folder, "P3", [2000, 4095, 900])
    with pytest.raises(InputError, match=REFUSAL):
        load_cohort(tiny_cohort_folder)
    with pytest.raises(InputError, match=REFUSAL):  # and once more: nothing of it is in the cache
        load_cohort(tiny_cohort_folder)
    surveyed = survey_cohort(tiny_cohort_folder)
    with pytest.raises(InputError, match=REFUSAL):
        for rows in surveyed.block_ranges():
            surveyed.block(rows)
    with pytest.raises(InputError, match=REFUSAL):
        pack(tiny_cohort_folder, tmp_path / "tiny.parquet", surveyed.reference_date)
    assert not (tmp_path / "tiny.parquet").exists()
    (found,) = [finding for finding in examine(tiny_cohort_folder).findings if finding.severity == "error"]
    assert found.check == "bit depth" and found.text.startswith("3 pictures of more than 8 bits, of 1 patient, that")


def test_a_patient_of_16_bits_with_a_dark_picture_is_read_alike_everywhere(
    tiny_cohort_folder: Path, tmp_path: Path
) -> None:
    in_16_bits(tiny_cohort_folder, "P3", [2000, 60000, 900])
    cohort = load_cohort(tiny_cohort_folder)
    row = cohort.ids.index("P3")
    assert cohort.bag(row)[1].max() == 60000 >> 8 and cohort.bag(row)[0].max() == 2000 >> 8
    pack(tiny_cohort_folder, tmp_path / "tiny.parquet", cohort.reference_date)
    packed = read_packed(tmp_path / "tiny.parquet", cohort.reference_date)
    np.testing.assert_array_equal(packed.pictures_CSS3, cohort.pictures_CSS3)
    assert not [finding for finding in examine(tiny_cohort_folder).findings if finding.check == "bit depth"]
