"""The simulated cohort repeats exactly, follows the facts it is drawn after, and reads back from files."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import find_objects, label
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lymphtune.cohort.cohort import COLUMNS, PICTURE_PX, REFERENCE_DATE, Cohort
from lymphtune.cohort.simulation import patients as simulated
from lymphtune.cohort.simulation import smear
from lymphtune.cohort.simulation.patients import (
    contact_sheet,
    draw_bag,
    draw_cell_types,
    draw_patients,
    simulated_cohort,
    simulated_truth,
    write_simulated,
)
from lymphtune.cohort.study import read_study
from lymphtune.errors import InputError

CENTRE = slice(PICTURE_PX // 2 - 56, PICTURE_PX // 2 + 56)


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LYMPHTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def tiny(_cache: None) -> Cohort:
    return simulated_cohort(n_patients=10, n_cells=3, seed=5)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("written") / "mycohort"
    write_simulated(out, n_patients=30, n_cells=3, seed=1)
    return out


def out_of_fold(features: np.ndarray, labels: np.ndarray) -> float:
    """Return the balanced accuracy of logistic regression, 5-fold, mean of three repeats."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, class_weight="balanced"))
    scores = []
    for repeat in range(3):
        folds = StratifiedKFold(5, shuffle=True, random_state=repeat)
        scores.append(balanced_accuracy_score(labels, cross_val_predict(model, features, labels, cv=folds)))
    return float(np.mean(scores))


def clinical_features(patients: pd.DataFrame) -> np.ndarray:
    return np.column_stack([patients["age_years"], np.log(patients["lymphocytes_g_per_l"])])


def test_same_seed_same_cohort(tiny: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LYMPHTUNE_CACHE", str(tmp_path))  # so that it is drawn again
    again = simulated_cohort(n_patients=10, n_cells=3, seed=5)
    assert again.hash == tiny.hash
    assert np.array_equal(again.pictures_CSS3, tiny.pictures_CSS3)


def test_several_processes_draw_what_one_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    patients = draw_patients(10, 3, 1)
    monkeypatch.setattr(simulated, "PARALLEL_FROM", 0)
    for row, bag_CSS3 in enumerate(simulated._bags(patients, 1)):
        assert np.array_equal(bag_CSS3, draw_bag(patients, row, 1))


def test_other_seed_other_cohort(tiny: Cohort) -> None:
    other = simulated_cohort(n_patients=10, n_cells=3, seed=6)
    assert other.hash != tiny.hash
    assert not set(other.picture_digests) & set(tiny.picture_digests)


def test_a_bag_does_not_depend_on_what_was_drawn_before(tiny: Cohort) -> None:
    patients = draw_patients(10, 3, 5)
    assert np.array_equal(draw_bag(patients, 7, 5), tiny.bag(7))


def test_cohort_says_what_it_is(tiny: Cohort) -> None:
    assert tiny.simulated
    assert tiny.name == "simulated-p10-c3-s5"
    assert tuple(tiny.patients.columns) == COLUMNS
    assert tiny.ids == [f"SIM{number}" for number in range(1, 11)]
    assert tiny.pictures_CSS3.dtype == np.uint8
    assert len(set(tiny.picture_digests)) == len(tiny.pictures_CSS3)
    assert not tiny.pictures_CSS3.flags.writeable


def test_second_start_reads_the_cache(tiny: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated, "draw_bag", None)
    assert simulated_cohort(n_patients=10, n_cells=3, seed=5).hash == tiny.hash


def test_damaged_cache_is_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Cohort) -> None:
    monkeypatch.setenv("LYMPHTUNE_CACHE", str(tmp_path))
    simulated_cohort(n_patients=10, n_cells=3, seed=5)
    (file,) = tmp_path.glob("*.npy")
    file.write_bytes(file.read_bytes()[:5000])
    assert np.array_equal(simulated_cohort(n_patients=10, n_cells=3, seed=5).pictures_CSS3, tiny.pictures_CSS3)


