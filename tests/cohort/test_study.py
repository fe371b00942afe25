import shutil
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lymphtune.cohort import REFERENCE_DATE, Cohort, load_cohort
from lymphtune.cohort.pictures import decode
from lymphtune.cohort.study import natural_key, read_study
from lymphtune.errors import InputError


def refused(folder: Path, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_study(folder, REFERENCE_DATE)


def replace_in_table(folder: Path, old: str, new: str) -> None:
    table = folder / "clinical_annotation.csv"
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new))


def test_the_tiny_cohort(tiny_cohort: Cohort) -> None:
    assert tiny_cohort.name == "tiny"
    assert tiny_cohort.ids == [f"P{number}" for number in range(1, 16)]
    assert len(tiny_cohort.labelled) == 12
    assert [tiny_cohort.ids[row] for row in tiny_cohort.to_predict] == ["P6", "P11", "P15"]
    assert set(tiny_cohort.patients["sex"]) == {"F", "M"}
    assert not tiny_cohort.simulated
    assert tiny_cohort.notes == ()


def test_every_bag_holds_its_own_pictures(tiny_cohort_folder: Path) -> None:
    cohort = read_study(tiny_cohort_folder, REFERENCE_DATE)
    for row, patient in enumerate(cohort.ids):
        home = "testset" if cohort.labels[row] == -1 else "trainset"
        files = sorted((tiny_cohort_folder / home / patient).iterdir())
        assert len(files) == cohort.patients["n_cells"].iloc[row]
        for file, pixels_SS3 in zip(files, cohort.bag(row), strict=True):
            np.testing.assert_array_equal(pixels_SS3, decode(file.read_bytes(), "x").pixels_SS3)


def test_the_hash_tells_any_change(tiny_cohort_folder: Path) -> None:
    seen = {read_study(tiny_cohort_folder, REFERENCE_DATE).hash}
    assert read_study(tiny_cohort_folder, REFERENCE_DATE).hash in seen
    seen.add(read_study(tiny_cohort_folder, date(2021, 1, 1)).hash)
    replace_in_table(tiny_cohort_folder, ",f,", ",M,")
    seen.add(read_study(tiny_cohort_folder, REFERENCE_DATE).hash)
    bag = tiny_cohort_folder / "trainset" / "P1"
    shutil.copy(bag / "000001.jpg", bag / "000000.jpg")
    seen.add(read_study(tiny_cohort_folder, REFERENCE_DATE).hash)
    assert len(seen) == 4


def test_folders_that_are_no_cohort(tmp_path: Path) -> None:
    refused(tmp_path / "absent", "absent: no such folder; expected one with clinical_annotation.csv")
    refused(tmp_path, r"no clinical_annotation.csv in it; expected clinical_annotation.csv, trainset/<ID>/\*.jpg")
    (tmp_path / "file").touch()
    refused(tmp_path / "file", "file: a file; expected a folder with .*, or a packed .parquet file")


def test_a_patient_without_pictures(tiny_cohort_folder: Path) -> None:
    bag = tiny_cohort_folder / "trainset" / "P1"
    for file in bag.iterdir():
        file.rename(file.with_suffix(".txt"))
    refused(tiny_cohort_folder, r"trainset/P1: no picture in it \(.jpg, .jpeg, .*\); add some or remove the patient")
    bag.rename(tiny_cohort_folder / "elsewhere")
    refused(tiny_cohort_folder, r"row \d+ \(P1\): no folder trainset/P1; add its pictures or remove the row")


@pytest.mark.parametrize("name", ["P1x", "p1", "P01", "P1 "])
def test_ids_match_exactly(tiny_cohort_folder: Path, name: str) -> None:
    (tiny_cohort_folder / "trainset" / "P1").rename(tiny_cohort_folder / "trainset" / name)
    refused(tiny_cohort_folder, r"\(P1\): no folder trainset/P1")


def test_a_missing_set(tiny_cohort_folder: Path) -> None:
    shutil.rmtree(tiny_cohort_folder / "testset")
    refused(tiny_cohort_folder, r"row \d+ \(P\d+\): no folder testset/P")


