"""A corpus of broken cohorts, made from the tiny one: what the doctor has to say of each, what search and predict do.

    python -m tests.doctor.corpus [--keep FOLDER]

makes them all, has the doctor, a dry run and the reading that a prediction does look at each, and prints a table.
"""

import argparse
import csv
import os
import re
import shutil
import sys
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps

from lymphtune.cohort import REFERENCE_DATE, survey_cohort
from lymphtune.cohort.packed import pack
from lymphtune.doctor import examine
from lymphtune.errors import InputError
from lymphtune.findings import Severity

TABLE = "clinical_annotation.csv"
Break = Callable[[Path], Path | None]


@dataclass(frozen=True)
class Kind:
    """One way to be broken: `severity`, `check` and `says` (a pattern) of the finding; None: it is gone on with."""

    name: str
    apply: Break
    check: str
    severity: Severity
    says: str
    search: str | None  # pattern of the refusal
    predict: str | None

    def make(self, tiny: Path) -> Path:
        """Break the copy of the tiny cohort and return what is to be looked at."""
        return self.apply(tiny) or tiny


KINDS: list[Kind] = []


def breaks(
    check: str, severity: Severity, says: str, search: str | None = None, predict: str | None = "as search"
) -> Callable[[Break], Break]:
    """Take a function into the corpus."""

    def take(apply: Break) -> Break:
        name = apply.__name__.replace("_", " ").strip()
        KINDS.append(Kind(name, apply, check, severity, says, search, search if predict == "as search" else predict))
        return apply

    return take


# ---- what breaking takes


def rows_of(folder: Path) -> list[list[str]]:
    with (folder / TABLE).open(newline="") as file:
        return list(csv.reader(file))


def write(folder: Path, rows: Sequence[Sequence[str]], separator: str = ",", encoding: str = "utf-8") -> None:
    with (folder / TABLE).open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=separator).writerows(rows)


def change(folder: Path, column: str, given: str | Callable[[str], str], *patients: str) -> None:
    """Give the patients, or all, another text in a column; a new column is one that it has not."""
    rows = rows_of(folder)
    if column not in rows[0]:
        rows = [[*rows[0], column], *([*row, ""] for row in rows[1:])]
    at, of = rows[0].index(column), rows[0].index("ID")
    for row in rows[1:]:
        if not patients or row[of] in patients:
            row[at] = given(row[at]) if callable(given) else given
    write(folder, rows)


def say(folder: Path, text: str) -> None:
    (folder / "cohort.yaml").write_text(text)


def bag(folder: Path, patient: str) -> Path:
    return next(folder.glob(f"*set/{patient}"))


def picture(folder: Path, patient: str = "P2", number: int = 0) -> Path:
    return bag(folder, patient) / f"{number:06d}.jpg"


def patients(folder: Path, label: str) -> list[str]:
    return [row[1] for row in rows_of(folder)[1:] if row[2] == label]


def rename(folder: Path, old: str, new: str) -> None:
    bag(folder, old).rename(bag(folder, old).with_name(new))
    change(folder, "ID", new, old)


def another(folder: Path, like: str, patient: str) -> None:
    """Add a patient with the pictures of `like` turned to noise of their own, and values of its own."""
    rows = rows_of(folder)
    row = next(row for row in rows if row[1] == like)
    write(folder, [*rows, [str(len(rows)), patient, row[2], row[3], "7/4/1944", "9.99"]])
    home = bag(folder, like).with_name(patient)
    home.mkdir()
    for number in range(3):
        noise = Image.effect_noise((56, 56), 60).resize((224, 224), Image.Resampling.NEAREST).convert("RGB")
        noise.save(home / f"{number:06d}.jpg")


def forged(path: Path, width: int, height: int) -> None:
    """Write a PNG whose header promises more than there is."""
    Image.new("RGB", (16, 16)).save(path, "PNG")
    data = bytearray(path.read_bytes())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)


def packed(folder: Path) -> Path:
    out = folder.with_suffix(".parquet")
    pack(folder, out, REFERENCE_DATE)
    return out


# ---- the table's form


@breaks("table", "error", "no clinical_annotation.csv", f"no {TABLE} in it")
def no_table(folder: Path) -> None:
    (folder / TABLE).unlink()


@breaks("table", "error", "no clinical_annotation.csv", f"no {TABLE} in it")
def a_folder_in_the_tables_place(folder: Path) -> None:
    (folder / TABLE).unlink()
    (folder / TABLE).mkdir()


@breaks("table", "error", "empty", "empty; expected the columns")
def an_empty_table(folder: Path) -> None:
    (folder / TABLE).write_text("")


@breaks("table", "error", "no patient below the header", "a header and no patient")
def a_header_alone(folder: Path) -> None:
    write(folder, rows_of(folder)[:1])


@breaks("table", "error", "NUL", "a NUL character")
def a_nul_in_the_table(folder: Path) -> None:
    (folder / TABLE).write_bytes((folder / TABLE).read_bytes().replace(b"P3", b"P\0"))


@breaks("table", "error", "not CSV", "not CSV")
def a_cell_of_a_million_characters(folder: Path) -> None:
    change(folder, "note", "x" * 1_000_000, "P3")


@breaks("table", "error", "over 64 MB", "over 64 MB")
def a_table_of_65_megabytes(folder: Path) -> None:
    with (folder / TABLE).open("ab") as file:
        file.truncate(68_000_000)


@breaks("table", "error", "symbolic link out", "symbolic link out")
def a_table_that_links_out(folder: Path) -> None:
    shutil.move(folder / TABLE, folder.with_name("outside.csv"))
    (folder / TABLE).symlink_to(folder.with_name("outside.csv"))


@breaks("separator", "error", "semicolons between values", "no column")
def semicolons(folder: Path) -> None:
    write(folder, rows_of(folder), ";")


@breaks("separator", "error", "tabs between values", "no column")
def tabs(folder: Path) -> None:
    write(folder, rows_of(folder), "\t")


