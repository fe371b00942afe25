import json
import resource
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lymphtune.cohort import REFERENCE_DATE, load_cohort, packed
from lymphtune.cohort.packed import PackedDescription, pack, read_packed, write_packed
from lymphtune.cohort.study import survey_study
from lymphtune.errors import InputError


@pytest.fixture
def tiny_packed(tiny_cohort_folder: Path, tmp_path: Path) -> Path:
    out = tmp_path / "tiny.parquet"
    pack(tiny_cohort_folder, out, REFERENCE_DATE)
    return out


def rewrite(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], schema: pa.Schema = packed.SCHEMA) -> None:
    metadata = pq.read_schema(path).metadata
    table = pa.Table.from_pandas(change(pq.read_table(path).to_pandas()), schema, preserve_index=False)
    pq.write_table(table.replace_schema_metadata(metadata), path)


def refused(path: Path, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_packed(path, None)


def test_the_packed_cohort_is_the_same_cohort(tiny_cohort_folder: Path, tiny_packed: Path) -> None:
    folder, file = load_cohort(tiny_cohort_folder), load_cohort(tiny_packed)
    assert file.hash == folder.hash
    assert (file.name, file.simulated, file.reference_date) == ("tiny", False, REFERENCE_DATE)
    pd.testing.assert_frame_equal(file.patients, folder.patients, check_exact=True)
    np.testing.assert_array_equal(file.pictures_CSS3, folder.pictures_CSS3)
    assert list(file.picture_digests) == list(folder.picture_digests)


def test_no_date_of_birth_is_kept(tiny_packed: Path) -> None:
    assert pq.read_schema(tiny_packed).names == packed.SCHEMA.names
    assert b"1934" not in tiny_packed.read_bytes()


@pytest.mark.parametrize("day", [date(2019, 2, 28), date(2020, 1, 2), date(2024, 2, 29)])
def test_another_reference_date_shifts_every_age(tiny_cohort_folder: Path, tiny_packed: Path, day: date) -> None:
    folder, file = load_cohort(tiny_cohort_folder, day), load_cohort(tiny_packed, day)
    np.testing.assert_allclose(file.patients["age_years"], folder.patients["age_years"], rtol=1e-12)
    assert file.hash == folder.hash
    assert file.reference_date == day
    assert read_packed(tiny_packed, None).reference_date == REFERENCE_DATE


def test_a_date_before_birth_is_refused(tiny_packed: Path) -> None:
    with pytest.raises(InputError, match="has an age outside 0-120 years at 1935-01-01"):
        read_packed(tiny_packed, date(1935, 1, 1))


def test_row_groups_are_small_and_split_patients_without_harm(
    tiny_cohort_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "GROUP_BYTES", 10_000)
    monkeypatch.setattr(packed, "READ_ROWS", 1)
    out = tmp_path / "split.parquet"
    pack(tiny_cohort_folder, out, REFERENCE_DATE)
    assert pq.ParquetFile(out).num_row_groups > 15
    assert load_cohort(out).hash == load_cohort(tiny_cohort_folder).hash


def test_any_source_of_pictures_can_be_packed(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    surveyed = survey_study(tiny_cohort_folder, REFERENCE_DATE)
    patients, sources = surveyed.patients, surveyed.sources(range(len(surveyed)))
    pictures = (
        (patient, f"{number}.jpg", data)
        for patient, source in zip(patients["patient"], sources, strict=True)
        for number, (_, _, data) in enumerate(source.read())
    )
    write_packed(
        tmp_path / "any.parquet", patients, pictures, PackedDescription("drawn", REFERENCE_DATE, simulated=True)
    )
    cohort = load_cohort(tmp_path / "any.parquet")
    assert (cohort.name, cohort.simulated) == ("drawn", True)
    assert cohort.hash == load_cohort(tiny_cohort_folder).hash


def test_a_simulated_folder_stays_simulated(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    (tiny_cohort_folder / "SIMULATED").touch()
    pack(tiny_cohort_folder, tmp_path / "a.parquet", REFERENCE_DATE)
    assert load_cohort(tmp_path / "a.parquet").simulated


def test_packing_refuses(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a.csv: a packed cohort is a .parquet file; name it so"):
        pack(tiny_cohort_folder, tmp_path / "a.csv", REFERENCE_DATE)
    (tiny_cohort_folder / "trainset" / "P1" / "000001.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"P1/000001.jpg: truncated or unreadable picture \(empty file\)"):
        pack(tiny_cohort_folder, tmp_path / "a.parquet", REFERENCE_DATE)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_damaged_files(tiny_packed: Path, tmp_path: Path) -> None:
    data = tiny_packed.read_bytes()
    damaged = tmp_path / "damaged.parquet"
    for content in (b"", b"PAR1", b"not parquet at all", data[: len(data) // 2], data[:-1], data[1:]):
        damaged.write_bytes(content)
        refused(damaged, r"damaged.parquet: not a Parquet file, or a damaged one \(.+\); pack the cohort again")
    refused(tmp_path / "absent.parquet", "absent.parquet: not a Parquet file, or a damaged one")


def test_one_changed_byte_in_a_picture_is_noticed(tiny_packed: Path) -> None:
    data = bytearray(tiny_packed.read_bytes())
    start = data.index(b"\xff\xd8\xff")  # the first JPEG
    data[start + 1500] ^= 1
    tiny_packed.write_bytes(bytes(data))
    refused(tiny_packed, "a damaged one .*pack the cohort again")


@pytest.mark.parametrize(
    "description",
    [
        None,
        b"not json",
        b"[1]",
        b"{}",
        json.dumps({"format": 1, "name": "x", "reference_date": "never", "simulated": False}).encode(),
        json.dumps({"format": 1, "name": "x", "reference_date": "2020-01-01", "simulated": "no"}).encode(),
        json.dumps({"format": 1, "name": "a\nb", "reference_date": "2020-01-01", "simulated": False}).encode(),
    ],
)
def test_files_of_others(tiny_packed: Path, description: bytes | None) -> None:
    table = pq.read_table(tiny_packed).replace_schema_metadata(
        {packed.METADATA: description} if description is not None else None
    )
    pq.write_table(table, tiny_packed)
    refused(tiny_packed, "tiny.parquet: not a cohort packed by lymphtune; make one with lymphtune pack")


def test_another_format(tiny_packed: Path) -> None:
    table, metadata = pq.read_table(tiny_packed), pq.read_schema(tiny_packed).metadata
    other = metadata[packed.METADATA].replace(b'"format": 1', b'"format": 2')
    pq.write_table(table.replace_schema_metadata({packed.METADATA: other}), tiny_packed)
    refused(tiny_packed, "packed in format 2, this version reads 1; pack the cohort again")


def test_columns_and_types(tiny_packed: Path) -> None:
    metadata, table = pq.read_schema(tiny_packed).metadata, pq.read_table(tiny_packed)
    pq.write_table(table.drop_columns(["sex", "label"]), tiny_packed)
    refused(tiny_packed, "no column label, sex; pack the cohort again")
    texts = table.set_column(1, "label", table["label"].cast(pa.string())).replace_schema_metadata(metadata)
    pq.write_table(texts, tiny_packed)
    refused(tiny_packed, "column label is not one of type int64; pack the cohort again")
    pq.write_table(table.slice(0, 0), tiny_packed)
    refused(tiny_packed, "no picture in it; pack the cohort again")


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("patient", "../P1", "patient '../P1' has an id that cannot name a folder"),
        ("patient", None, "has a missing value"),
        ("label", 2, "has a label other than 0, 1 and -1"),
        ("sex", "f", "has a sex other than F, M and nothing"),
        ("sex", None, "has a missing value"),
        ("age_years", -1.0, "has an age outside 0-120 years"),
        ("age_years", 121.0, "has an age outside 0-120 years"),
        ("age_years", np.inf, "has an age outside 0-120 years"),
        ("lymphocytes_g_per_l", 0.0, "has a lymphocyte count that is not above 0"),
        ("lymphocytes_g_per_l", np.inf, "has a lymphocyte count that is not above 0"),
        ("lymphocytes_g_per_l", None, "has a missing value"),
        ("picture", "", "has a picture without a proper name"),
        ("picture", "a\nb", "has a picture without a proper name"),
    ],
)
def test_values(tiny_packed: Path, column: str, value: object, problem: str) -> None:
    def change(rows: pd.DataFrame) -> pd.DataFrame:
        values = rows[column].astype(object)
        values[rows["patient"] == "P3"] = value
        return rows.assign(**{column: values})

    rewrite(tiny_packed, change)
    refused(tiny_packed, rf"tiny.parquet: patient .* {problem}|tiny.parquet: {problem}")


def test_rows_that_do_not_fit_together(tiny_packed: Path) -> None:
    original = tiny_packed.read_bytes()

    def after(change: Callable[[pd.DataFrame], pd.DataFrame], message: str) -> None:
        tiny_packed.write_bytes(original)
        rewrite(tiny_packed, change)
        refused(tiny_packed, message)

    def label_of_one_row(rows: pd.DataFrame) -> pd.DataFrame:
        rows.loc[1, "label"] = 1 - rows.loc[1, "label"]
        return rows

    after(label_of_one_row, "patient 'P1' has attributes that differ from picture to picture")
    after(lambda rows: pd.concat([rows[1:], rows[:1]]), "patient 'P1' has rows in two places")
    after(lambda rows: rows[::-1], "patients are not in order of id; pack the cohort again")
    after(lambda rows: pd.concat([rows[:1], rows]), "patient 'P1' has two pictures of one name")
    after(lambda rows: rows.assign(encoded=[None, *rows["encoded"][1:]]), "P1/000000.jpg: no picture, or an oversized")
    after(lambda rows: rows.assign(encoded=[b"x", *rows["encoded"][1:]]), "P1/000000.jpg: truncated or unreadable")


def test_a_row_group_too_large_to_hold(tiny_packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MAX_GROUP_BYTES", 1000)
    refused(tiny_packed, r"row group 0 takes .* kB, over 1.0 kB; pack the cohort again")


def repeat_first(path: Path, count: int, patient: str, encoded: bytes) -> None:
    """Write the first row so often, patient and picture as one word of a dictionary each."""
    whole = pq.read_table(path)
    table = whole.take(pa.array(np.zeros(count, dtype=np.int64)))
    names = pa.array([f"{number}.jpg" for number in range(count)])
    table = table.set_column(table.schema.get_field_index("picture"), "picture", names)
    for name, value in {"patient": patient, "encoded": encoded}.items():
        words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int32)), pa.array([value]))
        table = table.set_column(table.schema.get_field_index(name), name, words)
    options = {"store_schema": False, "dictionary_pagesize_limit": 2**25, "compression": "zstd"}
    with pq.ParquetWriter(path, table.schema, **options) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({packed.METADATA: whole.schema.metadata[packed.METADATA]})


def test_a_file_that_would_unfold_is_refused(tiny_packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word of a dictionary stands for any number of rows, and of copies of a long text."""
    repeat_first(tiny_packed, 3000, "P" * 500_000, b"")
    assert tiny_packed.stat().st_size < 100_000
    refused(tiny_packed, "texts of over 1.1 GB")
    monkeypatch.setattr(packed, "MAX_GROUP_ROWS", 1000)
    refused(tiny_packed, "3000 pictures in row group 0, over 1000")


def test_one_picture_in_many_rows_is_held_once(tiny_packed: Path) -> None:
    repeat_first(tiny_packed, 64, "P1", bytes(10_000_000))
    (group,) = packed.survey_packed(tiny_packed, None).sources(range(1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert sum(len(data) == 10_000_000 for _, _, data in group.read()) == 64
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 300  # MB; 640 all at once