def test_pictures_in_the_wrong_set(tiny_cohort_folder: Path) -> None:
    trainset, testset = tiny_cohort_folder / "trainset", tiny_cohort_folder / "testset"
    (trainset / "P2").rename(testset / "P2")
    refused(
        tiny_cohort_folder, r"\(P2\): LABEL is 1 and its pictures are in testset/; move them to trainset/ or correct"
    )
    (testset / "P2").rename(trainset / "P2")
    (testset / "P6").rename(trainset / "P6")
    refused(tiny_cohort_folder, r"\(P6\): LABEL is -1 and its pictures are in trainset/; move them to testset/")
    shutil.copytree(trainset / "P6", testset / "P6")
    refused(tiny_cohort_folder, r"\(P6\): a folder in trainset/ and one in testset/; keep testset/P6")


def test_folders_without_a_row(tiny_cohort_folder: Path) -> None:
    (tiny_cohort_folder / "trainset" / ".hidden").mkdir()
    (tiny_cohort_folder / "trainset" / "Thumbs.db").touch()
    read_study(tiny_cohort_folder, REFERENCE_DATE)
    (tiny_cohort_folder / "testset" / "P99").mkdir()
    refused(tiny_cohort_folder, "testset: 'P99' without a row in clinical_annotation.csv; add the row or remove")
    for number in (20, 101, 30, 40, 50):
        (tiny_cohort_folder / "trainset" / f"P{number}").mkdir()
    refused(tiny_cohort_folder, r"trainset: 'P20', 'P30', 'P40' and 2 more folders \(5 in all\) without a row")


def test_links_out_of_the_cohort(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    trainset = tiny_cohort_folder / "trainset"
    (trainset / "P1").rename(tmp_path / "P1")
    (trainset / "P1").symlink_to(tmp_path / "P1")
    refused(tiny_cohort_folder, "trainset/P1: a symbolic link out of .*tiny; put a copy in its place")
    (trainset / "P1").unlink()
    (tmp_path / "P1").rename(trainset / "P1")
    trainset.rename(tmp_path / "elsewhere")
    trainset.symlink_to(tmp_path / "elsewhere")
    refused(tiny_cohort_folder, "trainset: a symbolic link out of .*tiny")


def test_the_whole_folder_may_be_a_link(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tiny_cohort_folder)
    cohort = read_study(tmp_path / "link", REFERENCE_DATE)
    assert cohort.name == "tiny"


def test_a_simulated_folder_says_so(tiny_cohort_folder: Path) -> None:
    (tiny_cohort_folder / "SIMULATED").touch()
    assert read_study(tiny_cohort_folder, REFERENCE_DATE).simulated


def test_natural_order() -> None:
    assert sorted(["P10", "P2", "10", "9", "P2b", "P1", "A", "P01"], key=natural_key) == [
        "9",
        "10",
        "A",
        "P01",
        "P1",
        "P2",
        "P2b",
        "P10",
    ]


@given(st.lists(st.text(max_size=20), unique=True))
def test_natural_order_is_total(names: list[str]) -> None:
    assert sorted(names, key=natural_key) == sorted(reversed(names), key=natural_key)


def test_load_cohort_takes_folders(tiny_cohort_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load_cohort(str(tiny_cohort_folder)).hash
    tiny_cohort_folder.rename(tiny_cohort_folder.parent / "data")
    monkeypatch.chdir(tiny_cohort_folder.parent)
    assert load_cohort(None).hash == expected


def test_load_cohort_refuses_the_rest(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    accepted = "expected a folder with clinical_annotation.csv, .*; a packed .parquet file; or the word simulated"
    with pytest.raises(InputError, match=f"absent: no such file or folder; {accepted}"):
        load_cohort(tmp_path / "absent")
    (tmp_path / "cohort.zip").touch()
    with pytest.raises(InputError, match=f"cohort.zip: not a cohort; {accepted}"):
        load_cohort(tmp_path / "cohort.zip")
    with pytest.raises(InputError, match=r"clinical_annotation.csv: expected the folder it is in, .*tiny"):
        load_cohort(tiny_cohort_folder / "clinical_annotation.csv")


def test_load_cohort_simulates_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lymphtune.cohort.simulation import patients as simulated

    small = partial(simulated.simulated_cohort, n_patients=10, n_cells=3)
    monkeypatch.setattr(simulated, "simulated_cohort", small)
    monkeypatch.chdir(tmp_path)
    assert load_cohort("simulated").simulated
    assert "SIMULATED" not in capsys.readouterr().err
    assert load_cohort(None).simulated
    assert "no folder ./data: using the SIMULATED cohort" in capsys.readouterr().err