@breaks("separator", "error", "commas between values, where semicolons", "no column")
def commas_where_cohort_yaml_says_semicolons(folder: Path) -> None:
    say(folder, 'separator: ";"')


@breaks("encoding", "error", "UTF-16", "is not UTF-8")
def utf_16(folder: Path) -> None:
    write(folder, rows_of(folder), encoding="utf-16")


@breaks("encoding", "error", "byte 0xe9 is not UTF-8", "is not UTF-8")
def an_accent_in_latin_1(folder: Path) -> None:
    change(folder, "note", "caf\u00e9", "P3")
    write(folder, rows_of(folder), encoding="latin-1")


@breaks("encoding", "warning", "its characters are UTF-8")
def an_accent_in_utf_8_where_cohort_yaml_says_latin_1(folder: Path) -> None:
    change(folder, "note", "caf\u00e9", "P3")
    say(folder, "encoding: latin-1")


@breaks("encoding", "note", "byte order mark")
def a_byte_order_mark(folder: Path) -> None:
    write(folder, rows_of(folder), encoding="utf-8-sig")


@breaks("columns", "error", "no column LYMPH_COUNT", "no column LYMPH_COUNT")
def a_column_missing(folder: Path) -> None:
    write(folder, [row[:-1] for row in rows_of(folder)])


@breaks("columns", "error", "'Id' for 'ID'", "no column ID")
def a_column_in_lower_case(folder: Path) -> None:
    rows = rows_of(folder)
    write(folder, [["Id" if name == "ID" else name for name in rows[0]], *rows[1:]])


@breaks("columns", "error", "'Gender' for 'GENDER'", "column 'Gender' is spelt GENDER")
def an_optional_column_in_lower_case(folder: Path) -> None:
    rows = rows_of(folder)
    write(folder, [["Gender" if name == "GENDER" else name for name in rows[0]], *rows[1:]])


@breaks("columns", "error", "'Examined on' for 'EXAMINED_ON'", "column 'Examined on' is spelt EXAMINED_ON")
def a_day_of_examination_spelt_with_a_space(folder: Path) -> None:
    change(folder, "Examined on", "1/13/2019")


@breaks("columns", "error", "occurs twice", "occurs twice")
def a_column_twice(folder: Path) -> None:
    write(folder, [[*row, row[5]] for row in rows_of(folder)])


@breaks("columns", "error", "columns; expected|2006 columns", "2006 columns")
def two_thousand_columns(folder: Path) -> None:
    write(folder, [[*row, *[str(at) for at in range(2000)]] for row in rows_of(folder)])


@breaks("row length", "error", "row 3 .P12.: 5 values", "5 values, the header has 6")
def a_row_too_short(folder: Path) -> None:
    rows = rows_of(folder)
    write(folder, [*rows[:2], rows[2][:5], *rows[3:]])


@breaks("row length", "error", "7 values", "7 values, the header has 6")
def a_decimal_comma_without_quotes(folder: Path) -> None:
    text = (folder / TABLE).read_text()
    (folder / TABLE).write_text(text.replace(",6.18", ",6,18"))


@breaks("row length", "error", "values", "values, the header has 6")
def a_quote_that_never_closes(folder: Path) -> None:
    text = (folder / TABLE).read_text()
    (folder / TABLE).write_text(text.replace(",P4,", ',"P4,'))


# ---- cohort.yaml


@breaks("layout", "error", "not YAML", "not YAML")
def a_layout_that_is_no_yaml(folder: Path) -> None:
    say(folder, "columns: [a")


@breaks("layout", "error", "has no 'colums'", "has no 'colums'")
def a_misspelt_word_in_the_layout(folder: Path) -> None:
    say(folder, "colums: {patient: ID}")


@breaks("layout", "error", "not a path inside", "not a path inside")
def a_layout_that_leads_out(folder: Path) -> None:
    say(folder, "table: ../other.csv")


@breaks("layout", "error", "not a path inside|expected a path", "not a path inside|expected a path")
def picture_folders_that_lead_out(folder: Path) -> None:
    say(folder, 'pictures: {labelled: "../{patient}"}')


@breaks("layout", "error", "values", "values")
def aliases_that_unfold_to_millions(folder: Path) -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    say(folder, "\n".join(["a0: &a0 [x]", *levels]))


@breaks("layout", "error", "symbolic link out", "symbolic link out")
def a_layout_that_is_a_link_out(folder: Path) -> None:
    folder.with_name("outside.yaml").write_text("{}")
    (folder / "cohort.yaml").symlink_to(folder.with_name("outside.yaml"))


@breaks("layout", "error", "stands for two labels", "stands for two labels")
def a_word_for_two_labels(folder: Path) -> None:
    say(folder, 'labels: {reactive: ["0"], tumoral: ["0", "1"]}')


@breaks("layout", "error", "both describe the cohort", "cohort.yaml and cohort.yml both describe")
def two_layouts(folder: Path) -> None:
    say(folder, "{}")
    (folder / "cohort.yml").write_text("{}")


@breaks("layout", "error", "rename it to cohort.yaml|Rename it to cohort.yaml", "Cohort.YML: not read under this name")
def a_layout_in_capitals(folder: Path) -> None:
    (folder / "Cohort.YML").write_text("{}")


@breaks("table", "error", "but patients.csv: name it in cohort.yaml", "but patients.csv: name it in cohort.yaml")
def a_table_of_another_name(folder: Path) -> None:
    (folder / TABLE).rename(folder / "patients.csv")


def by_site(folder: Path) -> None:
    """Have the pictures in folders of sites, which the table names."""
    for number, (_, patient, *_) in enumerate(rows_of(folder)[1:]):
        site = ("north", "south")[number % 2]
        change(folder, "site", site, patient)
        (folder / "pics" / site).mkdir(parents=True, exist_ok=True)
        shutil.move(bag(folder, patient), folder / "pics" / site / patient)
    shutil.rmtree(folder / "trainset")
    shutil.rmtree(folder / "testset")
    say(folder, "pictures: {labelled: 'pics/{site}/{patient}', to_predict: 'pics/{site}/{patient}'}")


