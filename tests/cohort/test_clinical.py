import codecs
import math
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lymphtune.cohort.clinical import ATTRIBUTES, id_problem, read_clinical
from lymphtune.cohort.dates import read_date
from lymphtune.errors import InputError

DAY = date(2020, 1, 1)
HEADER = "ID,LABEL,GENDER,DOB,LYMPH_COUNT"


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "clinical_annotation.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refused(folder: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_clinical(write(folder, text), DAY)


def with_row(**changes: str) -> str:
    values = {"ID": "P2", "LABEL": "1", "GENDER": "M", "DOB": "1/1/1950", "LYMPH_COUNT": "12.5"} | changes
    return f"{HEADER}\nP1,0,F,1/1/1960,4.5\n{','.join(values.values())}\n"


def test_values_types_and_rows(tmp_path: Path) -> None:
    text = (
        ",ID,LABEL,GENDER,DOB,LYMPH_COUNT\n0,P9,1,f,12/31/1959,12.83\n\n1,NA,,m,31-12-1959,4e0\n2,P1,-1,,2/29/1960,7\n"
    )
    table = read_clinical(write(tmp_path, text), DAY)
    assert tuple(table.columns) == ATTRIBUTES
    assert table["patient"].tolist() == ["P9", "NA", "P1"]
    assert table["label"].tolist() == [1, -1, -1]
    assert table["sex"].tolist() == ["F", "M", ""]
    assert table["lymphocytes_g_per_l"].tolist() == [12.83, 4.0, 7.0]
    assert table["age_years"].tolist()[0] == table["age_years"].tolist()[1] == (DAY - date(1959, 12, 31)).days / 365.25
    assert table.index.tolist() == [2, 4, 5]  # as a spreadsheet numbers them, the blank row counted
    text_kind = str(pd.Series(["text"]).dtype)  # object in pandas 2, str in pandas 3
    assert [str(kind) for kind in table.dtypes] == [text_kind, "int64", text_kind, "float64", "float64"]


@pytest.mark.parametrize("start", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_bom_line_ends_spaces_and_quotes(tmp_path: Path, start: bytes, end: str) -> None:
    lines = [' ID , LABEL,DOB,"LYMPH_COUNT"', ' "P\u00e9 1" , 1.0 ,"1/2/1950" , 4.5 ', ",,,"]
    table = read_clinical(write(tmp_path, start + end.join(lines).encode()), DAY)
    assert table[["patient", "label", "sex"]].to_numpy().tolist() == [["P\u00e9 1", 1, ""]]
    assert table["age_years"].item() == pytest.approx(69.996, abs=1e-3)


@given(st.dates(date(1, 1, 1)))
def test_both_formats_name_the_same_day(day: date) -> None:
    year = f"{day.year:04d}"
    assert read_date(f"{day.month}/{day.day}/{year}") == day
    assert read_date(f"{day.month:02d}/{day.day:02d}/{year}") == day
    assert read_date(f"{day.day:02d}-{day.month:02d}-{year}") == day


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 9999))
def test_a_date_is_never_guessed(first: int, second: int, year: int) -> None:
    """Month first with slashes, day first with dashes, and no other day in place of one that is not there."""
    slashed, dashed = read_date(f"{first}/{second}/{year:04d}"), read_date(f"{first}-{second}-{year:04d}")
    assert slashed is None or (slashed.month, slashed.day, slashed.year) == (first, second, year)
    assert dashed is None or (dashed.day, dashed.month, dashed.year) == (first, second, year)


@given(st.text(max_size=12))
def test_any_text_is_a_day_or_none(text: str) -> None:
    assert read_date(text) is None or text.isascii()


@pytest.mark.parametrize(
    "text", ["31/02/1950", "2/30/1950", "30-02-1950", "1950-02-03", "1/2/50", "1.2.1950", "1/2-1950", "NA"]
)
def test_unreadable_dates(tmp_path: Path, text: str) -> None:
    refused(
        tmp_path,
        with_row(DOB=text),
        rf"clinical_annotation.csv, row 3 \(P2\): DOB '{text}' is not a date; expected M/D/YYYY or DD-MM-YYYY",
    )


def test_a_missing_date_names_what_allows_one(tmp_path: Path) -> None:
    message = r'row 3 \(P2\): DOB is missing; expected M/D/YYYY .*; fill it in, or write in cohort.yaml .*`missing: ""`'
    refused(tmp_path, with_row(DOB=""), message)


def test_dates_out_of_range(tmp_path: Path) -> None:
    refused(tmp_path, with_row(DOB="1/2/2020"), r"row 3 \(P2\): DOB '1/2/2020' is after the reference date 2020-01-01")
    refused(
        tmp_path, with_row(DOB="1/1/1850"), r"row 3 \(P2\): DOB '1/1/1850' makes 170 years at 2020-01-01; expected 120"
    )


@pytest.mark.parametrize("text", ["abc", "NA", "nan", "inf", "-inf", "1_000", "0x10", "12 5", "\u0661"])
def test_counts_that_are_no_number(tmp_path: Path, text: str) -> None:
    refused(
        tmp_path, with_row(LYMPH_COUNT=text), rf"row 3 \(P2\): LYMPH_COUNT '{text}' is not a number; expected a number"
    )