def test_patients_follow_the_facts() -> None:
    patients = draw_patients(400, 12, 0)
    assert (patients["label"] == -1).sum() == 80
    labelled = patients[patients["label"] != -1]
    assert (labelled["label"] == 0).mean() == pytest.approx(0.31, abs=0.01)
    assert (labelled["label"] == labelled["true_label"]).all()
    for true_label, mean, deviation, low, high in ((0, 54.3, 19.8, 22, 93), (1, 75.2, 12.0, 33, 99)):
        ages = patients.loc[patients["true_label"] == true_label, "age_years"]
        assert ages.mean() == pytest.approx(mean, abs=4)
        assert ages.std() == pytest.approx(deviation, abs=2.5)
        assert ages.between(low - 0.01, high + 0.01).all()
    counts = patients.groupby("true_label")["lymphocytes_g_per_l"]
    assert counts.mean()[0] == pytest.approx(5.0, abs=0.3)
    assert counts.median()[1] == pytest.approx(12.4, abs=2)
    assert patients.loc[patients["true_label"] == 0, "lymphocytes_g_per_l"].between(4.0, 7.7).all()
    assert patients.loc[patients["true_label"] == 1, "lymphocytes_g_per_l"].between(2.3, 295).all()


def test_order_and_number_of_cells_tell_nothing() -> None:
    patients = draw_patients(1500, 12, 0)
    labels = patients["true_label"].to_numpy()
    assert patients["n_cells"].min() >= 3
    assert patients["n_cells"].mean() == pytest.approx(12, abs=0.5)
    for column in (patients["n_cells"].to_numpy(), np.arange(len(labels)), patients["sex"].eq("F").to_numpy()):
        assert out_of_fold(column[:, None].astype(float), labels) == pytest.approx(0.5, abs=0.05)


def test_age_and_count_reach_about_085() -> None:
    scores = []
    for seed in range(8):
        patients = draw_patients(120, 12, seed).query("label != -1")
        scores.append(out_of_fold(clinical_features(patients), patients["label"].to_numpy()))
    assert 0.80 <= np.mean(scores) <= 0.90


def test_shares_of_types_tell_the_classes_apart_but_not_surely() -> None:
    patients = draw_patients(200, 12, 0)
    bags = [draw_cell_types(patients, row, 0) for row in range(len(patients))]
    shares = np.array([[bag.count(kind) / len(bag) for kind in smear.CELL_TYPES] for bag in bags])
    assert 0.80 <= out_of_fold(shares, patients["true_label"].to_numpy()) <= 0.96
    assert {kind for bag in bags for kind in bag} == set(smear.CELL_TYPES)