@breaks("wrong folder", "error", r"P3.* in pics/(north|south)/P3, not pics/", "no folder pics/.*/P3, but pics/.*/P3")
def a_patient_at_another_site_than_its_row_says(folder: Path) -> None:
    by_site(folder)
    change(folder, "site", lambda site: {"north": "south", "south": "north"}[site], "P3")


@breaks("folder name", "error", "P3.* ''", "site '' is empty; expected the name of a folder")
def a_patient_without_a_site(folder: Path) -> None:
    by_site(folder)
    change(folder, "site", "", "P3")


@breaks("folder name", "error", r"P3.* '\.\./\.\.'", "site '../..' starts with a dot")
def a_site_that_climbs_out(folder: Path) -> None:
    by_site(folder)
    change(folder, "site", "../..", "P3")


@breaks("layout", "error", "expected a path that ends in", "expected a path that ends in /{patient}")
def a_template_without_the_patient(folder: Path) -> None:
    say(folder, "pictures: {labelled: 'pics/{site}/**'}")


@breaks("columns", "error", "no column site", "no column site")
def a_template_of_a_column_that_is_not_there(folder: Path) -> None:
    say(folder, "pictures: {labelled: 'pics/{site}/{patient}'}")


@breaks("unread pictures", "warning", "picture beside the patients' folders")
def a_picture_beside_the_patients(folder: Path) -> None:
    shutil.copy(picture(folder), folder / "trainset" / "stray.jpg")


@breaks("no picture", "error", "there are some in folders below", r"in folders below it: `/\*\*` at the end")
def pictures_in_slides_alone(folder: Path) -> None:
    for path in [*bag(folder, "P2").iterdir()]:
        (bag(folder, "P2") / "slide").mkdir(exist_ok=True)
        path.rename(bag(folder, "P2") / "slide" / path.name)


@breaks("link", "error", "symbolic link to a folder that is read already", "which is read already")
def slides_that_link_round(folder: Path) -> None:
    say(folder, "pictures: {labelled: 'trainset/{patient}/**', to_predict: 'testset/{patient}/**'}")
    (bag(folder, "P2") / "again").symlink_to(bag(folder, "P2"), target_is_directory=True)


@breaks("table", "error", "no patients.csv", "no patients.csv in it")
def a_layout_that_names_no_table(folder: Path) -> None:
    say(folder, "table: patients.csv")


# ---- ids


@breaks("id", "error", "is empty", "ID '' is empty")
def an_empty_id(folder: Path) -> None:
    change(folder, "ID", "", "P3")


@breaks("id", "error", "starts with a dot|path separator", "starts with a dot|path separator")
def an_id_that_climbs_out(folder: Path) -> None:
    change(folder, "ID", "../x", "P3")


@breaks("id", "error", "path separator", "holds a path separator")
def an_absolute_id(folder: Path) -> None:
    change(folder, "ID", "/etc", "P3")


@breaks("id", "error", "starts with a dot", "starts with a dot")
def a_hidden_id(folder: Path) -> None:
    change(folder, "ID", ".P3", "P3")


@breaks("id", "error", "over 100", "has 300 characters")
def an_id_of_300_characters(folder: Path) -> None:
    change(folder, "ID", "P" * 300, "P3")


@breaks("id", "error", "cannot be printed", "cannot be printed")
def an_id_that_rings_the_bell(folder: Path) -> None:
    change(folder, "ID", "P\a3", "P3")


@breaks("id", "error", "device on Windows", "is a device on Windows")
def an_id_that_is_a_device(folder: Path) -> None:
    rename(folder, "P3", "CON")


@breaks("id", "error", "ends with a dot", "ends with a dot")
def an_id_that_ends_with_a_dot(folder: Path) -> None:
    rename(folder, "P3", "P3.")


@breaks("id", "error", "formula", "begins as a formula does")
def an_id_that_a_spreadsheet_would_run(folder: Path) -> None:
    rename(folder, "P3", "=1+1")


@breaks("repeated id", "error", r"P4 \(rows 2, 4\)", "'P4' is in row 2 already")
def an_id_twice(folder: Path) -> None:
    shutil.rmtree(bag(folder, "P3"))
    change(folder, "ID", "P4", "P3")


@breaks("similar ids", "warning", "'P1' and 'P01'")
def ids_that_differ_by_a_zero(folder: Path) -> None:
    another(folder, "P1", "P01")


@breaks("similar ids", "warning", "'P1' and 'p1'")
def ids_that_differ_by_case(folder: Path) -> None:
    another(folder, "P1", "p1")


@breaks("similar ids", "warning", "'P1' and 'P 1'")
def ids_that_differ_by_a_space(folder: Path) -> None:
    another(folder, "P1", "P 1")


@breaks("repeated id", "error", "P\u00e9 .rows 17, 18", "'P\u00e9' is in row 17 already")
def ids_that_differ_by_the_codes_of_an_accent(folder: Path) -> None:
    another(folder, "P1", unicodedata.normalize("NFC", "P\u00e9"))
    another(folder, "P1", unicodedata.normalize("NFD", "P\u00e9"))


@breaks("repeated folder", "error", "trainset/P\u00e9", "two folders of this name")
def folders_that_differ_by_the_codes_of_an_accent(folder: Path) -> None:
    another(folder, "P1", unicodedata.normalize("NFC", "P\u00e9"))
    shutil.copytree(bag(folder, "P1"), folder / "trainset" / unicodedata.normalize("NFD", "P\u00e9"))


@breaks("no folder", "error", "probably 'P3'", "no folder trainset/p3")
def a_row_in_another_case_than_its_folder(folder: Path) -> None:
    change(folder, "ID", "p3", "P3")


@breaks("no row", "error", "trainset/P003, probably 'P3'", "no folder trainset/P3")
def a_folder_with_more_zeros_than_its_row(folder: Path) -> None:
    bag(folder, "P3").rename(folder / "trainset" / "P003")


# ---- roles


@breaks("no row", "error", "trainset/P3", "'P3' without a row")
def a_folder_without_a_row(folder: Path) -> None:
    write(folder, [row for row in rows_of(folder) if row[1] != "P3"])


