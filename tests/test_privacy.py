"""What is written of patients: no date of birth anywhere, with pseudonyms no id either, and never the key."""

import io
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import lymphtune
from lymphtune.cli import main
from lymphtune.cohort import Cohort, load_cohort, survey_cohort
from lymphtune.cohort.metadata import without_metadata
from lymphtune.cohort.packed import pack
from lymphtune.cohort.pictures import decode
from lymphtune.cohort.pseudonyms import PSEUDONYM, Pseudonyms, are_pseudonyms, pseudonymised, read_pseudonyms
from lymphtune.ensembling.apply import predict_to
from lymphtune.errors import InputError
from lymphtune.files import read_yaml, write_yaml
from lymphtune.runs.run import Run
from tests.conftest import TINY_DATES

BORN = ["3/27/1961", "03/27/1961", "27-03-1961", "1961-03-27", "19610327", "16-09-1934", "1934-09-16", "12/1/1939"]
SECRET = "Mueller-"  # before each id, in names of folders and pictures


def texts(path: Path) -> Iterator[str]:
    """Yield what a file says to whoever opens it by the right program."""
    if path.suffix == ".parquet":
        table = pd.read_parquet(path)
        yield table.drop(columns="encoded", errors="ignore").to_csv()
        yield from (bytes(data).decode("latin-1") for data in table.get("encoded", []))
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name).decode("latin-1") for name in archive.namelist())
    yield str(path)
    yield path.read_bytes().decode("latin-1")


def holding(folder: Path, words: list[str]) -> list[tuple[str, str]]:
    """Return which words stand in which files of the folder."""
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else [folder]
    return [(str(path), word) for path in files for text in texts(path) for word in words if word in text]


