from datetime import date
from pathlib import Path

import numpy as np
import pytest

from lymphtune.cohort import load_cohort
from lymphtune.cohort.attributes import Attribute
from lymphtune.cohort.clinical import read_clinical
from lymphtune.cohort.folds import make_folds
from lymphtune.cohort.layout import STUDY, read_layout
from lymphtune.cohort.packed import pack, read_packed
from lymphtune.errors import InputError

DAY = date(2020, 1, 1)
OTHER = """
table: patients.txt
separator: ";"
decimal: ","
encoding: latin-1
missing: ["", k.A.]
columns: {patient: Nr, label: Diagnose, sex: Geschlecht, age_years: Alter, lymphocytes: Lymphozyten}
labels: {reactive: reaktiv, tumoral: [CLL, 1], to_predict: "?"}
sexes: {F: weiblich, M: m\u00e4nnlich}
lymphocyte_unit: 1/uL
age_unit: months
attributes:
  haemoglobin: {column: HB, log: true}
  smoker: {column: Raucher, kind: categorical}
person: Person
groups: [Klinik, {column: Datum, by: month}]
dates: day_first
pictures: {labelled: "img/{patient}", to_predict: "img/{patient}"}
"""
TABLE = """Nr;Diagnose;Geschlecht;Alter;Lymphozyten;HB;Raucher;Person;Klinik;Datum
A;reaktiv;weiblich;600;4500,5;12,5;ja;p1;Nord;1.2.2019
B;CLL;m\u00e4nnlich;k.A.;12000;k.A.;nein;p2;S\u00fcd;3.3.2019
C;1;;720;k.A.;11;k.A.;p1;West;4.5.2019
D;CLL;weiblich;120;9000;9,5;ja;;West;
E;?;weiblich;480;8000;10;nein;p5;;31.3.2019
"""


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A cohort of two cells each, laid out as another hospital's."""
    from PIL import Image

    folder = tmp_path / "other"
    for patient in "ABCDE":
        (folder / "img" / patient).mkdir(parents=True)
        for cell in range(2):
            noise = np.random.default_rng([ord(patient), cell]).integers(0, 256, (224, 224, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / "img" / patient / f"{cell}.png")
    (folder / "patients.txt").write_text(TABLE, encoding="latin-1")
    (folder / "cohort.yaml").write_text(OTHER, encoding="utf-8")
    return folder


def test_another_hospital_s_table_is_read(other: Path) -> None:
    cohort = load_cohort(other)
    table = cohort.patients.set_index("patient")
    assert table["label"].to_dict() == {"A": 0, "B": 1, "C": 1, "D": 1, "E": -1}
    assert table["sex"].tolist() == ["F", "M", "", "F", "F"]
    np.testing.assert_allclose(table["age_years"], [50, np.nan, 60, 10, 40])
    np.testing.assert_allclose(table["lymphocytes_g_per_l"], [4.5005, 12, np.nan, 9, 8])
    np.testing.assert_allclose(table["haemoglobin"], [12.5, np.nan, 11, 9.5, 10])
    assert table["smoker"].tolist() == ["ja", "nein", "", "ja", "nein"]
    assert cohort.attributes[2:] == (Attribute("haemoglobin", log=True), Attribute("smoker", levels=("ja", "nein")))
    assert table["n_cells"].tolist() == [2] * 5


def test_who_shares_a_person_a_site_or_a_month_stays_together(other: Path) -> None:
    """A and C are one person, C and D of one hospital, B and E of one month; an empty value is shared with nobody."""
    assert load_cohort(other).groups.tolist() == ["A", "B", "A", "A", "B"]


def test_a_packed_cohort_is_the_same_cohort(other: Path, tmp_path: Path) -> None:
    pack(other, tmp_path / "other.parquet", DAY)
    packed, folder = read_packed(tmp_path / "other.parquet", DAY), load_cohort(other)
    assert packed.hash == folder.hash
    assert packed.attributes == folder.attributes
    assert packed.groups.tolist() == folder.groups.tolist()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("haemoglobin: {column: HB, log: true}", "haemoglobin: {column: HB}"),
        ("groups: [Klinik,", "groups: ["),
        ("haemoglobin: {column: HB, log: true}", "haemoglobin: {column: Lymphozyten, log: true}"),
    ],
)
def test_the_hash_changes_with_what_models_are_told_and_who_stays_together(
    other: Path, before: str, after: str
) -> None:
    was = load_cohort(other).hash
    (other / "cohort.yaml").write_text(OTHER.replace(before, after), encoding="utf-8")
    assert load_cohort(other).hash != was


def test_one_person_has_one_role(other: Path) -> None:
    (other / "patients.txt").write_text(TABLE.replace("p5", "p2"), encoding="latin-1")
    with pytest.raises(
        InputError, match=r"row 6 \(E\): to predict, and the same person as in row 3, which is labelled"
    ):
        load_cohort(other)