@breaks("no folder", "error", "P3", "no folder trainset/P3")
def a_row_without_a_folder(folder: Path) -> None:
    shutil.rmtree(bag(folder, "P3"))


@breaks("two sets", "error", "P3", "a folder in trainset/ and one in testset/")
def a_patient_in_both_sets(folder: Path) -> None:
    shutil.copytree(bag(folder, "P3"), folder / "testset" / "P3")


@breaks("wrong set", "error", "P3", "LABEL is 1 and its pictures are in testset/")
def a_labelled_patient_among_those_to_predict(folder: Path) -> None:
    shutil.move(bag(folder, "P3"), folder / "testset" / "P3")


@breaks("wrong set", "error", "P3", "LABEL is -1 and its pictures are in trainset/")
def a_patient_whose_label_is_gone(folder: Path) -> None:
    change(folder, "LABEL", "", "P3")


@breaks("twin rows", "warning", "perhaps the same person")
def two_rows_of_one_person(folder: Path) -> None:
    for column, text in (("GENDER", "F"), ("DOB", "1/13/1950"), ("LYMPH_COUNT", "8.88")):
        change(folder, column, text, "P3", "P4")


@breaks("twin rows", "warning", "perhaps the same person")
def two_rows_of_one_person_at_one_site(folder: Path) -> None:
    two_rows_of_one_person(folder)
    for place, row in enumerate(rows_of(folder)[1:]):
        change(folder, "site", f"site {place % 6}", row[1])
    change(folder, "site", "site 0", "P3", "P4")
    say(folder, "groups: [site]")


@breaks("two roles", "error", "P3", "no person may have two roles")
def a_person_with_two_roles(folder: Path) -> None:
    change(folder, "person", lambda _: "")
    change(folder, "person", "same", "P3", "P6")
    say(folder, "person: person")


# ---- labels and sexes


@breaks("label", "error", "LABEL '2'", "LABEL '2'")
def a_third_label(folder: Path) -> None:
    change(folder, "LABEL", "2", "P3")


@breaks("label", "error", "LABEL 'tumoral'", "LABEL 'tumoral'")
def labels_in_words(folder: Path) -> None:
    change(folder, "LABEL", lambda text: {"0": "reactive", "1": "tumoral"}.get(text, text))


@breaks("classes", "error", "none of them reactive", "none of them reactive", None)
def no_reactive_patient(folder: Path) -> None:
    change(folder, "LABEL", "1", *patients(folder, "0"))


@breaks("classes", "warning", "2 reactive patients", "2 reactive patients for 3 folds", None)
def two_reactive_patients(folder: Path) -> None:
    change(folder, "LABEL", "1", *patients(folder, "0")[2:])


@breaks("classes", "error", "1 reactive patient", "1 reactive patient for 3 folds", None)
def one_reactive_patient(folder: Path) -> None:
    change(folder, "LABEL", "1", *patients(folder, "0")[1:])


@breaks("classes", "note", "no patient is labelled", "no labelled patient", None)
def nobody_labelled(folder: Path) -> None:
    for home in (folder / "trainset").iterdir():
        shutil.move(home, folder / "testset" / home.name)
    change(folder, "LABEL", "-1")


@breaks("sex", "error", "GENDER 'female'", "GENDER 'female'")
def sexes_in_words(folder: Path) -> None:
    change(folder, "GENDER", lambda text: {"F": "female", "M": "male"}.get(text, text))


# ---- dates


@breaks("date reading", "error", "dates: day_first", "is not a date")
def days_before_months(folder: Path) -> None:
    change(folder, "DOB", "31/12/1950", "P3", "P4")
    change(folder, "DOB", "5/6/1939", *(row[1] for row in rows_of(folder)[1:] if row[1] not in ("P3", "P4")))


@breaks("date reading", "error", "dates: iso", "is not a date")
def iso_dates(folder: Path) -> None:
    change(folder, "DOB", "1950-12-31")


@breaks("date reading", "error", "nothing in the column tells", "is not a date")
def dates_with_points_that_say_nothing(folder: Path) -> None:
    change(folder, "DOB", "05.06.1950")


@breaks("mixed dates", "error", "names its day elsewhere", "is not a date")
def days_first_here_and_months_first_there(folder: Path) -> None:
    change(folder, "DOB", "31/12/1950", "P3")


@breaks("ambiguous dates", "warning", "Nothing in the column tells")
def dates_that_could_be_read_two_ways(folder: Path) -> None:
    change(folder, "DOB", "5/6/1950")


@breaks("date", "error", "P3", "is not a date")
def the_31st_of_february(folder: Path) -> None:
    change(folder, "DOB", "2/31/1950", "P3")


@breaks("date", "error", "two-digit years", "is not a date")
def years_of_two_digits(folder: Path) -> None:
    change(folder, "DOB", "3/27/50", "P3")


@breaks("date", "error", "spreadsheet", "is not a date")
def a_spreadsheets_number_of_days(folder: Path) -> None:
    change(folder, "DOB", "18628", "P3")


@breaks("date", "error", "a time behind the day", "is not a date")
def a_time_behind_the_day(folder: Path) -> None:
    change(folder, "DOB", "1950-03-27 00:00:00", "P3")


@breaks("date", "error", "a month in letters", "is not a date")
def a_month_in_letters(folder: Path) -> None:
    change(folder, "DOB", "27 Mar 1950", "P3")


@breaks("date", "error", "no age", "is after the reference date")
def born_after_the_reference_date(folder: Path) -> None:
    change(folder, "DOB", "3/27/2031", "P3")


@breaks("date", "error", "no age", "makes 170 years")
def born_in_1850(folder: Path) -> None:
    change(folder, "DOB", "3/27/1850", "P3")


@breaks("missing", "error", "without a DOB", "DOB is missing; .* fill it in, or write in cohort.yaml")
def a_date_missing(folder: Path) -> None:
    change(folder, "DOB", "", "P3")


