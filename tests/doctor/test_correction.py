"""The corrected copy: what is certain is corrected and written down, what is not stays, nothing changes in place."""

import csv
import hashlib
import os
from datetime import date
from pathlib import Path

import pytest

from lymphtune.cohort import REFERENCE_DATE, load_cohort
from lymphtune.doctor import examine
from lymphtune.doctor.correction import correct
from lymphtune.errors import InputError
from tests.doctor import corpus

CORRECTED = [
    corpus.semicolons,
    corpus.tabs,
    corpus.utf_16,
    corpus.an_accent_in_latin_1,
    corpus.an_accent_in_utf_8_where_cohort_yaml_says_latin_1,
    corpus.a_byte_order_mark,
    corpus.a_column_in_lower_case,
    corpus.a_row_in_another_case_than_its_folder,
    corpus.a_folder_with_more_zeros_than_its_row,
    corpus.sexes_in_words,
    corpus.days_before_months,
    corpus.iso_dates,
    corpus.counts_a_microlitre,
    corpus.counts_in_10_12_a_litre,
    corpus.decimal_commas,
    corpus.an_empty_picture,
    corpus.a_truncated_picture,
    corpus.a_text_with_a_pictures_name,
    corpus.a_decompression_bomb,
    corpus.a_hidden_file,
    corpus.a_picture_that_links_out,
    corpus.a_picture_that_links_to_nothing,
    corpus.a_picture_twice,
]
GUESSES = [
    corpus.dates_with_points_that_say_nothing,
    corpus.days_first_here_and_months_first_there,
    corpus.a_count_a_thousand_times_too_large,
    corpus.a_third_label,
    corpus.ids_that_differ_by_a_zero,
    corpus.a_patient_in_both_sets,
    corpus.commas_between_thousands,
    corpus.a_picture_of_both_roles,
    corpus.a_black_picture,
]


def files_of(folder: Path) -> dict[str, str]:
    """Return the hash of every file below the folder, by its path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def changes_in(out: Path) -> list[dict[str, str]]:
    with (out / "doctor-changes.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("apply", CORRECTED, ids=lambda apply: apply.__name__)
def test_what_is_certain_is_corrected(apply: corpus.Break, tiny_cohort_folder: Path, tmp_path: Path) -> None:
    apply(tiny_cohort_folder)
    before, out = files_of(tiny_cohort_folder), tmp_path / "out"
    changes = correct(tiny_cohort_folder, out, REFERENCE_DATE)
    assert files_of(tiny_cohort_folder) == before
    assert [(one["kind"], one["before"]) for one in changes_in(out)] == [(one.kind, one.before) for one in changes]
    assert len((out / "doctor-changes.txt").read_text().splitlines()) == len(changes) > 0
    kind = next(kind for kind in corpus.KINDS if kind.apply is apply)
    assert kind.check not in {finding.check for finding in examine(out).findings}
    assert len(load_cohort(out).patients) == 15


@pytest.mark.parametrize("apply", GUESSES, ids=lambda apply: apply.__name__)
def test_what_is_not_certain_stays(apply: corpus.Break, tiny_cohort_folder: Path, tmp_path: Path) -> None:
    apply(tiny_cohort_folder)
    correct(tiny_cohort_folder, tmp_path / "out", REFERENCE_DATE)
    kind = next(kind for kind in corpus.KINDS if kind.apply is apply)
    assert kind.check in {finding.check for finding in examine(tmp_path / "out").findings}


def test_values_come_out_as_they_were_before_they_were_spoilt(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    whole = load_cohort(tiny_cohort_folder).patients
    corpus.counts_a_microlitre(tiny_cohort_folder)
    corpus.change(tiny_cohort_folder, "DOB", _day_first)
    corpus.rename(tiny_cohort_folder, "P10", "p10")
    corpus.change(tiny_cohort_folder, "ID", "P10 ", "p10")
    corpus.change(tiny_cohort_folder, "LABEL", lambda text: f"{text}.0")
    corpus.change(tiny_cohort_folder, "note", "two\rlines", "P3")
    corpus.write(tiny_cohort_folder, corpus.rows_of(tiny_cohort_folder), ";", "utf-16")
    correct(tiny_cohort_folder, tmp_path / "out", REFERENCE_DATE)
    mended = load_cohort(tmp_path / "out").patients
    at = whole.index[whole["patient"] == "P10"]
    whole.loc[at, "patient"] = "p10"
    left, right = (table.set_index("patient").sort_index() for table in (whole, mended))
    assert (left.drop(columns="lymphocytes_g_per_l") == right.drop(columns="lymphocytes_g_per_l")).all(axis=None)
    assert right["lymphocytes_g_per_l"].to_numpy() == pytest.approx(left["lymphocytes_g_per_l"].to_numpy())


def _day_first(text: str) -> str:
    """Return a date of the study's two forms as D/M/YYYY."""
    if "/" in text:
        month, day, year = text.split("/")
        return f"{day}/{month}/{year}"
    return text.replace("-", "/")