@pytest.mark.parametrize("kind", smear.CELL_TYPES)
def test_cell_lies_within_the_central_112_pixels(kind: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(12):
        look = replace(smear.vary(smear.CELL_TYPES[kind], rng, spread=2), skirting=0.0)
        bare = replace(smear.draw_stain(rng), crowding=0.0)  # no red cells
        picture_SS3 = smear.draw_picture(look, bare, rng).astype(int)
        stained_SS = np.abs(picture_SS3 - np.median(picture_SS3, axis=(0, 1))).max(axis=2) > 30
        spots_SS, _ = label(stained_SS)
        central = set(np.unique(spots_SS[CENTRE, CENTRE])) - {0}
        assert central
        for number in central:
            rows, columns = find_objects((spots_SS == number).astype(int))[0]
            assert min(rows.start, columns.start) >= CENTRE.start
            assert max(rows.stop, columns.stop) <= CENTRE.stop


def test_written_folder_reads_back(written: Path) -> None:
    cohort = read_study(written, REFERENCE_DATE)
    patients = draw_patients(30, 3, 1)
    pd.testing.assert_frame_equal(cohort.patients, patients[list(COLUMNS)], check_dtype=False)
    difference = cohort.bag(0).astype(int) - draw_bag(patients, 0, 1)
    assert np.abs(difference).mean() < 4  # what JPEG loses


def test_written_folder_has_the_studys_layout(written: Path) -> None:
    table = pd.read_csv(written / "clinical_annotation.csv", dtype=str)
    assert list(table.columns) == ["Unnamed: 0", "ID", "LABEL", "GENDER", "DOB", "LYMPH_COUNT"]
    assert set(table["GENDER"]) <= {"F", "M", "f"}
    slashed = table["DOB"].str.fullmatch(r"\d{1,2}/\d{1,2}/\d{4}")
    dashed = table["DOB"].str.fullmatch(r"\d{2}-\d{2}-\d{4}")
    assert (slashed | dashed).all()
    assert slashed.any()
    assert dashed.any()
    first = written / "trainset" / table.loc[table["LABEL"] != "-1", "ID"].iloc[0] / "000000.jpg"
    with Image.open(first) as image:
        assert (image.size, image.format) == ((PICTURE_PX, PICTURE_PX), "JPEG")
    assert (written / "SIMULATED").is_file()
    assert "SIMULATED" in (written / "README.txt").read_text()
    truth = pd.read_csv(written / "truth_of_patients_to_predict.csv", index_col="ID")["LABEL"]
    assert set(truth.index) == {path.name for path in (written / "testset").iterdir()}
    assert truth.to_dict() == simulated_truth(30, 3, 1).to_dict()
    assert set(truth) == {0, 1}


def test_dates_of_birth_follow_the_reference_date(tmp_path: Path) -> None:
    day = date(2024, 2, 29)
    (tmp_path / "empty").mkdir()
    write_simulated(tmp_path / "empty", n_patients=10, n_cells=1, seed=0, reference_date=day)
    ages = read_study(tmp_path / "empty", day).patients["age_years"]
    assert ages.tolist() == draw_patients(10, 1, 0)["age_years"].tolist()


def test_another_prefix_makes_other_patients_and_nothing_else_of_them(written: Path, tmp_path: Path) -> None:
    write_simulated(tmp_path / "new", n_patients=30, n_cells=3, seed=1, prefix="NEW")
    one, other = read_study(written, REFERENCE_DATE), read_study(tmp_path / "new", REFERENCE_DATE)
    assert other.ids == [patient.replace("SIM", "NEW") for patient in one.ids]
    assert other.patients.drop(columns="patient").equals(one.patients.drop(columns="patient"))
    assert other.picture_digests == one.picture_digests
    truth = pd.read_csv(tmp_path / "new" / "truth_of_patients_to_predict.csv", index_col="ID")
    assert set(truth.index) == {path.name for path in (tmp_path / "new" / "testset").iterdir()}
    with pytest.raises(InputError, match=r"--prefix '\.\./': an id with it .*; expected letters such as SIM"):
        write_simulated(tmp_path / "hostile", prefix="../")


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already; name a folder that does not, or an empty one"):
        write_simulated(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((9, 12, 0), "9 patients; expected 10 or more"),
        ((10, 0, 0), "0 cells a patient; expected 1 or more"),
        ((10, 12, -1), "seed -1; expected 0 or more"),
    ],
)
def test_bad_numbers_are_refused(arguments: tuple[int, int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw_patients(*arguments)


def test_contact_sheet_is_small_enough_for_the_documentation(tmp_path: Path) -> None:
    contact_sheet(tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size < 600_000


@pytest.mark.slow
def test_pictures_tell_by_form_not_by_colour_and_add_to_age_and_count() -> None:
    cohort = simulated_cohort()
    assert cohort.name == "simulated"
    labels = cohort.labels[cohort.labelled]
    bags = [cohort.bag(row)[:, CENTRE, CENTRE].astype(np.float32) for row in cohort.labelled]
    colour = np.array([cohort.bag(row).mean(axis=(0, 1, 2)) for row in cohort.labelled])
    form = np.array([_form(bag_NSS3) for bag_NSS3 in bags])
    clinical = clinical_features(cohort.patients.iloc[cohort.labelled])
    assert out_of_fold(colour, labels) < 0.66
    assert 0.68 < out_of_fold(form, labels) < 0.90
    both = out_of_fold(np.column_stack([clinical, form]), labels)
    assert both > max(out_of_fold(form, labels), out_of_fold(clinical, labels))


def _form(bag_NSS3: np.ndarray) -> np.ndarray:
    """Return the mean size, darkness, contrast and grain of a bag's nuclei, and their spread."""
    green_NSS = bag_NSS3[..., 1]
    nucleus_NSS = green_NSS < 0.6 * np.median(green_NSS, axis=(1, 2), keepdims=True)
    grain_NSS = np.abs(green_NSS[:, 2:, 2:] - 0.5 * (green_NSS[:, :-2, 2:] + green_NSS[:, 2:, :-2]))
    blue_NSS = bag_NSS3[..., 2] - bag_NSS3[..., 0]
    features = []
    for green_SS, nucleus_SS, grain_SS, blue_SS in zip(green_NSS, nucleus_NSS, grain_NSS, blue_NSS, strict=True):
        inside = nucleus_SS[2:, 2:] & nucleus_SS[:-2, :-2] & nucleus_SS[2:, :-2] & nucleus_SS[:-2, 2:]
        values = (
            nucleus_SS.sum() ** 0.5,
            np.ptp(green_SS),
            grain_SS[inside].mean() if inside.any() else 0.0,
            blue_SS.std(),
            (blue_SS > 25).sum() ** 0.5,
        )
        features.append(values)
    return np.concatenate([np.mean(features, axis=0), np.std(features, axis=0)])