@breaks("date", "error", "P3", "EXAMINED_ON 'soon' is not a date")
def a_day_of_examination_that_is_none(folder: Path) -> None:
    change(folder, "EXAMINED_ON", "1/13/2019")
    change(folder, "EXAMINED_ON", "soon", "P3")


@breaks("missing", "error", "without a EXAMINED_ON", "EXAMINED_ON is missing")
def a_day_of_examination_missing(folder: Path) -> None:
    change(folder, "EXAMINED_ON", "1/13/2019")
    change(folder, "EXAMINED_ON", "", "P3")


@breaks("date", "error", "correct what was born after its examination", "is after the examination on 1/13/2009")
def born_after_the_examination(folder: Path) -> None:
    change(folder, "EXAMINED_ON", "1/13/2019")
    change(folder, "EXAMINED_ON", "1/13/2009", "P3")
    change(folder, "DOB", "3/27/2011", "P3")


@breaks("date reading", "error", "dates: iso", "is not a date")
def iso_dates_of_birth_and_of_examination(folder: Path) -> None:
    change(folder, "DOB", "1950-12-31")
    change(folder, "EXAMINED_ON", "2019-12-31")


@breaks("columns", "note", "column AGE beside DOB is not read")
def ages_beside_dates_of_birth(folder: Path) -> None:
    change(folder, "AGE", "61")


@breaks("odd age", "warning", "over 105 years")
def born_on_the_first_day_of_1900(folder: Path) -> None:
    change(folder, "DOB", "1/1/1900", "P3")


@breaks("odd age", "note", "under 18")
def a_child(folder: Path) -> None:
    change(folder, "DOB", "3/27/2011", "P3")


@breaks("date", "error", "no date to group by", "is not a date")
def a_date_to_group_by_that_is_none(folder: Path) -> None:
    change(folder, "taken", "1/13/2019")
    change(folder, "taken", "soon", "P3")
    say(folder, "groups: [{column: taken, by: month}]")


# ---- numbers and words


@breaks("count unit", "error", "1,000 times too large")
def counts_a_microlitre(folder: Path) -> None:
    change(folder, "LYMPH_COUNT", lambda text: f"{1000 * float(text):.0f}")


@breaks("count unit", "error", "1,000 times too small")
def counts_in_10_12_a_litre(folder: Path) -> None:
    change(folder, "LYMPH_COUNT", lambda text: f"{float(text) / 1000:.5f}")


@breaks("odd count", "warning", "P3.* 6180")
def a_count_a_thousand_times_too_large(folder: Path) -> None:
    change(folder, "LYMPH_COUNT", "6180", "P3")


@breaks("number", "error", "out of range", "is out of range")
def a_count_below_zero(folder: Path) -> None:
    change(folder, "LYMPH_COUNT", "-6.18", "P3")


@breaks("number", "error", "out of range", "is out of range")
def a_count_beyond_numbers(folder: Path) -> None:
    change(folder, "LYMPH_COUNT", "1e999", "P3")


@breaks("number", "error", "not a number", "is not a number")
def a_count_in_words(folder: Path) -> None:
    change(folder, "LYMPH_COUNT", "high", "P3")


@breaks("missing", "error", "without a LYMPH_COUNT", "LYMPH_COUNT is missing")
def a_count_missing(folder: Path) -> None:
    change(folder, "LYMPH_COUNT", "", "P3")


@breaks("decimal", "error", "decimal: ','", "is not a number")
def decimal_commas(folder: Path) -> None:
    change(folder, "LYMPH_COUNT", lambda text: text.replace(".", ","))


@breaks("number", "error", "not a number", "is not a number")
def commas_between_thousands(folder: Path) -> None:
    change(folder, "LYMPH_COUNT", lambda text: f"{1000 * float(text):,.0f}")


@breaks("constant", "warning", "it can tell nothing")
def one_count_of_all(folder: Path) -> None:
    change(folder, "LYMPH_COUNT", "5.5")


@breaks("missing", "warning", "that tells the label")
def counts_missing_of_all_reactive_patients(folder: Path) -> None:
    change(folder, "LYMPH_COUNT", "NA", *patients(folder, "0"))
    say(folder, "missing: NA")


@breaks("missing", "note", "missing of 1 of 15")
def a_count_missing_where_the_layout_allows_it(folder: Path) -> None:
    change(folder, "LYMPH_COUNT", "NA", "P3")
    say(folder, "missing: NA")


@breaks("age unit", "error", "age_unit: months", "is out of range")
def ages_in_months(folder: Path) -> None:
    change(folder, "age", "840")
    say(folder, "columns: {age_years: age}")


@breaks("similar words", "warning", "'Blood' and 'blood'")
def words_that_differ_by_case(folder: Path) -> None:
    change(folder, "tissue", "blood")
    change(folder, "tissue", "Blood", "P3", "P4")
    say(folder, "attributes: {tissue: {column: tissue, kind: categorical}}")


@breaks("unseen word", "warning", "'marrow'")
def a_word_of_patients_to_predict_alone(folder: Path) -> None:
    change(folder, "tissue", "blood")
    change(folder, "tissue", "marrow", "P6")
    change(folder, "tissue", "node", "P3", "P4")
    say(folder, "attributes: {tissue: {column: tissue, kind: categorical}}")


@breaks("rare word", "note", "'node'")
def a_word_of_one_patient(folder: Path) -> None:
    change(folder, "tissue", "blood")
    change(folder, "tissue", "node", "P3")
    say(folder, "attributes: {tissue: {column: tissue, kind: categorical}}")


@breaks("layout", "error", "attributes: told", "attributes: told is the column 'LABEL', which is that of the label")
def the_label_as_an_attribute(folder: Path) -> None:
    say(folder, "attributes: {told: {column: label}}")


@breaks("layout", "error", "attributes: place", "which is that of the group", "which is that of the group")
def the_group_as_an_attribute(folder: Path) -> None:
    say(folder, "groups: [Site]\nattributes: {place: {column: site, kind: categorical}}")


