"""Blocks of a cohort: together they are the cohort, none is larger than allowed, and the cache is left alone."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lymphtune.cohort import REFERENCE_DATE, Cohort, CohortSurvey, blocks, load_cohort, packed, pictures, survey_cohort
from lymphtune.cohort.blocks import Block
from lymphtune.cohort.cohort import COLUMNS, CohortHash
from lymphtune.cohort.packed import pack
from lymphtune.cohort.simulation.patients import simulated_cohort, survey_simulated
from lymphtune.errors import InputError

Both = tuple[CohortSurvey, Cohort]


def both(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Both:
    """Return a small cohort of each kind, to be read in blocks and whole."""
    if kind == "simulated":
        given = (REFERENCE_DATE, 11, 3, 4)
        return survey_simulated(*given), simulated_cohort(*given)
    if kind == "packed":
        monkeypatch.setattr(packed, "GROUP_BYTES", 12_000)  # patients are split between row groups
        monkeypatch.setattr(packed, "READ_ROWS", 2)
        pack(folder, folder.parent / "tiny.parquet", REFERENCE_DATE)
        folder = folder.parent / "tiny.parquet"
    return survey_cohort(folder), load_cohort(folder)


def read(surveyed: CohortSurvey) -> list[Block]:
    return [surveyed.block(rows) for rows in surveyed.block_ranges()]


@pytest.fixture(params=["folder", "packed", "simulated"])
def given(request: pytest.FixtureRequest, tiny_cohort_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Both:
    return both(request.param, tiny_cohort_folder, monkeypatch)


@pytest.mark.parametrize(("most_patients", "most_cells"), [(4, 2000), (32, 8), (1, 1), (32, 2000)])
def test_blocks_are_the_cohort(
    given: Both, most_patients: int, most_cells: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    surveyed, cohort = given
    monkeypatch.setattr(blocks, "BLOCK_PATIENTS", most_patients)
    monkeypatch.setattr(blocks, "BLOCK_CELLS", most_cells)
    monkeypatch.setenv("LYMPHTUNE_CACHE", str(tmp_path / "cache"))
    found = read(surveyed)
    assert [row for block in found for row in block.rows] == list(range(len(surveyed)))
    for name in ("name", "reference_date", "simulated"):
        assert {getattr(part, name) for part in [surveyed, *(block.cohort for block in found)]} == {
            getattr(cohort, name)
        }
    patients = pd.concat([block.cohort.patients for block in found], ignore_index=True)
    pd.testing.assert_frame_equal(patients, cohort.patients, check_exact=True)
    np.testing.assert_array_equal(np.concatenate([block.cohort.pictures_CSS3 for block in found]), cohort.pictures_CSS3)
    digests = [digest for block in found for digest in block.cohort.picture_digests]
    assert digests == list(cohort.picture_digests)
    assert not any(block.cohort.pictures_CSS3.flags.writeable for block in found)
    assert not (tmp_path / "cache").exists()


def test_digests_without_decoding_give_the_cohorts_hash(given: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    surveyed, cohort = given
    monkeypatch.setattr(pictures.Image, "open", None)
    told = CohortHash(surveyed.reference_date)
    monkeypatch.setattr(blocks, "BLOCK_PATIENTS", 4)
    for rows in surveyed.block_ranges():
        told.add(surveyed.patients[rows.start : rows.stop], surveyed.digests(rows))
    assert str(told) == cohort.hash


def test_pictures_are_named(given: Both) -> None:
    surveyed, cohort = given
    (block,) = read(surveyed)
    first = block.names[: cohort.patients["n_cells"][0]]
    assert [name.removesuffix(".jpg") for name in first] == [f"{number:06d}" for number in range(len(first))]
    assert len(block.names) == len(cohort.pictures_CSS3)


@pytest.mark.parametrize(
    ("n_cells", "expected"),
    [([3] * 70, [32, 32, 6]), ([900, 900, 900, 2000, 5000, 1, 1], [2, 1, 1, 1, 2]), ([5000], [1])],
)
def test_no_block_is_larger_than_allowed(n_cells: list[int], expected: list[int]) -> None:
    table = pd.DataFrame([("P", -1, "", 60.0, 5.0, n) for n in n_cells], columns=list(COLUMNS))
    block_ranges = list(CohortSurvey("x", table, lambda rows: [], REFERENCE_DATE).block_ranges())
    assert [len(rows) for rows in block_ranges] == expected
    assert [row for rows in block_ranges for row in rows] == list(range(len(n_cells)))


def test_only_a_blocks_own_pictures_are_decoded(given: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    surveyed, cohort = given
    monkeypatch.setattr(blocks, "BLOCK_PATIENTS", 3)
    sizes: list[int] = []
    real = blocks.decode_in_memory

    def note(sources, decode):  # type: ignore[no-untyped-def]
        pixels_CSS3, found = real(sources, decode)
        sizes.append(len(pixels_CSS3))
        return pixels_CSS3, found

    monkeypatch.setattr(blocks, "decode_in_memory", note)
    read(surveyed)
    counts = cohort.patients["n_cells"].to_numpy()
    assert sizes == [counts[low : low + 3].sum() for low in range(0, len(counts), 3)]


def test_notes_are_the_blocks_own(tiny_cohort_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_cohort_folder / "trainset" / "P1" / "000000.jpg"
    with pictures.Image.open(path) as image:
        image.convert("L").save(path)
    monkeypatch.setattr(blocks, "BLOCK_PATIENTS", 8)
    notes = [block.cohort.notes for block in read(survey_cohort(tiny_cohort_folder))]
    assert len(notes) == 2 and notes[1] == ()
    assert notes[0][0].endswith("pictures in mode L, converted to RGB") and notes[0][0].startswith("1 of ")


def cut(folder: Path) -> None:
    path = folder / "testset" / "P15" / "000001.jpg"
    path.write_bytes(path.read_bytes()[:500])


def bare(folder: Path) -> None:
    shutil.rmtree(folder / "testset" / "P15")


def empty(folder: Path) -> None:
    for path in (folder / "testset" / "P15").iterdir():
        path.unlink()


@pytest.mark.parametrize("damage", [cut, bare, empty])
def test_blocks_refuse_what_the_whole_refuses(tiny_cohort_folder: Path, damage: Callable[[Path], None]) -> None:
    damage(tiny_cohort_folder)
    with pytest.raises(InputError) as whole:
        load_cohort(tiny_cohort_folder)
    with pytest.raises(InputError) as streamed:
        read(survey_cohort(tiny_cohort_folder))
    assert str(streamed.value) == str(whole.value)


def test_a_picture_more_than_before_is_noticed(tiny_cohort_folder: Path) -> None:
    surveyed = survey_cohort(tiny_cohort_folder)
    bag = tiny_cohort_folder / "testset" / "P15"
    shutil.copy(bag / "000000.jpg", bag / "000009.jpg")
    with pytest.raises(InputError, match=r"P15: changed while it was read; start again"):
        read(surveyed)


def test_a_patient_in_two_places_is_noticed_across_row_groups(
    tiny_cohort_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pack(tiny_cohort_folder, tmp_path / "a.parquet", REFERENCE_DATE)
    table = pq.read_table(tmp_path / "a.parquet")
    first = table.slice(0, 1)
    pq.write_table(pa.concat_tables([table.slice(1), first]), tmp_path / "b.parquet", row_group_size=5)
    with pytest.raises(InputError, match="patient 'P1' has rows in two places"):
        survey_cohort(tmp_path / "b.parquet")
    between = pa.concat_tables([table.slice(1, 3), first, table.slice(4)])
    pq.write_table(between, tmp_path / "c.parquet", row_group_size=5)
    with pytest.raises(InputError, match="patient 'P1' has rows in two places"):
        survey_cohort(tmp_path / "c.parquet")
