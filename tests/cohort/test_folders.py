"""Folders of pictures: by site, in slides below a patient, in either Unicode form; found alike by doctor and search."""

import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lymphtune.cohort import load_cohort, survey_cohort
from lymphtune.cohort.folders import Template
from lymphtune.cohort.layout import read_layout
from lymphtune.cohort.packed import pack, read_packed
from lymphtune.cohort.pseudonyms import Pseudonyms
from lymphtune.doctor import examine
from lymphtune.doctor.correction import correct
from lymphtune.ensembling.submission import submission_report
from lymphtune.errors import InputError
from tests.doctor.corpus import all_folders_link_out, another, bag, by_site, change, picture, say

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "P\u00e9") for form in ("NFC", "NFD"))


def worst(folder: Path) -> list[str]:
    return [finding.text for finding in examine(folder).findings if finding.severity != "note"]


def into_slides(folder: Path) -> None:
    """Move the pictures of every patient into folders of slides below it, whose pictures have the same names."""
    for home in [*folder.glob("*set/*")]:
        for number, path in enumerate(sorted(home.iterdir())):
            slide = home / f"slide {number}" / "cells"
            slide.mkdir(parents=True)
            path.rename(slide / "0.jpg")


@pytest.mark.parametrize(
    ("text", "above", "columns", "deep"),
    [
        ("{patient}", (), [], False),
        ("trainset/{patient}", ("trainset",), [], False),
        ("pics/{centre}/{patient}", ("pics", "{centre}"), ["centre"], False),
        ("all/{patient}/**", ("all",), [], True),
        ("{Site A}-{year}/x/{patient}/**", ("{Site A}-{year}", "x"), ["Site A", "year"], True),
    ],
)
def test_templates(text: str, above: tuple[str, ...], columns: list[str], deep: bool) -> None:
    template = Template.parse(text)
    assert (template.above, template.columns, template.recursive) == (above, columns, deep)