@breaks("attribute tells label", "warning", "told alone separates the classes exactly: AUC 1.000")
def a_copy_of_the_label(folder: Path) -> None:
    for label, word in (("0", "ward"), ("1", "clinic")):
        change(folder, "told", word, *patients(folder, label))
    change(folder, "told", "ward", *patients(folder, "-1"))
    say(folder, "attributes: {told: {column: told, kind: categorical}}")


# ---- groups


@breaks("groups", "warning", "in 2 groups", "2 groups of labelled patients", None)
def two_sites(folder: Path) -> None:
    change(folder, "site", lambda _: "north")
    change(folder, "site", "south", *(row[1] for row in rows_of(folder)[1:8]))
    say(folder, "groups: [site]")


@breaks("groups", "error", "all reactive patients are in one group", "all reactive patients are in one group", None)
def all_of_a_class_at_one_site(folder: Path) -> None:
    for place, row in enumerate(rows_of(folder)[1:]):
        change(folder, "site", f"site {place % 5}", row[1])
    change(folder, "site", "north", *patients(folder, "0"))
    say(folder, "groups: [site]")


@breaks("no group", "warning", "1 labelled patient without a value of site")
def a_patient_without_a_group(folder: Path) -> None:
    for place, row in enumerate(rows_of(folder)[1:]):
        change(folder, "site", f"site {place % 5}", row[1])
    change(folder, "site", "", "P3")
    say(folder, "groups: [site]")


@breaks("group tells label", "warning", "the group tells the label", "all reactive patients are in one group", None)
def a_site_for_each_label(folder: Path) -> None:
    change(folder, "site", "north", *patients(folder, "0"))
    change(folder, "site", "south", *patients(folder, "1"))
    change(folder, "site", "east", *patients(folder, "-1"))
    say(folder, "groups: [site]")


@breaks("shared groups", "note", "1 of 2 values of site", "2 groups of labelled patients", None)
def a_site_of_both_roles(folder: Path) -> None:
    two_sites(folder)
    change(folder, "site", "north", *patients(folder, "-1"))


@breaks("persons", "note", "1 person of several rows")
def a_person_of_two_rows(folder: Path) -> None:
    change(folder, "person", lambda _: "")
    change(folder, "person", "same", "P3", "P4")
    say(folder, "person: person")


# ---- pictures


@breaks("empty picture", "error", "P2/000000.jpg", "empty file")
def an_empty_picture(folder: Path) -> None:
    picture(folder).write_bytes(b"")