@pytest.mark.parametrize("text", ["0", "-4.2", "1e999", "1e-999"])
def test_counts_out_of_range(tmp_path: Path, text: str) -> None:
    refused(tmp_path, with_row(LYMPH_COUNT=text), rf"row 3 \(P2\): LYMPH_COUNT '{text}' is out of range; .* above 0")


def test_other_values(tmp_path: Path) -> None:
    refused(tmp_path, with_row(LYMPH_COUNT=""), r"row 3 \(P2\): LYMPH_COUNT is missing; expected a number above 0")
    refused(tmp_path, with_row(LYMPH_COUNT='"12,5"'), r"LYMPH_COUNT '12,5' is not a number; .* decimal point")
    refused(tmp_path, with_row(LYMPH_COUNT="12,5"), "row 3: 6 values, the header has 5 columns; .* a point in numbers")
    refused(tmp_path, with_row(LABEL="2"), r"row 3 \(P2\): LABEL '2'; expected 0 \(reactive\), 1 \(tumoral\) or -1")
    refused(tmp_path, with_row(GENDER="x"), r"row 3 \(P2\): GENDER 'x'; expected F, M or nothing")
    refused(tmp_path, with_row(ID="P1"), "row 3: ID 'P1' is in row 2 already; expected one row per patient")


@pytest.mark.parametrize(
    ("patient", "problem"),
    [
        ("", "is empty"),
        ("..", "starts with a dot"),
        (".hidden", "starts with a dot"),
        ("../P1", "starts with a dot"),
        ("a/b", "holds a path separator"),
        ("a\\b", "holds a path separator"),
        ("x" * 101, "has 101 characters, over 100"),
        ("a\tb", "holds a character that cannot be printed"),
        ("a\u202eb", "holds a character that cannot be printed"),
        ("CON", "is a device on Windows"),
        ("nul.txt", "is a device on Windows"),
        ("P1.", "ends with a dot"),
        ("=1+1", "begins as a formula does"),
        ("@P1", "begins as a formula does"),
    ],
)
def test_ids_that_cannot_name_a_folder(tmp_path: Path, patient: str, problem: str) -> None:
    refused(tmp_path, with_row(ID=patient), f"clinical_annotation.csv, row 3: ID .* {problem}")


@given(st.text(max_size=110))
def test_an_accepted_id_is_one_plain_name(patient: str) -> None:
    if id_problem(patient) is None:
        assert Path("root", patient).parent == Path("root")
        assert Path("root", patient).name == patient
        assert "\0" not in patient


def test_files_that_are_no_table(tmp_path: Path) -> None:
    refused(tmp_path, "", "clinical_annotation.csv: empty; expected the columns ID, LABEL, DOB, LYMPH_COUNT")
    refused(tmp_path, "\n\n", "clinical_annotation.csv: empty")
    refused(tmp_path, HEADER, "a header and no patient below it")
    refused(tmp_path, "ID,LABEL,DOB\nP1,1,1/1/1950\n", "no column LYMPH_COUNT; found 'ID', 'LABEL', 'DOB'; expected")
    refused(
        tmp_path,
        "ID,LABLE,DOB,LYMPH\nP1,1,1/1/1950,4\n",
        r"by commas; did you mean 'LABLE' for LABEL, 'LYMPH' for LYMPH_COUNT\? Ren",
    )
    refused(tmp_path, "PATIENT_ID,LABEL,DOB,LYMPH_COUNT\n", r"did you mean 'PATIENT_ID' for ID\?")
    refused(tmp_path, "CENTRE,LABEL,DOB,LYMPH_COUNT\n", "separated by commas$")
    refused(tmp_path, "ID;LABEL;DOB;LYMPH_COUNT\n", "found 'ID;LABEL;DOB;LYMPH_COUNT'; .* separated by commas")
    refused(tmp_path, f"{HEADER},LABEL\n", "column LABEL occurs twice; keep one")
    refused(tmp_path, f"{HEADER}\nP1,1\n", "row 2: 2 values, the header has 5 columns")
    refused(tmp_path, f"{HEADER}\nP\0,1,F,1/1/1950,4\n", "row 2: a NUL character")
    refused(tmp_path, f"{HEADER}\nP\u00e9,1,F,1/1/1950,4\n".encode("latin-1"), "row 2: byte 0xe9 is not UTF-8")
    refused(tmp_path, HEADER.encode("utf-16"), "row 1: byte 0xff is not UTF-8")
    refused(tmp_path, f"{HEADER}\nP1,1,F,1/1/1950,{'4' * 200_000}\n", r"row 2: not CSV \(field larger than field limit")


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"absent.csv: cannot be read \(No such file or directory\)"):
        read_clinical(tmp_path / "absent.csv", DAY)
    monkeypatch.setattr("lymphtune.cohort.table.MAX_BYTES", 10)
    refused(tmp_path, HEADER, "over 0 MB; expected a table with one row per patient")


@given(st.floats(min_value=1e-6, max_value=1e6))
def test_counts_come_back_as_written(tmp_path_factory: pytest.TempPathFactory, count: float) -> None:
    table = read_clinical(write(tmp_path_factory.getbasetemp(), with_row(LYMPH_COUNT=repr(count))), DAY)
    assert math.isclose(table["lymphocytes_g_per_l"].iloc[1], count, rel_tol=0)