@pytest.mark.parametrize("text", ["", "all/**", "{patient}/x", "**/{patient}", "{patient}/{patient}", "a{/{patient}"])
def test_what_is_no_template(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected a path that ends in /\{patient\}"):
        Template.parse(text)


def test_pictures_by_site_are_the_same_cohort(tiny_cohort_folder: Path) -> None:
    before = load_cohort(tiny_cohort_folder)
    by_site(tiny_cohort_folder)
    after = load_cohort(tiny_cohort_folder)
    assert after.hash == before.hash and after.notes == before.notes
    assert not worst(tiny_cohort_folder)


def test_pictures_in_slides_are_the_same_pictures(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    before = load_cohort(tiny_cohort_folder)
    into_slides(tiny_cohort_folder)
    say(tiny_cohort_folder, "pictures: {labelled: 'trainset/{patient}/**', to_predict: 'testset/{patient}/**'}")
    after = load_cohort(tiny_cohort_folder)
    assert after.hash == before.hash
    assert not worst(tiny_cohort_folder)
    names = survey_cohort(tiny_cohort_folder).block(range(1)).names
    assert names == [f"slide {number}/cells/0.jpg" for number in range(len(names))]
    pack(tiny_cohort_folder, tmp_path / "slides.parquet", before.reference_date)
    assert read_packed(tmp_path / "slides.parquet", before.reference_date).hash == before.hash
    assert [
        finding.severity for finding in examine(tmp_path / "slides.parquet").findings if finding.severity == "error"
    ] == []


def test_slides_beside_pictures_are_counted_and_read_when_asked(tiny_cohort_folder: Path) -> None:
    """Search says with a count what it leaves out, without an id: it may be the search of a cohort of pseudonyms."""
    slide = bag(tiny_cohort_folder, "P2") / "slide"
    slide.mkdir()
    picture(tiny_cohort_folder, "P2", 0).rename(slide / "0.jpg")
    cohort = load_cohort(tiny_cohort_folder, pseudonyms=Pseudonyms(b"key"))
    assert cohort.notes[0].startswith("not read: 1 picture in folders below those of 1 patient; `/**` at the end")
    assert worst(tiny_cohort_folder) == ["1 folder inside patients' folders, not read, with 1 picture"]
    say(tiny_cohort_folder, "pictures: {labelled: 'trainset/{patient}/**'}")
    assert len(load_cohort(tiny_cohort_folder).pictures_CSS3) == len(cohort.pictures_CSS3) + 1
    assert not load_cohort(tiny_cohort_folder).notes


def test_what_lies_beside_is_counted(tiny_cohort_folder: Path) -> None:
    by_site(tiny_cohort_folder)
    say(
        tiny_cohort_folder, "pictures: {labelled: 'pi{half}/{site}/{patient}', to_predict: 'pi{half}/{site}/{patient}'}"
    )
    change(tiny_cohort_folder, "half", "cs")
    (tiny_cohort_folder / "other").mkdir()
    shutil.copy(next(tiny_cohort_folder.glob("pics/north/*/000000.jpg")), tiny_cohort_folder / "pics" / "north")
    assert load_cohort(tiny_cohort_folder).notes == (
        "not read: 1 folder that no path of `pictures` in cohort.yaml fits",
        "not read: 1 picture beside patients' folders",
    )


def test_a_corrected_copy_keeps_sites_and_slides(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    into_slides(tiny_cohort_folder)
    by_site(tiny_cohort_folder)
    layout = "pictures: {labelled: 'pics/{site}/{patient}/**', to_predict: 'pics/{site}/{patient}/**'}"
    say(tiny_cohort_folder, layout)
    before = load_cohort(tiny_cohort_folder)
    correct(tiny_cohort_folder, tmp_path / "copy", before.reference_date)
    assert load_cohort(tmp_path / "copy").hash == before.hash


def test_cohort_yml_is_read(tiny_cohort_folder: Path) -> None:
    (tiny_cohort_folder / "cohort.yml").write_text("columns: {sex: null}")
    assert read_layout(tiny_cohort_folder).columns.sex is None
    assert set(load_cohort(tiny_cohort_folder).patients["sex"]) == {""}


@pytest.mark.parametrize(
    ("files", "named"), [(["a.csv", "b.csv"], ""), (["a.csv"], "a.csv"), (["a.tsv"], "a.tsv"), ([], "")]
)
def test_one_other_table_is_named(tiny_cohort_folder: Path, files: list[str], named: str) -> None:
    table = tiny_cohort_folder / "clinical_annotation.csv"
    for name in files:
        shutil.copy(table, tiny_cohort_folder / name)
    table.unlink()
    with pytest.raises(InputError, match=r"no clinical_annotation.csv in it") as refused:
        load_cohort(tiny_cohort_folder)
    assert ("name it in cohort.yaml" in str(refused.value)) == bool(named)
    assert not named or f"but {named}: name it in cohort.yaml (`table: {named}`" in str(refused.value)


def test_the_one_table_among_others_is_told_by_its_columns(tiny_cohort_folder: Path) -> None:
    (tiny_cohort_folder / "clinical_annotation.csv").rename(tiny_cohort_folder / "patients.csv")
    (tiny_cohort_folder / "truth.csv").write_text("ID,LABEL\nP1,0\n")
    (tiny_cohort_folder / "sample_submission.csv").write_text("ID,Predicted\nP1,0\n")
    with pytest.raises(InputError, match=r"but patients.csv: name it in cohort.yaml \(`table: patients.csv`\)"):
        load_cohort(tiny_cohort_folder)


def test_links_out_of_the_cohort_are_one_finding(tiny_cohort_folder: Path) -> None:
    """One cause is told once: such folders are not also empty, nor missing from their rows."""
    all_folders_link_out(tiny_cohort_folder)
    assert worst(tiny_cohort_folder) == ["12 symbolic links out of the cohort"]


# ---- Unicode


@pytest.fixture
def accented(tiny_cohort_folder: Path) -> Path:
    """The tiny cohort with a patient more, whose id and folder are composed."""
    another(tiny_cohort_folder, "P1", COMPOSED)
    return tiny_cohort_folder


def variants(folder: Path) -> Iterator[str]:
    """Yield what of the cohort has been given in decomposed characters."""
    table = folder / "clinical_annotation.csv"
    bag(folder, COMPOSED).rename(folder / "trainset" / DECOMPOSED)
    yield "folder"
    table.write_text(table.read_text().replace(COMPOSED, DECOMPOSED))
    yield "folder and table"
    bag(folder, DECOMPOSED).rename(folder / "trainset" / COMPOSED)
    yield "table"


def test_either_form_is_the_same_cohort(accented: Path) -> None:
    """A Mac's zip has folders in decomposed characters, a table written elsewhere composed ones, or the other way."""
    before = load_cohort(accented)
    assert COMPOSED in before.ids
    for what in variants(accented):
        after = load_cohort(accented)
        assert after.hash == before.hash and after.ids == before.ids, what
        assert not worst(accented), what
        assert np.array_equal(survey_cohort(accented).load().pictures_CSS3, before.pictures_CSS3), what


def test_words_columns_and_paths_of_the_layout_in_either_form(accented: Path) -> None:
    before = load_cohort(accented)
    decomposed, composed = (unicodedata.normalize(form, "gr\u00f6\u00dfe") for form in ("NFD", "NFC"))
    (accented / "trainset").rename(accented / decomposed)
    table = accented / "clinical_annotation.csv"
    table.write_text(table.read_text().replace("LYMPH_COUNT", decomposed))
    table.rename(accented / f"{decomposed}.csv")
    labelled = f"pictures: {{labelled: '{composed}/{{patient}}'}}"
    say(accented, f"table: {composed}.csv\ncolumns: {{lymphocytes: {composed}}}\n{labelled}")
    assert load_cohort(accented).hash == before.hash
    assert not worst(accented)


def test_a_corrected_copy_has_composed_names(accented: Path, tmp_path: Path) -> None:
    before = load_cohort(accented)
    for what in variants(accented):
        out = tmp_path / what
        correct(accented, out, before.reference_date)
        assert (out / "trainset" / COMPOSED).is_dir() and COMPOSED in (out / "clinical_annotation.csv").read_text()
        assert load_cohort(out).hash == before.hash


def test_ids_that_differ_otherwise_are_two_patients(accented: Path) -> None:
    """An e with another accent, and one of compatible and not equal characters, are no spelling of the same."""
    another(accented, "P1", "P\u00e8")
    another(accented, "P1", "P\u2460")  # 1 in a circle
    assert {COMPOSED, "P\u00e8", "P\u2460", "P1"} <= set(load_cohort(accented).ids)


def test_a_packed_file_of_decomposed_ids_is_read_composed(
    accented: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_cohort(accented)
    with monkeypatch.context() as earlier:  # which took ids as they were
        for module in ("table", "folders", "study", "layout"):
            earlier.setattr(f"lymphtune.cohort.{module}.composed", lambda text: text, raising=False)
        assert list(variants(accented))[1] == "folder and table"
        bag(accented, COMPOSED).rename(accented / "trainset" / DECOMPOSED)
        assert DECOMPOSED in load_cohort(accented).ids
        pack(accented, tmp_path / "earlier.parquet", before.reference_date)
    packed = read_packed(tmp_path / "earlier.parquet", before.reference_date)
    assert packed.hash == before.hash and COMPOSED in packed.ids
    assert "error" not in {finding.severity for finding in examine(tmp_path / "earlier.parquet").findings}


def test_pseudonyms_and_submissions_take_either_form(accented: Path, tmp_path: Path) -> None:
    assert Pseudonyms(b"key").of(DECOMPOSED) == Pseudonyms(b"key").of(COMPOSED)
    another(accented, "P6", "Q\u00e9")
    submission = tmp_path / "submission.csv"
    submission.write_text(unicodedata.normalize("NFD", "ID,Predicted\nP6,1\nP11,0\nP15,1\nQ\u00e9,0\n"))
    assert submission_report(submission, data=str(accented)).n_errors == 0


def test_two_that_become_equal_are_refused(accented: Path) -> None:
    shutil.copytree(bag(accented, COMPOSED), accented / "trainset" / DECOMPOSED)
    with pytest.raises(InputError, match="two folders of this name, with the same characters coded in two ways"):
        load_cohort(accented)
    shutil.rmtree(accented / "trainset" / DECOMPOSED)
    another(accented, "P1", DECOMPOSED)
    with pytest.raises(InputError, match=r"ID 'P\u00e9' is in row 17 already"):
        load_cohort(accented)