def test_a_whole_cohort_is_copied_byte_by_byte(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    corpus.change(tiny_cohort_folder, "GENDER", str.upper)
    changes = correct(tiny_cohort_folder, tmp_path / "out", REFERENCE_DATE)
    assert changes == []
    given, copied = files_of(tiny_cohort_folder), files_of(tmp_path / "out")
    assert {name: copied.pop(name) for name in given if name != corpus.TABLE} == {
        name: digest for name, digest in given.items() if name != corpus.TABLE
    }
    assert set(copied) == {corpus.TABLE, "doctor-changes.csv", "doctor-changes.txt"}
    assert corpus.rows_of(tmp_path / "out") == corpus.rows_of(tiny_cohort_folder)
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


def test_no_cell_of_the_log_is_a_formula(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    (tiny_cohort_folder / "=1+1.csv").symlink_to("nothing")
    correct(tiny_cohort_folder, tmp_path / "out", REFERENCE_DATE)
    cells = [cell for change in changes_in(tmp_path / "out") for cell in change.values()]
    assert any("=1+1" in cell for cell in cells)
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)


def test_where_it_may_not_be_written(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    for out, said in (
        (tiny_cohort_folder / "out", "is inside"),
        (tiny_cohort_folder, "exists already"),
        (tmp_path, "exists already"),
    ):
        with pytest.raises(InputError, match=said):
            correct(tiny_cohort_folder, out, REFERENCE_DATE)
    corpus.a_nul_in_the_table(tiny_cohort_folder)
    with pytest.raises(InputError, match=r"correct this first: .*NUL"):
        correct(tiny_cohort_folder, tmp_path / "out", date(2020, 1, 1))
    assert not (tmp_path / "out").exists()


def test_what_lies_beside_the_cohort_is_left_out_and_told(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    corpus.change(tiny_cohort_folder, "GENDER", str.upper)
    (tiny_cohort_folder / "README").write_text("of the cohort")
    (tiny_cohort_folder / "runs").mkdir()
    (tiny_cohort_folder / "trainset" / "Thumbs.db").write_text("x")
    (tiny_cohort_folder / "testset" / ".DS_Store").write_text("x")
    corpus.a_patients_folder_that_links_out(tiny_cohort_folder)
    os.mkfifo(tiny_cohort_folder / "trainset" / "P3" / "pipe.jpg")
    changes = correct(tiny_cohort_folder, tmp_path / "out", REFERENCE_DATE)
    assert {(one.kind, one.where.partition(":")[0]) for one in changes} == {
        ("other folder", "runs"),
        ("other file", "trainset/Thumbs.db"),
        ("hidden file", "testset/.DS_Store"),
        ("link", "trainset/P2"),
        ("no plain file", "trainset/P3/pipe.jpg"),
    }
    assert (tmp_path / "out" / "README").read_text() == "of the cohort"
    assert not {"runs", "trainset/Thumbs.db", "testset/.DS_Store", "trainset/P2"} & {
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*")
    }


@pytest.mark.parametrize(
    ("row", "folder", "one"),
    [
        ("p3", "P3", True),
        ("P3", "P003", True),
        ("P 3", "P3", True),
        ("P-3", "P3", False),
        ("P3 1", "P31", False),
        ("P30", "P3", False),
    ],
)
def test_ids_are_one_only_by_case_spaces_and_zeros(
    row: str, folder: str, one: bool, tiny_cohort_folder: Path, tmp_path: Path
) -> None:
    corpus.bag(tiny_cohort_folder, "P3").rename(tiny_cohort_folder / "trainset" / folder)
    corpus.change(tiny_cohort_folder, "ID", row, "P3")
    correct(tiny_cohort_folder, tmp_path / "out", REFERENCE_DATE)
    found = {finding.check for finding in examine(tmp_path / "out").findings}
    assert ("no folder" not in found) == one
    assert corpus.rows_of(tmp_path / "out")[1][1] == (folder if one else row)


def test_spaces_and_blank_rows_are_taken_out_and_told(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    corpus.change(tiny_cohort_folder, "GENDER", str.upper)
    table = tiny_cohort_folder / corpus.TABLE
    table.write_text(table.read_text().replace(",P3,", ", P3 ,").replace("3,P11", "\n,,,,,\n3,P11"))
    changes = correct(tiny_cohort_folder, tmp_path / "out", REFERENCE_DATE)
    assert [(one.kind, one.before) for one in changes] == [("spaces round values", "2"), ("blank rows", "2")]
    assert corpus.rows_of(tmp_path / "out")[1][1] == "P3" and len(corpus.rows_of(tmp_path / "out")) == 16


OTHER_LAYOUT = """
table: tabelle/Patienten.csv
separator: ";"
decimal: ","
encoding: cp1252
columns: {patient: Fall, label: Diagnose, sex: null, age_years: Alter, lymphocytes: Lymphozyten}
labels: {reactive: reaktiv, tumoral: [CLL, MCL], to_predict: "?"}
missing: ["", k.A.]
lymphocyte_unit: 1/uL
attributes: {hb: {column: Hb}, material: {column: Material, kind: categorical}}
groups: [Klinik]
pictures: {labelled: "bilder/{patient}", to_predict: "bilder/{patient}"}
"""


def test_a_cohort_of_another_layout_is_examined_and_copied_as_its_layout_says(
    tiny_cohort_folder: Path, tmp_path: Path
) -> None:
    rows = [["Fall", "Diagnose", "Alter", "Lymphozyten", "Hb", "Material", "Klinik"]]
    for place, (_, patient, label, *_, count) in enumerate(corpus.rows_of(tiny_cohort_folder)[1:]):
        word = {"0": "reaktiv", "1": ("CLL", "MCL")[place % 2], "-1": "?"}[label]
        of = [f"{61 + place},5", f"{1000 * float(count):.0f}", "k.A." if place == 3 else f"{9 + place % 5},5"]
        rows.append([patient, word, *of, ("Blut", "Märk")[place % 2], "ABCDEF"[place % 6]])
    (tiny_cohort_folder / corpus.TABLE).unlink()
    (tiny_cohort_folder / "tabelle").mkdir()
    with (tiny_cohort_folder / "tabelle" / "Patienten.csv").open("w", newline="", encoding="cp1252") as file:
        csv.writer(file, delimiter=";").writerows(rows)
    (tiny_cohort_folder / "bilder").mkdir()
    for home in list(tiny_cohort_folder.glob("*set/*")):
        home.rename(tiny_cohort_folder / "bilder" / home.name)
    for home in tiny_cohort_folder.glob("*set"):
        home.rmdir()
    corpus.say(tiny_cohort_folder, OTHER_LAYOUT)
    found = examine(tiny_cohort_folder).findings
    assert {finding.severity for finding in found} <= {"note"}, found
    assert correct(tiny_cohort_folder, tmp_path / "out", REFERENCE_DATE) == []
    left = examine(tmp_path / "out").findings
    assert [(one.check, one.text) for one in left] == [(one.check, one.text) for one in found]
    given, copied = (load_cohort(folder).patients for folder in (tiny_cohort_folder, tmp_path / "out"))
    assert given.equals(copied)
