import io
import json
import shutil
import subprocess
import sys
import warnings
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lymphtune.cohort import pictures
from lymphtune.cohort.folders import find_pictures
from lymphtune.cohort.pictures import PictureFiles, cache_dir, decode, decode_cached
from lymphtune.errors import InputError

GENERATOR = np.random.default_rng(0)
STORED = {  # how a picture lies in its file that has this orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
NOISE = GENERATOR.integers(0, 256, (224, 224, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def bag(folder: Path, n_pictures: int = 3) -> PictureFiles:
    folder.mkdir(parents=True)
    for number in range(n_pictures):
        image = Image.fromarray(GENERATOR.integers(0, 256, (224, 224, 3), dtype=np.uint8))
        image.save(folder / f"{number:06d}.png")
    return PictureFiles(find_pictures(folder))


class TestFinding:
    def test_by_suffix_in_order_of_name(self, tmp_path: Path) -> None:
        for name in ("b.JPG", "a.jpeg", "c.png", "e.TIFF", "d.tif", "f.bmp", ".a.jpg", "notes.txt", "jpg", "g.gif"):
            (tmp_path / name).touch()
        (tmp_path / "folder.jpg").mkdir()
        found = [path.name for path in find_pictures(tmp_path)]
        assert found == ["a.jpeg", "b.JPG", "c.png", "d.tif", "e.TIFF", "f.bmp"]

    def test_symbolic_links(self, tmp_path: Path) -> None:
        inside, outside = tmp_path / "cohort" / "P1", tmp_path / "secret.jpg"
        inside.mkdir(parents=True)
        outside.touch()
        (tmp_path / "cohort" / "shared.jpg").touch()
        (inside / "0.jpg").symlink_to(tmp_path / "cohort" / "shared.jpg")
        assert len(find_pictures(inside, tmp_path / "cohort")) == 1
        (inside / "1.jpg").symlink_to(outside)
        with pytest.raises(InputError, match=r"P1/1.jpg: a symbolic link out of .*cohort; put a copy"):
            find_pictures(inside, tmp_path / "cohort")
        (inside / "1.jpg").unlink()
        (inside / "1.jpg").symlink_to(inside / "nothing.jpg")
        with pytest.raises(InputError, match=r"P1/1.jpg: a symbolic link to nothing; replace or remove it"):
            find_pictures(inside, tmp_path / "cohort")

    def test_names_and_folders_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"absent: cannot be read \(No such file or directory\)"):
            find_pictures(tmp_path / "absent")
        (tmp_path / "a\nb.jpg").touch()
        with pytest.raises(InputError, match=r"name 'a\\nb.jpg' cannot be printed; rename it"):
            find_pictures(tmp_path)


class TestDecoding:
    @pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("BMP", {}), ("TIFF", {})])
    def test_a_lossless_picture_comes_back_exactly(self, kind: str, options: dict[str, object]) -> None:
        picture = decode(encoded(Image.fromarray(NOISE), kind, **options), "x")
        assert picture.pixels_SS3.dtype == np.uint8
        assert picture.changes == ()
        np.testing.assert_array_equal(picture.pixels_SS3, NOISE)

    @pytest.mark.parametrize(
        ("mode", "kind"),
        [("L", "PNG"), ("L", "JPEG"), ("1", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"), ("CMYK", "JPEG")],
    )
    def test_other_modes_become_rgb(self, mode: str, kind: str) -> None:
        flat = Image.new("RGB", (224, 224), (255, 255, 255)).convert(mode)
        picture = decode(encoded(flat, kind), "x")
        assert picture.changes == (f"in mode {mode}, converted to RGB",)
        assert picture.pixels_SS3.shape == (224, 224, 3)
        assert picture.pixels_SS3.min() >= 254

    def test_grey_of_16_bits_keeps_its_levels(self) -> None:
        grey = np.linspace(0, 65535, 224 * 224).astype(np.uint16).reshape(224, 224)
        picture = decode(encoded(Image.fromarray(grey)), "x")
        np.testing.assert_array_equal(picture.pixels_SS3, (grey >> 8).astype(np.uint8)[..., None].repeat(3, axis=2))
        assert "16" in picture.changes[0]

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_a_picture_is_turned_as_its_camera_held_it(self, orientation: int, kind: str) -> None:
        """Each of EXIF's eight orientations: stored turned the other way, it comes back upright."""
        smooth = Image.fromarray(NOISE).resize((7, 5)).resize((448, 320), Image.Resampling.BICUBIC)
        stored = smooth.transpose(STORED[orientation]) if orientation in STORED else smooth
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
        picture = decode(encoded(stored, kind, exif=exif.tobytes(), **options), "x")
        upright = decode(encoded(smooth), "x").pixels_SS3.astype(int)
        assert abs(picture.pixels_SS3 - upright).mean() < 1.5
        said = "turned as their EXIF orientation says" in picture.changes
        assert said == (orientation > 1) or kind == "TIFF"  # which Pillow turns itself

    @pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0"])
    def test_a_damaged_exif_says_nothing(self, exif: bytes) -> None:
        data = encoded(Image.fromarray(NOISE), "JPEG", quality=90)
        segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
        picture = decode(data[:2] + segment + data[2:], "x")
        np.testing.assert_array_equal(picture.pixels_SS3, decode(data, "x").pixels_SS3)

    def test_other_sizes_are_scaled_and_cropped_in_the_centre(self) -> None:
        wide = Image.fromarray(GENERATOR.integers(0, 256, (448, 1000, 3), dtype=np.uint8))
        expected = np.asarray(wide.resize((500, 224), Image.Resampling.BICUBIC).crop((138, 0, 362, 224)), dtype=int)
        picture = decode(encoded(wide), "x")
        assert picture.changes == ("not 224x224 pixels, scaled and centre-cropped",)
        assert picture.pixels_SS3.shape == (224, 224, 3)
        assert abs(picture.pixels_SS3 - expected).max() <= 1
        tall = decode(encoded(wide.transpose(Image.Transpose.TRANSPOSE)), "x")
        # Pillow up to 12 scales rows first and clips between its two passes: of noise up to 6 levels
        assert abs(tall.pixels_SS3.transpose(1, 0, 2) - expected).max() <= 8

    def test_scaling_is_antialiased(self) -> None:
        stripes = np.zeros((896, 896, 3), dtype=np.uint8)
        stripes[:, ::2] = 255
        grey_SS3 = decode(encoded(Image.fromarray(stripes)), "x").pixels_SS3.astype(int)
        assert abs(grey_SS3[:, 2:-2] - 127).max() <= 1

    def test_a_long_thin_picture_takes_little_memory(self) -> None:
        assert decode(encoded(Image.new("RGB", (16, 1_000_000))), "x").pixels_SS3.shape == (224, 224, 3)

    def test_pages_after_the_first_are_left_out_and_told(self) -> None:
        first, second = Image.fromarray(NOISE), Image.new("RGB", (224, 224))
        picture = decode(encoded(first, "TIFF", save_all=True, append_images=[second]), "x")
        assert picture.changes == ("with several pages, the first one kept",)
        np.testing.assert_array_equal(picture.pixels_SS3, NOISE)

    @pytest.mark.parametrize("size", [(4097, 4096), (15, 300), (300, 15), (9600, 9600), (20000, 20000)])
    def test_sizes_out_of_range_are_refused_before_decoding(self, size: tuple[int, int]) -> None:
        """9600 x 9600 is where Pillow warns, 20000 x 20000 where it raises."""
        data = encoded(Image.new("1", size))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(InputError, match=r"P1/0.png: .*sides of 16 pixels or more and 16777216 pixels in all"):
                decode(data, "P1/0.png")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(InputError, match=r"P1/0.png: .*; expected sides of 16 pixels or more"):
                decode(data, "P1/0.png")

    def test_the_size_found_is_named(self) -> None:
        with pytest.raises(InputError, match="x: 5000 x 4000 pixels; expected"):
            decode(encoded(Image.new("1", (5000, 4000))), "x")

    @pytest.mark.filterwarnings("ignore::UserWarning")
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF"])
    def test_truncated_pictures(self, kind: str) -> None:
        data = encoded(Image.fromarray(NOISE), kind)
        message = r"trainset/P3/000004.jpg: truncated or unreadable picture \(.+\); replace or remove it"
        for length in (0, 1, 10, 100, len(data) // 2, len(data) * 9 // 10):
            with pytest.raises(InputError, match=message):
                decode(data[:length], "trainset/P3/000004.jpg")

    def test_other_formats(self) -> None:
        for data in (encoded(Image.fromarray(NOISE), "GIF"), b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0\n"):
            with pytest.raises(InputError, match=r"unreadable picture \(not JPEG, PNG, BMP or TIFF\); replace"):
                decode(data, "x")
        with pytest.raises(InputError, match="floating-point grey levels"):
            decode(encoded(Image.new("F", (224, 224)), "TIFF"), "x")
        with pytest.raises(InputError, match="beyond 16 bits"):
            decode(encoded(Image.new("I", (224, 224), 70_000), "TIFF"), "x")

    @pytest.mark.filterwarnings("ignore::UserWarning")
    def test_damaged_pictures_raise_nothing_else(self) -> None:
        generator = np.random.default_rng(1)
        seeds = [encoded(Image.fromarray(NOISE[:40, :40]), kind) for kind in ("JPEG", "PNG", "BMP", "TIFF")]
        for _ in range(400):
            data = bytearray(seeds[generator.integers(4)])
            for _ in range(generator.integers(1, 6)):
                data[generator.integers(min(len(data), 300))] = generator.integers(256)
            try:
                assert decode(bytes(data), "x").pixels_SS3.shape == (224, 224, 3)
            except InputError as error:
                assert str(error).startswith("x: ")

    def test_threads_agree_from_the_first_picture_on(self, tmp_path: Path) -> None:
        """Pillow loads its plugins on first use: a fresh process, every thread at once."""
        Image.fromarray(NOISE).save(tmp_path / "a.tif")
        program = (
            "import sys; from pathlib import Path; from concurrent.futures import ThreadPoolExecutor\n"
            "from lymphtune.cohort.pictures import decode\n"
            "data = Path(sys.argv[1]).read_bytes()\n"
            "with ThreadPoolExecutor(16) as pool:\n"
            "    print(len({decode(d, 'x').pixels_SS3.tobytes() for d in pool.map(lambda _: data, range(16))}),\n"
            "          len(set(pool.map(lambda d: decode(d, 'x').pixels_SS3.tobytes(), [data] * 64))))\n"
        )
        arguments = [sys.executable, "-c", program, str(tmp_path / "a.tif")]
        assert subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.split() == ["1", "1"]
        data = encoded(Image.fromarray(NOISE))
        with ThreadPoolExecutor(8) as pool:
            for picture in pool.map(lambda _: decode(data, "x"), range(64)):
                np.testing.assert_array_equal(picture.pixels_SS3, NOISE)


class TestCache:
    def test_a_second_start_decodes_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sources = [bag(tmp_path / "P1"), bag(tmp_path / "P2", 2)]
        Image.new("L", (224, 224), 7).save(sources[1].paths[0])
        pixels_CSS3, digests, notes = decode_cached(sources, tmp_path / "cache")
        assert notes == ["1 of 5 pictures in mode L, converted to RGB"]
        monkeypatch.setattr(pictures, "decode", None)
        again_CSS3, again_digests, again_notes = decode_cached(sources, tmp_path / "cache")
        np.testing.assert_array_equal(again_CSS3, pixels_CSS3)
        assert (again_digests, again_notes) == (digests, notes)
        assert isinstance(again_CSS3, np.memmap)
        assert not again_CSS3.flags.writeable

    def test_the_rows_are_the_pictures_in_order(self, tmp_path: Path) -> None:
        sources = [bag(tmp_path / "P1"), bag(tmp_path / "P2", 2)]
        pixels_CSS3, digests, _ = decode_cached(sources, tmp_path / "cache")
        data = [data for source in sources for _, _, data in source.read()]
        for row, picture in enumerate(data):
            np.testing.assert_array_equal(pixels_CSS3[row], decode(picture, "x").pixels_SS3)
        assert len(set(digests)) == 5
        swapped_CSS3, swapped, _ = decode_cached(sources[::-1], tmp_path / "cache")
        assert swapped == digests[3:] + digests[:3]
        np.testing.assert_array_equal(swapped_CSS3[:2], pixels_CSS3[3:])

    def test_the_file_is_plain_npy_and_nothing_is_left_beside_it(self, tmp_path: Path) -> None:
        pixels_CSS3, _, _ = decode_cached([bag(tmp_path / "P1")], tmp_path / "cache")
        names = sorted(path.name for path in (tmp_path / "cache").iterdir())
        assert [Path(name).suffix for name in names] == [".json", ".npy"]
        assert len(names[1]) == len("pictures-0123456789abcdef.npy")
        np.testing.assert_array_equal(np.load(tmp_path / "cache" / names[1], allow_pickle=False), pixels_CSS3)

    @pytest.mark.parametrize("damage", ["cut", "longer", "header", "empty", "notes", "no notes"])
    def test_a_damaged_file_is_rebuilt(self, tmp_path: Path, damage: str) -> None:
        source = bag(tmp_path / "P1")
        expected_CSS3 = np.array(decode_cached([source], tmp_path / "cache")[0])
        target = next((tmp_path / "cache").glob("*.npy"))
        data = target.read_bytes()
        if damage == "no notes":
            target.with_suffix(".json").unlink()
        elif damage == "notes":
            target.with_suffix(".json").write_text('{"not": "a list"}')
        else:
            broken = {"cut": data[:-1], "longer": data + b"x", "empty": b"", "header": data.replace(b"|u1", b"|i1", 1)}
            target.write_bytes(broken[damage])
        np.testing.assert_array_equal(decode_cached([source], tmp_path / "cache")[0], expected_CSS3)
        assert target.read_bytes() == data
        assert json.loads(target.with_suffix(".json").read_text()) == []

    def test_what_an_earlier_version_decoded_is_not_taken(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Format 1 left the orientation aside: its files have other names."""
        source = bag(tmp_path / "P1")
        with monkeypatch.context() as patch:
            patch.setattr(pictures, "CACHE_FORMAT", 1)
            decode_cached([source], tmp_path / "cache")
        decode_cached([source], tmp_path / "cache")
        assert pictures.CACHE_FORMAT > 1 and len(list((tmp_path / "cache").glob("*.npy"))) == 2

    def test_a_bad_picture_is_named_and_nothing_is_kept(self, tmp_path: Path) -> None:
        source = bag(tmp_path / "P1")
        source.paths[1].write_bytes(source.paths[1].read_bytes()[:500])
        with pytest.raises(InputError, match=r"P1/000001.png: truncated or unreadable picture"):
            decode_cached([source], tmp_path / "cache")
        assert list((tmp_path / "cache").iterdir()) == []

    def test_files_that_vanish_change_or_are_too_large(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source = bag(tmp_path / "P1")
        monkeypatch.setattr(pictures, "_digests", lambda source: ["0" * 64] * 3)
        with pytest.raises(InputError, match=r"000000.png: changed while it was read; start again"):
            decode_cached([source], tmp_path / "cache")
        monkeypatch.undo()
        monkeypatch.setattr(pictures, "MAX_ENCODED_BYTES", 1000)
        with pytest.raises(InputError, match=r"000000.png: over 1.0 kB; replace or remove it"):
            decode_cached([source], tmp_path / "cache")
        source.paths[0].unlink()
        with pytest.raises(InputError, match=r"000000.png: cannot be read \(No such file or directory\)"):
            decode_cached([source], tmp_path / "cache")

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match=r"file/cache: the cache folder cannot be written .* set LYMPHTUNE_CACHE"):
            decode_cached([bag(tmp_path / "P1")], tmp_path / "file" / "cache")

    def test_a_folder_without_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pictures.os, "access", lambda *_: False)
        with pytest.raises(InputError, match=r"cache: the cache folder cannot be written \(no permission\)"):
            decode_cached([bag(tmp_path / "P1")], tmp_path / "cache")

    def test_a_full_disk_is_told_before_writing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 0, 400_000))
        with pytest.raises(
            InputError, match=r"cache: the decoded pictures need 452 kB, 400 kB are free; .*LYMPHTUNE_CACHE"
        ):
            decode_cached([bag(tmp_path / "P1")], tmp_path / "cache")

    def test_a_quota_is_told_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: int) -> None:
            raise OSError(122, "Disk quota exceeded")

        monkeypatch.setattr(pictures.os, "posix_fallocate", refuse)
        with pytest.raises(InputError, match=r"cannot be written \(Disk quota exceeded\); set LYMPHTUNE_CACHE"):
            decode_cached([bag(tmp_path / "P1")], tmp_path / "cache")

    def test_where_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LYMPHTUNE_CACHE", "/a/b")
        assert cache_dir() == Path("/a/b")
        monkeypatch.delenv("LYMPHTUNE_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", "/x")
        assert cache_dir() == Path("/x/lymphtune")
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", "/home/someone")
        assert cache_dir() == Path("/home/someone/.cache/lymphtune")


def test_a_picture_of_endless_scans_is_refused() -> None:
    """A scan takes a few bytes and goes over all pixels: thousands of them would take hours."""
    data = encoded(Image.new("L", (224, 224), 128), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert decode(data, "x.jpg").pixels_SS3.shape == (224, 224, 3)
    with pytest.raises(InputError, match=r"x.jpg: a JPEG file of 20\d scans; expected 100 at most"):
        decode(data[:-2] + scan * 200 + data[-2:], "x.jpg")
