"""Ages: at each patient's examination where the table says when that was, else counted to one day, which is said."""

import csv
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from lymphtune.cohort import load_cohort, survey_cohort
from lymphtune.cohort.ages import age_note
from lymphtune.cohort.clinical import read_clinical
from lymphtune.cohort.layout import Layout
from lymphtune.cohort.packed import pack, read_packed
from lymphtune.cohort.pseudonyms import Pseudonyms
from lymphtune.cohort.table import one_edit_apart
from lymphtune.doctor import examine
from lymphtune.errors import InputError

DAY = date(2020, 1, 1)
TABLE = "clinical_annotation.csv"


def written(folder: Path, *rows: str) -> Path:
    path = folder / TABLE
    path.write_text("\n".join(rows) + "\n")
    return path


def with_column(folder: Path, name: str, of: Callable[[dict[str, str]], str], without: str = "") -> Path:
    """Give the folder's table one column more, and take one out."""
    with (folder / TABLE).open(newline="") as file:
        rows = [{**row, name: of(row)} for row in csv.DictReader(file)]
    for row in rows:
        row.pop(without, None)
    with (folder / TABLE).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_the_age_is_that_at_the_examination(tmp_path: Path) -> None:
    """Born in May 1951 and examined in 2026: 74.6 years, not the 68.6 of a fixed day in 2020."""
    path = written(
        tmp_path, "ID,LABEL,DOB,EXAMINED_ON,LYMPH_COUNT", "P1,0,5/1/1951,1/1/2026,4.5", "P2,1,1/1/2021,1/2/2026,9"
    )
    assert read_clinical(path, DAY)["age_years"].tolist() == pytest.approx([74.67, 5.0], abs=0.01)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1/1/2021,5/1/2019,9", "DOB '1/1/2021' is after the examination on 5/1/2019; correct one of them"),
        ("1/1/1850,5/1/2019,9", "DOB '1/1/1850' makes 169 years at 2019-05-01; expected 120 at most"),
        ("1/1/1950,,9", "EXAMINED_ON is missing; expected M/D/YYYY or DD-MM-YYYY; fill it in, or write in cohort.yaml"),
        ("1/1/1950,2019,9", "EXAMINED_ON '2019' is not a date; expected M/D/YYYY"),
    ],
)
def test_a_day_of_examination_that_does_not_fit_is_refused(tmp_path: Path, row: str, message: str) -> None:
    path = written(tmp_path, "ID,LABEL,DOB,EXAMINED_ON,LYMPH_COUNT", f"P1,0,{row}")
    with pytest.raises(InputError, match=message):
        read_clinical(path, DAY)


def test_a_birth_after_the_reference_date_names_the_remedies(tmp_path: Path) -> None:
    path = written(tmp_path, "ID,LABEL,DOB,LYMPH_COUNT", "P1,0,1/1/2021,4.5")
    with pytest.raises(InputError, match=r"after the reference date 2020-01-01; .*--reference-date, .* EXAMINED_ON"):
        read_clinical(path, DAY)
    assert read_clinical(path, date(2026, 1, 1))["age_years"].tolist() == pytest.approx([5.0], abs=0.01)


def test_the_study_s_table_may_give_ages_in_place_of_dates(tiny_cohort_folder: Path) -> None:
    folder = with_column(tiny_cohort_folder, "AGE", lambda row: "61.5", without="DOB")
    cohort = load_cohort(folder)
    assert set(cohort.patients["age_years"]) == {61.5} and cohort.ages == "examination"
    assert age_note(cohort) == "ages are those at the examination: 61.5 to 61.5 years"
    with pytest.raises(InputError, match=r"no column DOB \(or AGE\); found"):
        load_cohort(with_column(folder, "OTHER", lambda row: "", without="AGE"))


def test_ages_beside_dates_of_birth_are_not_read_and_that_is_said(tiny_cohort_folder: Path) -> None:
    before = load_cohort(tiny_cohort_folder)
    folder = with_column(tiny_cohort_folder, "AGE", lambda row: "61.5")
    after = load_cohort(folder)
    assert after.hash == before.hash and after.ages == "reference_date"
    assert after.notes[0].startswith("column AGE beside DOB is not read; `age_years: AGE` in cohort.yaml")
    assert any(finding.text == after.notes[0] for finding in examine(folder).findings)
    (folder / "cohort.yaml").write_text("columns: {age_years: AGE}")
    assert set(load_cohort(folder).patients["age_years"]) == {61.5} and load_cohort(folder).notes == ()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("{age_years: A, examined_on: E}", "columns: examined_on and age_years: name one of the two"),
        ("{birth_date: null, examined_on: E}", "columns: examined_on: needs birth_date"),
        ("{examined_on: SEEN}", "no column SEEN"),
    ],
)
def test_a_layout_that_contradicts_itself_is_refused(tiny_cohort_folder: Path, columns: str, message: str) -> None:
    (tiny_cohort_folder / "cohort.yaml").write_text(f"columns: {columns}")
    with pytest.raises(InputError, match=message):
        load_cohort(tiny_cohort_folder)


def test_a_cohort_of_one_s_own_names_its_column(tiny_cohort_folder: Path) -> None:
    folder = with_column(tiny_cohort_folder, "SEEN", lambda row: "1/1/2015")
    assert load_cohort(folder).ages == "reference_date"
    (folder / "cohort.yaml").write_text("columns: {examined_on: SEEN}")
    examined, counted = load_cohort(folder), load_cohort(folder, date(2015, 1, 1))
    assert examined.ages == counted.ages == "examination"
    (folder / "cohort.yaml").unlink()
    counted = load_cohort(folder, date(2015, 1, 1))
    assert examined.patients["age_years"].tolist() == counted.patients["age_years"].tolist()