@breaks("truncated picture", "error", "P2/000000.jpg", "truncated")
def a_truncated_picture(folder: Path) -> None:
    data = picture(folder).read_bytes()
    picture(folder).write_bytes(data[: len(data) // 2])


@breaks("truncated picture", "error", "P2/000000.jpg", "truncated")
def a_picture_without_its_last_three_bytes(folder: Path) -> None:
    picture(folder).write_bytes(picture(folder).read_bytes()[:-3])


@breaks("unreadable picture", "error", "P2/000000.jpg", "not JPEG, PNG, BMP or TIFF")
def a_text_with_a_pictures_name(folder: Path) -> None:
    picture(folder).write_text("this is no picture")


@breaks("oversized or tiny picture", "error", "8 x 8", "8 x 8 pixels")
def a_picture_of_8_pixels(folder: Path) -> None:
    Image.new("RGB", (8, 8)).save(picture(folder), "PNG")


@breaks("oversized or tiny picture", "error", "pixels", "pixels")
def a_decompression_bomb(folder: Path) -> None:
    forged(picture(folder), 60_000, 60_000)


@breaks("oversized or tiny picture", "error", "5000 x 5000", "5000 x 5000 pixels")
def a_picture_of_25_megapixels(folder: Path) -> None:
    forged(picture(folder), 5_000, 5_000)


def in_16_bits(folder: Path, *largest: int) -> None:
    """Make the first pictures of P2 grey ones of 16 bits, each with its largest value."""
    for number, most in enumerate(largest):
        path = picture(folder, number=number)
        with Image.open(path) as image:
            grey = ImageOps.autocontrast(image.convert("L"))
        levels = np.asarray(grey).astype(float) / 255 * most
        path.unlink()
        Image.fromarray(levels.round().astype(np.uint16)).save(path.with_suffix(".png"))


@breaks(
    "bit depth",
    "error",
    "1 picture of more than 8 bits.* 4095 .12 bits.",
    "4095 .12 bits.* black after conversion; convert",
)
def a_picture_of_12_bits_in_16(folder: Path) -> None:
    in_16_bits(folder, 4095)


@breaks("mode", "warning", "2 grey pictures among")
def a_dark_picture_of_16_bits_beside_one_of_the_whole_range(folder: Path) -> None:
    in_16_bits(folder, 4095, 65535)


@breaks("unreadable picture", "error", "floating-point", "floating-point grey levels; convert it to 8 bits")
def a_picture_of_floating_point_numbers(folder: Path) -> None:
    with Image.open(picture(folder)) as image:
        image.convert("F").save(picture(folder).with_suffix(".tif"))
    picture(folder).unlink()


@breaks("sizes", "warning", "P2/000000.jpg .200x300")
def a_picture_that_was_held_sideways(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(picture(folder)) as image:
        image.resize((300, 200)).save(picture(folder), exif=exif)


@breaks("blank picture", "warning", "1 picture of hardly any contrast")
def a_picture_of_two_close_greys(folder: Path) -> None:
    grey = Image.new("RGB", (224, 224), (120, 120, 120))
    grey.paste((126, 126, 126), (100, 100, 140, 140))
    grey.save(picture(folder))


@breaks("blank picture", "warning", "all black")
def a_black_picture(folder: Path) -> None:
    Image.new("RGB", (224, 224)).save(picture(folder))


@breaks("blank picture", "warning", "all white")
def a_white_picture(folder: Path) -> None:
    Image.new("RGB", (224, 224), "white").save(picture(folder))


@breaks("blank picture", "warning", "all of one colour")
def a_picture_of_one_colour(folder: Path) -> None:
    Image.new("RGB", (224, 224), (200, 120, 180)).save(picture(folder))


@breaks("sizes", "warning", "P2/000000.jpg .300x200")
def a_picture_of_another_size(folder: Path) -> None:
    with Image.open(picture(folder)) as image:
        image.resize((300, 200)).save(picture(folder))


@breaks("sizes", "note", "all pictures are 112x112")
def pictures_all_of_another_size(folder: Path) -> None:
    for path in folder.glob("*set/*/*.jpg"):
        with Image.open(path) as image:
            image.resize((112, 112)).save(path)


@breaks("mode", "warning", "1 grey picture among")
def a_grey_picture(folder: Path) -> None:
    with Image.open(picture(folder)) as image:
        image.convert("L").save(picture(folder))


@breaks("mode", "note", "RGBA")
def a_picture_with_a_transparent_ground(folder: Path) -> None:
    with Image.open(picture(folder)) as image:
        image.convert("RGBA").save(picture(folder).with_suffix(".png"))
    picture(folder).unlink()


@breaks("several pages", "warning", "of several pages")
def a_picture_of_two_pages(folder: Path) -> None:
    with Image.open(picture(folder)) as image:
        image.save(picture(folder).with_suffix(".tif"), save_all=True, append_images=[image.rotate(90)])
    picture(folder).unlink()


@breaks("suffix", "note", "another format than its suffix")
def a_png_called_jpg(folder: Path) -> None:
    with Image.open(picture(folder)) as image:
        image.save(picture(folder), "PNG")


@breaks("unread pictures", "warning", "formats that are not read")
def a_gif_among_the_pictures(folder: Path) -> None:
    with Image.open(picture(folder)) as image:
        image.save(picture(folder).with_suffix(".gif"))


@breaks("unread pictures", "warning", "archive")
def an_archive_among_the_pictures(folder: Path) -> None:
    with zipfile.ZipFile(bag(folder, "P2") / "more.zip", "w") as archive:
        archive.write(picture(folder), "../../escaped.jpg")


@breaks("unread pictures", "warning", "inside patients' folders")
def pictures_one_folder_deeper(folder: Path) -> None:
    shutil.copytree(bag(folder, "P2"), bag(folder, "P2") / "more")


@breaks("other files", "note", "P2/Thumbs.db")
def a_file_that_is_no_picture(folder: Path) -> None:
    (bag(folder, "P2") / "Thumbs.db").write_text("x")


@breaks("other files", "note", "P2/pipe.jpg")
def a_pipe_with_a_pictures_name(folder: Path) -> None:
    os.mkfifo(bag(folder, "P2") / "pipe.jpg")


@breaks("table", "error", "no clinical_annotation.csv", f"no {TABLE} in it")
def a_pipe_in_the_tables_place(folder: Path) -> None:
    (folder / TABLE).unlink()
    os.mkfifo(folder / TABLE)


@breaks("other files", "note", "trainset/readme.txt")
def a_file_beside_the_patients(folder: Path) -> None:
    (folder / "trainset" / "readme.txt").write_text("x")


@breaks("other files", "note", r"\\x1b\[2J")
def a_file_whose_name_clears_the_screen(folder: Path) -> None:
    (bag(folder, "P2") / "\x1b[2J").write_text("x")


@breaks("no row", "error", "udcff", "without a row")
def a_folder_whose_name_is_no_text(folder: Path) -> None:
    (folder / "trainset" / "a\udcff").mkdir()


@breaks("hidden files", "note", "P2/._000000.jpg")
def a_hidden_file(folder: Path) -> None:
    (bag(folder, "P2") / "._000000.jpg").write_text("x")


@breaks("no picture", "error", "trainset/P2", "no picture in it")
def a_folder_without_pictures(folder: Path) -> None:
    for path in bag(folder, "P2").iterdir():
        path.unlink()


@breaks("few pictures", "warning", r"trainset/P2 \(1\)")
def a_patient_of_one_picture(folder: Path) -> None:
    for path in sorted(bag(folder, "P2").iterdir())[1:]:
        path.unlink()


@breaks("bag sizes", "note", "from 3 to 70 pictures")
def bags_of_very_different_sizes(folder: Path) -> None:
    home = bag(folder, "P2")
    for number in range(len(list(home.iterdir())), 70):
        noise = Image.effect_noise((28, 28), 60).resize((224, 224), Image.Resampling.NEAREST).convert("RGB")
        noise.save(home / f"{number:06d}.jpg")


@breaks("picture's name", "error", "cannot be printed", "cannot be printed")
def a_picture_whose_name_breaks_the_line(folder: Path) -> None:
    picture(folder).rename(picture(folder).with_name("a\nb.jpg"))


@breaks("link", "error", "symbolic link out", "symbolic link out")
def a_picture_that_links_out(folder: Path) -> None:
    shutil.move(picture(folder), folder.with_name("outside.jpg"))
    picture(folder).symlink_to(folder.with_name("outside.jpg"))


@breaks("link", "error", "symbolic link to nothing", "symbolic link to nothing")
def a_picture_that_links_to_nothing(folder: Path) -> None:
    picture(folder).unlink()
    picture(folder).symlink_to("nothing.jpg")


@breaks("link", "error", "symbolic link out", "symbolic link out")
def a_patients_folder_that_links_out(folder: Path) -> None:
    outside = folder.with_name("outside")
    home = bag(folder, "P2")
    shutil.move(home, outside)
    home.symlink_to(outside)


@breaks("link", "error", "12 symbolic links out of the cohort", "symbolic link out")
def all_folders_link_out(folder: Path) -> None:
    shutil.move(folder / "trainset", folder.with_name("outside"))
    (folder / "trainset").mkdir()
    for home in folder.with_name("outside").iterdir():
        (folder / "trainset" / home.name).symlink_to(home)


@breaks("link", "error", "symbolic link out", "symbolic link out")
def a_set_that_links_out(folder: Path) -> None:
    shutil.move(folder / "trainset", folder.with_name("outside"))
    (folder / "trainset").symlink_to(folder.with_name("outside"))


# ---- pictures that are there twice


@breaks("same picture", "warning", "of one patient")
def a_picture_twice(folder: Path) -> None:
    shutil.copy(picture(folder), bag(folder, "P2") / "copy.jpg")


@breaks("same picture", "warning", "of two patients")
def a_picture_of_two_patients(folder: Path) -> None:
    shutil.copy(picture(folder), bag(folder, "P3") / "copy.jpg")


@breaks("same picture", "error", "of a labelled patient and one to predict", "shares a picture", None)
def a_picture_of_both_roles(folder: Path) -> None:
    shutil.copy(picture(folder), bag(folder, "P6") / "copy.jpg")


@breaks("similar pictures", "note", "of one patient")
def a_picture_saved_anew(folder: Path) -> None:
    with Image.open(picture(folder)) as image:
        image.save(bag(folder, "P2") / "copy.jpg", quality=60)


@breaks("similar pictures", "warning", "of two patients")
def a_picture_mirrored_for_another_patient(folder: Path) -> None:
    with Image.open(picture(folder)) as image:
        ImageOps.mirror(image).save(bag(folder, "P3") / "copy.jpg")


@breaks("similar pictures", "error", "of a labelled patient and one to predict")
def a_picture_turned_for_another_role(folder: Path) -> None:
    with Image.open(picture(folder)) as image:
        image.rotate(90).save(bag(folder, "P6") / "copy.jpg")


@breaks("similar pictures", "warning", "of two patients")
def a_picture_scaled_and_brightened_for_another_patient(folder: Path) -> None:
    with Image.open(picture(folder)) as image:
        image.resize((448, 448)).point(lambda level: level * 0.9).save(bag(folder, "P3") / "copy.png")


# ---- packed files


@breaks("packed file", "error", "damaged", "not a Parquet file, or a damaged one")
def a_packed_file_cut_in_half(folder: Path) -> Path:
    out = packed(folder)
    out.write_bytes(out.read_bytes()[: out.stat().st_size // 2])
    return out


@breaks("packed file", "error", "damaged", "not a Parquet file, or a damaged one")
def a_packed_file_with_a_byte_turned(folder: Path) -> Path:
    out = packed(folder)
    data = bytearray(out.read_bytes())
    data[len(data) // 2] ^= 0xFF
    out.write_bytes(data)
    return out


@breaks("packed file", "error", "not a Parquet file", "not a Parquet file")
def a_text_called_parquet(folder: Path) -> Path:
    out = folder.with_suffix(".parquet")
    out.write_text("ID,LABEL")
    return out


@breaks("packed file", "error", "not a cohort packed by lymphtune", "not a cohort packed by lymphtune")
def a_parquet_file_of_somebody_else(folder: Path) -> Path:
    out = folder.with_suffix(".parquet")
    pq.write_table(pa.table({"patient": ["P1"]}), out)
    return out


@breaks("count unit", "error", "pack the cohort again|1,000 times too large")
def a_packed_file_with_counts_a_microlitre(folder: Path) -> Path:
    counts_a_microlitre(folder)
    return packed(folder)


@breaks("same picture", "warning", "of two patients")
def a_packed_file_with_a_picture_of_two_patients(folder: Path) -> Path:
    a_picture_of_two_patients(folder)
    return packed(folder)


# ---- what is made of them


def doctor_says(kind: Kind, data: Path) -> str:
    """Return "" where the doctor says what it has to, else what it says."""
    findings = examine(data).findings
    for finding in findings:
        told = f"{finding.text} {finding.where} {finding.cure}"
        if (finding.check, finding.severity) == (kind.check, kind.severity) and re.search(kind.says, told):
            return ""
    return "; ".join(f"{finding.severity} {finding.check}: {finding.text}" for finding in findings) or "nothing"


def outcome(expected: str | None, call: Callable[[], object]) -> str:
    """Return "" where the call refuses as expected, or goes on as expected; else what came of it."""
    try:
        call()
    except InputError as error:
        refusal = str(error)
        fits = expected is not None and re.search(expected, refusal)
        return "" if fits and "\n" not in refusal else f"refused: {refusal}"
    return "" if expected is None else "went on"


def dry_run_on(data: Path, runs: Path) -> None:
    from lymphtune.cluster.estimate import dry_run
    from lymphtune.searching.settings import Settings

    dry_run("clinical", data, Settings(trials=1, folds=3, runs=runs))


def read_as_predict_does(data: Path) -> None:
    """Read block after block, as a prediction does before any network is asked."""
    surveyed = survey_cohort(data, REFERENCE_DATE)
    for rows in surveyed.block_ranges():
        surveyed.digests(rows)
        surveyed.block(rows)


def rows_of_table(scratch: Path) -> Iterator[tuple[Kind, str, str, str]]:
    """Yield each kind with what was amiss with the doctor, a dry run and the reading of a prediction."""
    from tests.conftest import write_tiny

    tiny = write_tiny(scratch / "tiny")
    for number, kind in enumerate(KINDS):
        data = kind.make(Path(shutil.copytree(tiny, scratch / f"{number:03d}" / "tiny")))
        yield (
            kind,
            doctor_says(kind, data),
            outcome(kind.search, lambda data=data: dry_run_on(data, scratch / "runs")),  # type: ignore[misc]
            outcome(kind.predict, lambda data=data: read_as_predict_does(data)),  # type: ignore[misc]
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="make them there, and leave them")
    keep = parser.parse_args().keep
    n_wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{'kind':55}{'severity':9}{'check':27}{'search':9}{'predict':9}ok")
        for kind, *amiss in rows_of_table(folder):
            search, predict = ("refuses" if refusal else "goes on" for refusal in (kind.search, kind.predict))
            n_wrong += any(amiss)
            right = "NO" if any(amiss) else "yes"
            print(f"{kind.name[:54]:55}{kind.severity:9}{kind.check:27}{search:9}{predict:9}{right}")
            for text in filter(None, amiss):
                print(f"    {text}")
    print(f"{len(KINDS)} kinds, {n_wrong} not as they should be")
    return bool(n_wrong)


if __name__ == "__main__":
    sys.exit(main())