def test_a_folder_without_the_file_is_the_study_s(tmp_path: Path) -> None:
    assert read_layout(tmp_path) == STUDY
    (tmp_path / "cohort.yaml").write_text("")
    assert read_layout(tmp_path) == STUDY


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tabel: x", "has no 'tabel'; there are age_unit, attributes,"),
        ("columns: {patien: x}", "columns has no 'patien'; there are age_years, birth_date, examined_on, label,"),
        ("attributes: {hb: {column: HB, kid: 1}}", "attributes.hb has no 'kid'; there are column, kind, log"),
        ("table: ../x", "table: '../x' is not a path inside the cohort's folder"),
        ("table: /etc/passwd", "table: '/etc/passwd' is not a path inside"),
        ("lymphocyte_unit: G/L", "lymphocyte_unit: 'G/L'; there are 10"),
        ("attributes: {label: {column: HB}}", "attributes: 'label': expected a name of letters"),
        ("attributes: {a b: {column: HB}}", "attributes: 'a b': expected a name of letters"),
        ("attributes: {hb: {column: HB, kind: categorical, log: true}}", "attributes.hb: log is for numbers"),
        ("columns: {age_years: A, birth_date: D}", "columns: birth_date and age_years: name one of the two"),
        ("columns: {birth_date: null, lymphocytes: null}", "no clinical attribute; name birth_date, age_years"),
        ("labels: {reactive: [yes]}", "labels.reactive: expected texts or numbers .* quote yes, no, true"),
        ("labels: {reactive: 1}", "labels: a word stands for two labels"),
        ("pictures: {labelled: x}", "pictures.labelled: 'x': expected a path that ends in /{patient}"),
        ("pictures: {labelled: '../{patient}'}", "pictures.labelled: '../{patient}' is not a path inside"),
        ("groups: [{colum: x}]", "groups.0.column: field required"),
        ("separator: ':'", "separator: input should be ',', ';'"),
        ("- 1", "expected a mapping"),
        ("a: [", "line 1: not YAML"),
    ],
)
def test_a_wrong_file_is_refused_where_it_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "cohort.yaml").write_text(text)
    with pytest.raises(InputError, match=f"cohort.yaml.*{message}"):
        read_layout(tmp_path)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("12,5", "12.5", r"row 2 \(A\): HB '12.5' is not a number; expected a number above 0"),
        ("12,5", "0", r"row 2 \(A\): HB '0' is out of range; expected a number above 0"),
        ("4500,5", "0", r"row 2 \(A\): Lymphozyten '0' is out of range; .* in 1/uL, with a decimal comma"),
        ("600", "-1", r"row 2 \(A\): Alter '-1' is out of range; expected an age in months, from 0 to 120 years"),
        ("600", "1441", r"row 2 \(A\): Alter '1441' is out of range"),
        ("reaktiv", "0", r"row 2 \(A\): Diagnose '0'; expected reaktiv \(reactive\), CLL \(tumoral\) or \? \(to"),
        ("1.2.2019", "1.13.2019", r"row 2 \(A\): Datum '1.13.2019' is not a date; expected D/M/YYYY"),
        ("12,5;ja", "12,5;j\x1b[2Ja", r"row 2 \(A\): Raucher 'j\\x1b\[2Ja' is no category; expected a word of 100"),
        ("12,5;ja", f"12,5;{'j' * 101}", r"row 2 \(A\): Raucher 'j+\.\.\.' is no category"),
        ("HB;", "HP;", r"no column HB; found 'Nr', .* separated by semicolons"),
    ],
)
def test_a_wrong_value_is_refused_where_it_stands(other: Path, before: str, after: str, message: str) -> None:
    table = TABLE.replace(before, after, 1)
    assert table != TABLE
    (other / "patients.txt").write_text(table, encoding="latin-1")
    with pytest.raises(InputError, match=message):
        read_clinical(other / "patients.txt", DAY, read_layout(other))


def test_a_missing_value_is_refused_where_nothing_says_what_one_is(other: Path) -> None:
    (other / "cohort.yaml").write_text(OTHER.replace('missing: ["", k.A.]', ""), encoding="utf-8")
    (other / "patients.txt").write_text(TABLE.replace("12,5;ja", ";ja"), encoding="latin-1")
    with pytest.raises(InputError, match=r"row 2 \(A\): HB is missing; expected a number"):
        load_cohort(other)


def test_too_many_words_are_no_categories(other: Path) -> None:
    rows = [f"{n};reaktiv;weiblich;600;4500;12;word {n};p{n};;" for n in range(40)]
    (other / "patients.txt").write_text("\n".join([TABLE.split("\n")[0], *rows]), encoding="latin-1")
    with pytest.raises(InputError, match="column Raucher has 40 different words; expected 30 at most"):
        load_cohort(other)


def test_folds_keep_groups_together() -> None:
    labels_P = np.array([0, 1] * 30 + [-1] * 5)
    groups_P = np.array([str(row // 3) for row in range(65)])
    for folds in (1, 2, 5):
        fold_P = make_folds(labels_P, folds, 1, 3, groups_P=groups_P)[0]
        assert (fold_P[60:] == -1).all()
        for group in np.unique(groups_P[:60]):
            assert len({*fold_P[:60][groups_P[:60] == group]}) == 1
        held = [labels_P[:60][fold_P[:60] == fold] for fold in range(folds)]
        assert all({*some.tolist()} == {0, 1} for some in held)
        if folds > 1:
            assert (fold_P[:60] >= 0).all() and max(map(len, held)) <= 60 / folds + 3
