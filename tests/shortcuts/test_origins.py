"""What files and table tell of patients, whatever their cells are like."""

import csv
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lymphtune.cohort import REFERENCE_DATE, Cohort
from lymphtune.cohort.study import survey_study
from lymphtune.shortcuts.origins import HEADERS_PER_PATIENT, MAX_COPYING_S, Attributes, is_constant, origins

IDS = ["P1", "P2", "P10"]  # in the cohort's order


def of_ids(folder: Path, ids: list[str]) -> Cohort:
    """Return these patients as a cohort of blank pictures; what is told does not depend on pixels."""
    surveyed = survey_study(folder, REFERENCE_DATE)
    rows = [surveyed.patients["patient"].tolist().index(patient) for patient in ids]
    digests = [digest for row in rows for digest in surveyed.digests(range(row, row + 1))[0]]
    blank = np.zeros((len(digests), 1, 1, 3), np.uint8)
    return Cohort("made up", surveyed.patients.iloc[rows].reset_index(drop=True), blank, digests)


def found(folder: Path, ids: list[str] | None = None) -> Attributes:
    named = IDS if ids is None else ids
    return origins(folder, of_ids(folder, named), np.arange(len(named)))


def pictures(folder: Path, patient: str) -> list[Path]:
    return sorted(next(path for path in folder.glob(f"*/{patient}")).iterdir())


def each(folder: Path, change: Callable[[Path], None], patient: str = "P2") -> Attributes:
    for path in pictures(folder, patient):
        change(path)
    return found(folder)


def rewritten(folder: Path, change: Callable[[dict[str, str], int], object]) -> Attributes:
    """Return what is told once the rows of the table are changed; `change` sees each, and its number."""
    path = folder / "clinical_annotation.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        change(row, number)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return found(folder)


def test_of_a_plain_folder_only_what_differs_is_told(tiny_cohort_folder: Path) -> None:
    told = found(tiny_cohort_folder)
    assert set(told) == {"order of rows in the table", "format of DOB", "size of picture files", "spread of file sizes"}
    assert all(len(values) == len(IDS) for values in told.values())
    assert sorted(told["order of rows in the table"]) == [0, 1, 2]


def test_means_that_differ_in_the_last_digit_are_alike() -> None:
    assert is_constant(np.array([0.1, (0.1 + 0.1 + 0.1) / 3])) and not is_constant(np.array([0.1, 0.1001]))
    assert (
        not is_constant(np.array([np.nan, np.nan]))
        and is_constant(np.array(["a", "a"]))
        and not is_constant(np.array(["a", "b"]))
    )


def test_sizes_are_of_the_encoded_files(tiny_cohort_folder: Path) -> None:
    sizes = [np.log([path.stat().st_size for path in pictures(tiny_cohort_folder, patient)]) for patient in IDS]
    told = found(tiny_cohort_folder)
    np.testing.assert_allclose(told["size of picture files"], [size.mean() for size in sizes])
    np.testing.assert_allclose(told["spread of file sizes"], [size.std() for size in sizes])


def test_dates_of_files_are_told_where_they_are_not_those_of_one_copying(tiny_cohort_folder: Path) -> None:
    now = 1.6e9
    for patient in IDS:
        each(tiny_cohort_folder, lambda path: os.utime(path, (now, now)), patient)
    assert "date of picture files" not in found(tiny_cohort_folder)
    told = each(tiny_cohort_folder, lambda path: os.utime(path, (now, now + MAX_COPYING_S + 10)))
    assert told["date of picture files"].tolist() == [now, now + MAX_COPYING_S + 10, now]


def test_headers_tell_dimensions_format_and_compression(tiny_cohort_folder: Path) -> None:
    def scaled(path: Path) -> None:
        Image.open(path).resize((448, 224)).save(path, quality=85)

    dimensions = each(tiny_cohort_folder, scaled)["dimensions of pictures"]
    np.testing.assert_allclose(np.exp(dimensions), [[224, 224], [448, 224], [224, 224]])
    coarse = each(tiny_cohort_folder, lambda path: Image.open(path).copy().save(path, quality=20), "P10")
    assert coarse["compression of pictures"][2] > coarse["compression of pictures"][0] + 1

    def as_png(path: Path) -> None:
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()

    assert each(tiny_cohort_folder, as_png, "P1")["format of pictures"].tolist() == ["PNG RGB", "JPEG RGB", "JPEG RGB"]


def dated(path: Path, stamp: str) -> None:
    picture = Image.open(path).copy()
    exif = Image.Exif()
    exif[0x0132] = stamp
    picture.save(path, quality=85, exif=exif)


def test_dates_in_pictures_are_read_and_their_absence_told(tiny_cohort_folder: Path) -> None:
    each(tiny_cohort_folder, lambda path: dated(path, "2019:03:02 10:00:00"), "P1")
    told = each(tiny_cohort_folder, lambda path: dated(path, "2019:03:03 10:00:00"), "P2")
    first, second, unknown = told["date in pictures"]
    assert second - first == 86400 and unknown == pytest.approx((first + second) / 2)
    assert told["pictures without a date"].tolist() == [0, 0, 1]
    nonsense = each(tiny_cohort_folder, lambda path: dated(path, "yesterday"), "P1")
    assert nonsense["pictures without a date"].tolist() == [1, 0, 1]