@pytest.fixture(scope="module")
def data(_tiny_cohort_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny cohort, its ids in names of pictures and in what the pictures say beside their pixels."""
    folder = Path(shutil.copytree(_tiny_cohort_files, tmp_path_factory.mktemp("named") / "tiny"))
    table = folder / "clinical_annotation.csv"
    table.write_text(table.read_text().replace(",P", f",{SECRET}P"))
    for bag in [path for path in folder.glob("*set/*") if path.is_dir()]:
        named = bag.rename(bag.with_name(SECRET + bag.name))
        for picture in list(named.iterdir()):
            bare, comment = picture.read_bytes(), f"{named.name} born 1961-03-27".encode()
            picture.write_bytes(bare[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + bare[2:])
            picture.rename(picture.with_name(f"{named.name}_{picture.name}"))
    return folder


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "key"
    read_pseudonyms(path, make=True)
    return path


@pytest.fixture(scope="module")
def run(data: Path, key: Path, ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished, ensembled run of pseudonyms."""
    runs = tmp_path_factory.mktemp("runs")
    own = {"trials": 1, "epochs": 1, "folds": 2, "pseudonymise": key, "runs": runs, "name": "mine"}
    run = lymphtune.search("clinical", data, **own)
    lymphtune.ensemble(run=run.path, top=2, source="clinical")
    return run


def test_dates_of_birth_are_stored_nowhere(searched: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in a run, an ensemble, predictions, a packed file, nor in the cache."""
    monkeypatch.setenv("LYMPHTUNE_CACHE", str(tmp_path / "cache"))
    copy, cohort = Path(shutil.copytree(searched.path, tmp_path / "run")), Path(searched.description.cohort.data)
    ensemble = lymphtune.ensemble(run=copy, top=2)
    predict_to(ensemble.path, str(cohort), tmp_path / "out", cells=True, allow_seen=True)
    assert main(["pack", str(cohort), str(tmp_path / "packed.parquet")]) == 0
    assert any((tmp_path / "cache").rglob("*.npy"))
    assert holding(cohort, BORN) and set(TINY_DATES) < set(BORN)
    assert not holding(tmp_path, BORN)


def test_no_id_and_no_key_is_in_a_run_of_pseudonyms(run: Run, data: Path, key: Path) -> None:
    assert holding(data, [SECRET])
    assert not holding(run.path, [SECRET, *BORN, key.read_text().strip()])
    assert are_pseudonyms(run.folds["patient"].tolist())
    described = run.description.cohort
    assert described.pseudonyms == read_pseudonyms(key).fingerprint and described.pseudonym_key == str(key)


@pytest.mark.slow
def test_no_table_of_a_report_has_an_age_to_the_day(searched: Run, tmp_path: Path) -> None:
    """From an exact age and the reference date the date of birth follows."""
    copy = Path(shutil.copytree(searched.path, tmp_path / "runs" / "mine"))
    assert main(["report", "--run", "mine", "--runs", str(copy.parent)]) == 0
    ages = [table["age_years"] for path in copy.rglob("*.csv") if "age_years" in (table := pd.read_csv(path))]
    assert ages and all((column == column.round(1)).all() for column in ages)


@pytest.mark.slow
def test_no_id_is_in_the_report_of_a_run_of_pseudonyms(run: Run) -> None:
    assert main(["report", "--run", "mine", "--runs", str(run.path.parent)]) == 0
    assert (run.path / "report.html").is_file() and not holding(run.path, [SECRET, *BORN])


def test_predictions_with_the_same_key_know_who_was_seen(run: Run, data: Path, key: Path, tmp_path: Path) -> None:
    ensemble = run.path / "ensembles" / "top"
    for bag in data.glob("trainset/*"):  # one picture alone, a new one: they are known by their ids
        assert bag.is_dir()
    with pytest.raises(InputError, match=r"12 of its 15 patients were seen in training, by id \(x[0-9a-f]{16}"):
        predict_to(ensemble, str(data), tmp_path / "out", key=key)
    predict_to(ensemble, str(data), tmp_path / "out", cells=True, allow_seen=True, key=key)
    assert not holding(tmp_path / "out", [SECRET, *BORN])
    table = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert table["seen"].sum() == 12 and are_pseudonyms(table["patient"])


def test_another_key_or_none_says_that_ids_are_not_known(
    run: Run, data: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ensemble = run.path / "ensembles" / "top"
    for other, said in (
        (None, "with --pseudonymise FILE by their ids, too"),
        (tmp_path / "key", "pseudonyms of another key"),
    ):
        with pytest.raises(InputError, match="were seen in training, by picture"):
            predict_to(ensemble, str(data), tmp_path / "out", key=other)
        assert said in capsys.readouterr().err


def test_the_real_ids_come_back_outside_of_the_run_alone(
    run: Run, data: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submission = run.path / "ensembles" / "top" / "submission.csv"
    ask = ["submit", "--check", str(submission), "--run", "mine", "--runs", str(run.path.parent)]
    assert main([*ask, "--real-ids", str(run.path / "real.csv")]) == 2
    assert "which must not hold ids; name a new file elsewhere" in capsys.readouterr().err
    assert main([*ask, "--real-ids", str(tmp_path / "real.csv")]) == 0
    assert main(["submit", "--check", str(tmp_path / "real.csv"), "--data", str(data)]) == 0
    real, pseudonyms = pd.read_csv(tmp_path / "real.csv"), read_pseudonyms(key)
    given = pd.read_csv(submission).set_index("ID")["Predicted"]
    assert [given[pseudonyms.of(patient)] for patient in real["ID"]] == real["Predicted"].tolist()
    again = [
        "submit",
        "--check",
        str(tmp_path / "real.csv"),
        "--data",
        str(data),
        "--real-ids",
        str(tmp_path / "x.csv"),
    ]
    assert main(again) == 2 and "name it with --pseudonymise" in capsys.readouterr().err


def test_a_run_of_pseudonyms_wants_its_own_key(run: Run, key: Path, tmp_path: Path) -> None:
    moved = Run(Path(shutil.copytree(run.path, tmp_path / "runs" / "mine")))
    description = (moved.path / "run.yaml").read_text()
    (moved.path / "run.yaml").write_text(description.replace(str(key), str(tmp_path / "key")))
    with pytest.raises(InputError, match="no such key file; restore it"):
        lymphtune.ensemble(run=moved.path, top=1, source="clinical")
    read_pseudonyms(tmp_path / "key", make=True)
    with pytest.raises(InputError, match="not the key of the run mine"):
        lymphtune.ensemble(run=moved.path, top=1, source="clinical")
    from lymphtune.cluster.driver import resume

    with pytest.raises(InputError, match=r"belongs to another search \(cohort pseudonyms [0-9a-f]{16} -> [0-9a-f]{16}"):
        resume("mine", moved.path.parent, trials=2)
    (tmp_path / "key").unlink()
    with pytest.raises(InputError, match="no such key file; restore it"):
        resume("mine", moved.path.parent, trials=2)
    assert not (tmp_path / "key").exists()


def test_a_run_of_pseudonyms_that_names_no_key_is_refused(run: Run, tmp_path: Path) -> None:
    moved = Run(Path(shutil.copytree(run.path, tmp_path / "runs" / "mine")))
    given = read_yaml(moved.path / "run.yaml")
    del given["cohort"]["pseudonym_key"]
    write_yaml(moved.path / "run.yaml", given)
    with pytest.raises(InputError, match=r"run.yaml: no 'cohort.pseudonym_key' in it"):
        lymphtune.ensemble(run=moved.path, top=1, source="clinical")


def test_a_key_among_the_runs_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="would lie among the runs"):
        lymphtune.search("clinical", data, runs=tmp_path / "runs", pseudonymise=tmp_path / "runs" / "key")
    assert not (tmp_path / "runs").exists()


def test_a_packed_file_of_pseudonyms_says_pixels_and_no_more(data: Path, key: Path, tmp_path: Path) -> None:
    packed, pseudonyms = tmp_path / "packed.parquet", read_pseudonyms(key)
    assert main(["pack", str(data), str(packed), "--pseudonymise", str(key)]) == 0
    assert not holding(packed, [SECRET, *BORN])
    there, here = load_cohort(packed), load_cohort(data, pseudonyms=pseudonyms)
    pd.testing.assert_frame_equal(there.patients, here.patients)
    np.testing.assert_array_equal(there.pictures_CSS3, here.pictures_CSS3)
    with pytest.raises(InputError, match="its ids are pseudonyms already"):
        load_cohort(packed, pseudonyms=pseudonyms)
    pack(data, tmp_path / "plain.parquet", there.reference_date)
    assert holding(tmp_path / "plain.parquet", [SECRET])  # without it nothing is taken out: bytes stay as they are


def test_pseudonymised_it_is_the_same_cohort_in_another_order(data: Path, key: Path) -> None:
    pseudonyms = read_pseudonyms(key)
    plain, named = load_cohort(data), load_cohort(data, pseudonyms=pseudonyms)
    places = [named.ids.index(pseudonyms.of(patient)) for patient in plain.ids]
    assert sorted(places) == list(range(len(plain.ids))) != places
    for row, place in enumerate(places):
        np.testing.assert_array_equal(plain.bag(row), named.bag(place))
        assert plain.digests_of_bags[row] == named.digests_of_bags[place]
        before, after = plain.patients.iloc[row], named.patients.iloc[place]
        assert (before["label"], before["sex"]) == (after["label"], after["sex"])
        assert after["age_years"] == round(before["age_years"], 1)


def test_blocks_of_pseudonyms_are_the_whole(data: Path, key: Path) -> None:
    surveyed = survey_cohort(data, pseudonyms=read_pseudonyms(key))
    block = surveyed.block(range(3, 9))
    whole: Cohort = surveyed.load()
    assert block.cohort.ids == whole.ids[3:9] and len(block.names) == len(block.cohort.pictures_CSS3)
    np.testing.assert_array_equal(block.cohort.pictures_CSS3, whole.pictures_CSS3[whole.starts[3] : whole.starts[9]])
    assert not [name for name in block.names if SECRET in name]


def test_a_pseudonym_is_a_function_of_key_and_id() -> None:
    one, other = Pseudonyms(bytes(32)), Pseudonyms(b"\1" * 32)
    assert one.of("P1") == Pseudonyms(bytes(32)).of("P1") != one.of("P2") and one.of("P1") != other.of("P1")
    assert PSEUDONYM.fullmatch(one.of("P1")) and one.fingerprint != other.fingerprint
    assert "00000000" not in repr(one)


def test_groups_stay_groups(data: Path, key: Path) -> None:
    surveyed, pseudonyms = survey_cohort(data), read_pseudonyms(key)
    ids = surveyed.patients["patient"]
    surveyed.patients["group"] = [ids[row // 2 * 2] for row in range(len(ids))]
    named = pseudonymised(surveyed, pseudonyms).patients
    assert named.groupby("group").size().sort_values().tolist() == [1, *[2] * (len(ids) // 2)]
    assert set(named["group"]) <= set(named["patient"])


@pytest.mark.parametrize("text", ["", "x" * 64, "0" * 63, "0" * 66, "\xff" * 64])
def test_what_is_no_key_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(text.encode("latin-1"))
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(InputError, match="not a key; expected 64 hexadecimal digits"):
        read_pseudonyms(tmp_path / "key", make=True)
    assert (tmp_path / "key").read_bytes() == text.encode("latin-1")


def test_a_key_is_its_owner_s_alone(tmp_path: Path) -> None:
    made = read_pseudonyms(tmp_path / "deep" / "key", make=True)
    assert (tmp_path / "deep" / "key").stat().st_mode & 0o777 == 0o600
    assert read_pseudonyms(tmp_path / "deep" / "key") == made
    (tmp_path / "deep" / "key").chmod(0o644)
    with pytest.raises(InputError, match=r"others can read this key .mode 644.; run chmod 600 on it"):
        read_pseudonyms(tmp_path / "deep" / "key")
    with pytest.raises(InputError, match="no such key file"):
        read_pseudonyms(tmp_path / "none")


def pictures() -> dict[str, bytes]:
    """Return pictures of all formats that say a name beside their pixels, one of them twice over."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8))
    made = {}
    exif = Image.Exif()
    exif[0x010E], exif[0x013B] = SECRET, SECRET  # description, artist
    for name, form, options in (
        ("jpg", "jpeg", {"exif": exif, "comment": SECRET}),
        ("progressive", "jpeg", {"exif": exif, "progressive": True}),
        ("png", "png", {"exif": exif}),
        ("tif", "tiff", {"description": SECRET}),
        ("bmp", "bmp", {}),
    ):
        out = io.BytesIO()
        image.save(out, form, **options)
        made[name] = out.getvalue()
    exif[0x0112] = 6
    for name, form in (("turned jpg", "jpeg"), ("turned png", "png")):
        out = io.BytesIO()
        image.save(out, form, exif=exif)
        made[name] = out.getvalue()
    made["appended"] = made["jpg"] + made["jpg"] + SECRET.encode()
    return made


@pytest.mark.parametrize("name", pictures())
def test_a_picture_loses_all_but_its_pixels(name: str) -> None:
    given = pictures()[name]
    bare = without_metadata(given, name)
    assert SECRET.encode() not in bare and (name == "bmp" or SECRET.encode() in given)
    np.testing.assert_array_equal(decode(bare, name).pixels_SS3, decode(given, name).pixels_SS3)
    assert without_metadata(bare, name) == bare  # which has no more to lose, and so keeps its digest
    with Image.open(io.BytesIO(bare)) as image:
        assert not image.getexif() and not {"comment", "Description"} & set(image.info)


def test_what_is_said_of_the_cohort_names_nobody(
    data: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A search looks its cohort over, the table too, and says what it found: it may stand in a batch system's log."""
    table = data / "clinical_annotation.csv"
    sound = table.read_text()
    try:
        table.write_text(sound.replace("3/27/1961", "1/1/1905"))
        ask = [
            "search",
            "--space",
            "clinical",
            "--data",
            str(data),
            "--folds",
            "2",
            "--dry-run",
            "--runs",
            str(tmp_path),
        ]
        assert main(ask) == 0
        assert SECRET in "".join(capsys.readouterr())
        for own in (key, tmp_path.parent / "none"):
            assert main([*ask, "--pseudonymise", str(own)]) == 0
            assert SECRET not in "".join(capsys.readouterr())
        assert not (tmp_path.parent / "none").exists()
    finally:
        table.write_text(sound)