@pytest.mark.parametrize("header", ["Gender", "GENDER ", "Examined on", "examined_on", "Gendr", "GENDRE", "EXAMIND_ON"])
def test_an_optional_column_spelt_otherwise_is_refused(tmp_path: Path, header: str) -> None:
    path = written(tmp_path, f"ID,LABEL,DOB,LYMPH_COUNT,{header}", "P1,0,1/1/1950,4.5,")
    if header.strip() == "GENDER":  # spaces round a name are left aside, as round a value
        assert read_clinical(path, DAY)["sex"].tolist() == [""]
        return
    with pytest.raises(InputError, match=rf"column '{header}' is spelt [A-Z_]+ where it is read; rename it, or name"):
        read_clinical(path, DAY)
    other = written(tmp_path, f"ID,LABEL,DOB,LYMPH_COUNT,a {header}", "P1,0,1/1/1950,4.5,")
    assert read_clinical(other, DAY)["sex"].tolist() == [""]


@pytest.mark.parametrize("header", ["EXAMINED_BY", "GENDER_ID", "TENDERS", "ON"])
def test_a_column_that_is_near_an_optional_one_by_two_letters_is_left_aside(tmp_path: Path, header: str) -> None:
    path = written(tmp_path, f"ID,LABEL,DOB,LYMPH_COUNT,{header}", "P1,0,1/1/1950,4.5,x")
    assert read_clinical(path, DAY)["sex"].tolist() == [""]


def test_a_column_one_slip_away_is_left_aside_where_the_layout_says_or_uses_it(tmp_path: Path) -> None:
    path = written(tmp_path, "ID,LABEL,DOB,LYMPH_COUNT,GENDR", "P1,0,1/1/1950,4.5,x")
    layout = Layout.model_validate({"columns": {"sex": None}})
    assert read_clinical(path, DAY, layout)["sex"].tolist() == [""]
    told = Layout.model_validate({"attributes": {"told": {"column": "GENDR", "kind": "categorical"}}})
    assert read_clinical(path, DAY, told)["told"].tolist() == ["x"]


@pytest.mark.parametrize(
    ("word", "other", "near"),
    [
        ("gender", "gendr", True),
        ("gender", "genders", True),
        ("gender", "gendre", True),
        ("gender", "gander", True),
        ("gender", "gender", True),
        ("gender", "gendres", False),
        ("gender", "ender", False),
        ("gender", "regend", False),
        ("gender", "", False),
        ("sno", "son", True),
        ("abcd", "badc", False),
    ],
)
def test_one_slip(word: str, other: str, near: bool) -> None:
    assert one_edit_apart(word, other) == one_edit_apart(other, word) == near


def test_what_ages_are_counted_to_is_said(tiny_cohort_folder: Path) -> None:
    cohort = load_cohort(tiny_cohort_folder)
    assert age_note(cohort).startswith("ages are counted to 2020-01-01: 58.8 to 85.3 years (`--reference-date` counts")
    assert "EXAMINED_ON (`examined_on` in cohort.yaml)" in age_note(cohort)
    assert age_note(load_cohort("simulated")).startswith("ages are counted to 2020-01-01: ")
    (tiny_cohort_folder / "cohort.yaml").write_text("columns: {birth_date: null}")
    assert age_note(load_cohort(tiny_cohort_folder)) == ""


def test_the_doctor_says_what_ages_are_counted_to(tiny_cohort_folder: Path) -> None:
    assert "age at 2020-01-01 59 to 85, median" in "\n".join(examine(tiny_cohort_folder).summary.lines)
    with_column(tiny_cohort_folder, "EXAMINED_ON", lambda row: "1/1/2015")
    assert "age at the examination 54 to 80, median" in "\n".join(examine(tiny_cohort_folder).summary.lines)


def test_a_packed_cohort_keeps_ages_at_the_examination(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    """They are counted to no other day; ages at a reference date are."""
    pack(tiny_cohort_folder, tmp_path / "counted.parquet", DAY)
    counted = read_packed(tmp_path / "counted.parquet", date(2010, 1, 1))
    assert counted.patients["age_years"].max() == pytest.approx(75.3, abs=0.05)
    folder = with_column(tiny_cohort_folder, "EXAMINED_ON", lambda row: "1/1/2015")
    pack(folder, tmp_path / "examined.parquet", DAY)
    packed, read = read_packed(tmp_path / "examined.parquet", date(2010, 1, 1)), load_cohort(folder)
    assert packed.ages == "examination"
    assert packed.patients["age_years"].tolist() == read.patients["age_years"].tolist()
    assert read_packed(tmp_path / "examined.parquet", DAY).hash == read.hash


def test_a_packed_cohort_of_births_after_the_reference_date_names_the_remedy(
    tiny_cohort_folder: Path, tmp_path: Path
) -> None:
    pack(tiny_cohort_folder, tmp_path / "tiny.parquet", DAY)
    with pytest.raises(InputError, match=r"years at 1950-01-01; count ages to another day with --reference-date"):
        survey_cohort(tmp_path / "tiny.parquet", date(1950, 1, 1))


def test_pseudonyms_keep_what_ages_are_counted_to(tiny_cohort_folder: Path) -> None:
    folder = with_column(tiny_cohort_folder, "EXAMINED_ON", lambda row: "1/13/2015")
    cohort = load_cohort(folder, pseudonyms=Pseudonyms(b"key"))
    assert cohort.ages == "examination"
    assert all(age == round(age, 1) for age in cohort.patients["age_years"])