def test_nothing_is_decoded_and_few_headers_are_read(tiny_cohort_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = pictures(tiny_cohort_folder, "P2")[0]
    for number in range(3 * HEADERS_PER_PATIENT):
        (one.parent / f"more{number:02d}.png").write_bytes(b"")
        Image.open(one).save(one.parent / f"more{number:02d}.png")
    opened = []
    truly = Image.open

    def noted(path: Path, **given: object) -> Image.Image:
        image = truly(path, **given)  # type: ignore[arg-type]
        monkeypatch.setattr(image, "load", lambda: pytest.fail("decoded"))
        opened.append(Path(path).parent.name)
        return image

    monkeypatch.setattr(Image, "open", noted)
    found(tiny_cohort_folder)
    assert opened.count("P2") == HEADERS_PER_PATIENT


def test_the_table_tells_how_it_was_filled_in(tiny_cohort_folder: Path) -> None:
    def change(row: dict[str, str], number: int) -> None:
        row["ward"] = "" if row["ID"] == "P2" else "B"
        row["LYMPH_COUNT"] = {"P1": "5", "P2": "5.25"}.get(row["ID"], "5.5")
        row["DOB"] = "3/27/1961" if row["ID"] == "P10" else "27-03-1961"

    told = rewritten(tiny_cohort_folder, change)
    assert told["missing ward"].tolist() == [0, 1, 0]
    assert told["decimals of LYMPH_COUNT"].tolist() == [0, 2, 1]
    assert told["format of DOB"].tolist() == ["N-N-YYYY", "N-N-YYYY", "N/N/YYYY"]
    assert not any("1961" in str(value) for value in told["format of DOB"])  # a date of birth goes nowhere


def test_a_column_s_name_cannot_break_a_line(tiny_cohort_folder: Path) -> None:
    evil = "a\x1b[31m\nb" + "c" * 100
    told = rewritten(tiny_cohort_folder, lambda row, number: row.update({evil: "" if row["ID"] == "P2" else "x"}))
    (name,) = (name for name in told if name.startswith("missing a"))
    assert name.isprintable() and len(name) < 60


def test_the_label_is_no_attribute_however_it_is_written(tiny_cohort_folder: Path) -> None:
    told = rewritten(tiny_cohort_folder, lambda row, number: row.update(LABEL=row["LABEL"].replace("1", "1.0")))
    assert not any("LABEL" in name for name in told)


def test_a_table_of_other_names_is_read_as_cohort_yaml_says(tiny_cohort_folder: Path) -> None:
    table = tiny_cohort_folder / "clinical_annotation.csv"
    text = table.read_text().replace("LABEL", "diagnosis").replace(",ID", ",case").replace(",DOB", ",born")
    lines = [line.replace(",", ";").replace(".", ",") for line in text.splitlines()]
    (tiny_cohort_folder / "patients.csv").write_text("\n".join(lines).replace(";f;", ";n/a;"))
    table.unlink()
    columns = "{patient: case, label: diagnosis, birth_date: born}"
    said = f"table: patients.csv\nseparator: ';'\ndecimal: ','\nmissing: [n/a]\ncolumns: {columns}\n"
    (tiny_cohort_folder / "cohort.yaml").write_text(said)
    everyone = [f"P{number}" for number in range(1, 16)]
    told = found(tiny_cohort_folder, everyone)
    assert not any("diagnosis" in name or "case" in name for name in told)
    assert told["missing GENDER"].sum() == 1 and set(told["format of born"]) == {"N-N-YYYY", "N/N/YYYY"}


def test_patients_of_other_names_are_found_by_their_pictures(tiny_cohort_folder: Path) -> None:
    cohort = of_ids(tiny_cohort_folder, IDS)
    hidden = replace(cohort, patients=cohort.patients.assign(patient=["c7", "P2", "a0"]))
    plain, told = (origins(tiny_cohort_folder, one, np.arange(3)) for one in (cohort, hidden))
    assert list(told) == list(plain) and len(told) >= 4
    for name, values in plain.items():
        np.testing.assert_array_equal(told[name], values)


def test_a_folder_that_does_not_know_the_patients_tells_nothing(tiny_cohort_folder: Path) -> None:
    cohort = of_ids(tiny_cohort_folder, IDS)
    strangers = replace(cohort, patients=cohort.patients.assign(patient=["a", "b", "c"]))
    unknown = replace(strangers, picture_digests=["0"] * len(cohort.picture_digests))
    assert origins(tiny_cohort_folder, unknown, np.arange(3)) == {}


def test_a_damaged_picture_is_passed_over(tiny_cohort_folder: Path) -> None:
    whole = found(tiny_cohort_folder)
    one = pictures(tiny_cohort_folder, "P1")[0]
    one.write_bytes(one.read_bytes()[:20])
    assert set(found(tiny_cohort_folder)) == set(whole)
