"""A saved ensemble on new patients, block by block: what it writes, whom it refuses, what it is worth on them."""

import shutil
import unicodedata
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import lymphtune
from lymphtune.cohort import REFERENCE_DATE, Cohort, CohortSurvey, blocks, load_cohort
from lymphtune.cohort.folds import hashed
from lymphtune.cohort.packed import pack
from lymphtune.cohort.simulation.patients import write_simulated
from lymphtune.config import configuration
from lymphtune.ensembling.apply import predict_to
from lymphtune.ensembling.bundle import Ensemble
from lymphtune.ensembling.external import external_scores
from lymphtune.errors import InputError
from lymphtune.runs.run import Run
from lymphtune.training.loading import predict_cells_with

NEW, CELLS = 14, 3  # patients, about so many cells each


def of_source(run: Run, folder: Path, source: str, top: int) -> Ensemble:
    """Return an ensemble of its own of the run's trials of that kind."""
    own = Path(shutil.copytree(run.path, folder / "own"))
    return lymphtune.ensemble(run=own, top=top, source=source, include_stopped=True)


@pytest.fixture(scope="module")
def _drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    write_simulated(tmp_path_factory.mktemp("drawn") / "new", NEW, CELLS, 1)
    return next(tmp_path_factory.getbasetemp().glob("drawn*/new"))


@pytest.fixture
def new(_drawn: Path, tmp_path: Path) -> Path:
    """A folder of patients of whom none was seen in training, most of them labelled; free to be changed."""
    return Path(shutil.copytree(_drawn, tmp_path / "new"))


def rename(folder: Path, old: str, new: str) -> None:
    """Give a patient of the folder another id."""
    csv = folder / "clinical_annotation.csv"
    csv.write_text(csv.read_text().replace(f",{old},", f",{new},"))
    (bag,) = folder.glob(f"*set/{old}")
    bag.rename(bag.with_name(new))


def first_trained(run: Run) -> tuple[str, Path]:
    """Return a patient seen in training, and the folder of its pictures."""
    data = Path(run.description.cohort.data)
    cohort = load_cohort(data)
    patient = cohort.ids[cohort.labelled[0]]
    return patient, data / "trainset" / patient


def predictions(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "predictions.parquet")


# ---- what is written


def test_every_new_patient_is_written_once(
    ensemble: Ensemble, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = predict_to(ensemble.path, str(new), tmp_path / "out").text
    assert f"{NEW} patients" in said
    assert "SIMULATED" in capsys.readouterr().err
    cohort = load_cohort(new)
    assert list(pd.read_csv(tmp_path / "out" / "submission.csv")["ID"]) == cohort.ids
    table = predictions(tmp_path / "out")
    assert list(table["patient"]) == cohort.ids and not table["seen"].any()
    about = pq.read_schema(tmp_path / "out" / "predictions.parquet").metadata
    assert about[b"cohort_hash"] == cohort.hash.encode() and about[b"simulated"] == b"true"
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["predictions.csv", "predictions.parquet", "submission.csv"]
    with pytest.raises(InputError, match="already exists"):
        predict_to(ensemble.path, str(new), tmp_path / "out")


@pytest.mark.parametrize("kind", ["folder", pytest.param("packed", marks=pytest.mark.slow)])
def test_the_size_of_the_blocks_changes_nothing(
    ensemble: Ensemble, new: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = new
    if kind == "packed":
        data = tmp_path / "new.parquet"
        pack(new, data, REFERENCE_DATE)
    predict_to(ensemble.path, str(data), tmp_path / "whole", cells=True)
    for most in (1, 5):
        monkeypatch.setattr(blocks, "BLOCK_PATIENTS", most)
        predict_to(ensemble.path, str(data), tmp_path / f"{most}", cells=True)
        for name in ("predictions", "cells"):
            one, other = (pd.read_parquet(tmp_path / f"{out}/{name}.parquet") for out in ("whole", most))
            pd.testing.assert_frame_equal(one, other, check_exact=False, rtol=0, atol=1e-6)
    in_memory = ensemble.predict(load_cohort(data), np.arange(NEW))
    np.testing.assert_array_equal(predictions(tmp_path / "whole")["probability"], in_memory.probability_P)
    np.testing.assert_array_equal(predictions(tmp_path / "whole")["spread"], in_memory.spread_P)


def test_cells_are_the_mean_of_the_fold_models_that_judge_them(run: Run, new: Path, tmp_path: Path) -> None:
    ensemble = of_source(run, tmp_path, "all", 6)
    predict_to(ensemble.path, str(new), tmp_path / "out", cells=True)
    table, cohort = pd.read_parquet(tmp_path / "out" / "cells.parquet"), load_cohort(new)
    assert list(table.columns) == ["patient", "cell", "picture", "probability", "weight"]
    assert list(table["patient"].drop_duplicates()) == cohort.ids
    of_each, bags = [], dict(list(table.groupby("patient")))
    for member in ensemble.members:
        chosen = configuration(member["configuration"], "test")
        both = [predict_cells_with(ensemble.path / name, chosen, cohort, np.arange(NEW)) for name in member["weights"]]
        of_each += [of_cells for _, of_cells in both]
        mean_P = np.mean([said.probability_P for said, _ in both], axis=0)
        np.testing.assert_allclose(predictions(tmp_path / "out")[member["trial"]], mean_P, rtol=0, atol=1e-6)
    kinds = {(bool(np.isnan(one.probability_C).all()), bool(np.isnan(one.weight_C).all())) for one in of_each}
    assert {(True, True), (False, False)} <= kinds  # clinical ones give neither
    np.testing.assert_allclose(table["probability"], np.nanmean([one.probability_C for one in of_each], axis=0))
    np.testing.assert_allclose(table["weight"], np.nanmean([one.weight_C for one in of_each], axis=0))
    for patient, n_cells in zip(cohort.ids, cohort.patients["n_cells"], strict=True):
        assert list(bags[patient]["cell"]) == list(range(n_cells))
        assert list(bags[patient]["picture"]) == [f"{number:06d}.jpg" for number in range(n_cells)]
        assert bags[patient]["weight"].sum() == pytest.approx(1, abs=1e-6)
    about = pq.read_schema(tmp_path / "out" / "cells.parquet").metadata
    assert about[b"cohort_hash"] == cohort.hash.encode() and about[b"simulated"] == b"true"


def test_clinical_models_say_nothing_of_cells(run: Run, new: Path, tmp_path: Path) -> None:
    clinical = of_source(run, tmp_path, "clinical", 2)
    predict_to(clinical.path, str(new), tmp_path / "out", cells=True)
    table = pd.read_parquet(tmp_path / "out" / "cells.parquet")
    assert len(table) == len(load_cohort(new).pictures_CSS3)
    assert table["probability"].isna().all() and table["weight"].isna().all()


def test_one_block_is_in_memory_at_a_time_and_the_cache_is_left_alone(
    ensemble: Ensemble, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_CELLS", 12)
    monkeypatch.setenv("LYMPHTUNE_CACHE", str(tmp_path / "cache"))
    real, sizes, held = blocks.decode_in_memory, [], []

    def watched(*given: Any) -> Any:
        assert all(pixels() is None for pixels in held)
        pixels_CSS3, read = real(*given)
        sizes.append(len(pixels_CSS3))
        held.append(weakref.ref(pixels_CSS3))
        return pixels_CSS3, read

    monkeypatch.setattr(blocks, "decode_in_memory", watched)
    predict_to(ensemble.path, str(new), tmp_path / "out", cells=True)
    assert len(sizes) > 3 and max(sizes) <= 12
    assert not (tmp_path / "cache").exists()


# ---- what is left behind when it fails


def test_a_truncated_picture_in_the_last_block_leaves_nothing(
    ensemble: Ensemble, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_PATIENTS", 4)
    last = load_cohort(new).ids[-1]
    path = next(new.glob(f"*set/{last}")) / "000000.jpg"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match=rf"{last}/000000.jpg: truncated or unreadable picture"):
        predict_to(ensemble.path, str(new), tmp_path / "out", cells=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["new"]


def test_a_picture_that_changes_in_between_is_noticed(
    ensemble: Ensemble, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = CohortSurvey.block

    def block(surveyed: CohortSurvey, rows: range) -> Any:
        shutil.copy(next(new.glob("*set/SIM1")) / "000000.jpg", next(new.glob("*set/SIM2")) / "000000.jpg")
        return real(surveyed, rows)

    monkeypatch.setattr(CohortSurvey, "block", block)
    with pytest.raises(InputError, match=r"new: changed while it was read; start again"):
        predict_to(ensemble.path, str(new), tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["new"]


# ---- patients seen in training


def test_an_id_seen_in_training_is_refused_before_any_picture_is_read(
    ensemble: Ensemble, run: Run, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient, _ = first_trained(run)
    rename(new, "SIM3", patient)
    monkeypatch.setattr(CohortSurvey, "digests", None)
    with pytest.raises(
        InputError, match=rf"new: 1 of its {NEW} patients were seen in training, by id \({patient}\); .*--allow-seen"
    ):
        predict_to(ensemble.path, str(new), tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["new"]


def test_a_picture_seen_in_training_is_refused_before_any_is_judged(
    ensemble: Ensemble, run: Run, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, bag = first_trained(run)
    shutil.copy(next(bag.iterdir()), next(new.glob("*set/SIM7")) / "999999.jpg")
    monkeypatch.setattr(CohortSurvey, "block", None)
    with pytest.raises(InputError, match=rf"1 of its {NEW} patients were seen in training, by picture \(SIM7\)"):
        predict_to(ensemble.path, str(new), tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["new"]


def test_the_cohort_it_was_trained_on_is_refused(ensemble: Ensemble, run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"12 of its 15 patients were seen in training, by id \(\w+, \w+, \w+, ...\)"):
        predict_to(ensemble.path, run.description.cohort.data, tmp_path / "out")


def test_seen_patients_can_be_predicted_and_are_marked(ensemble: Ensemble, run: Run, new: Path, tmp_path: Path) -> None:
    patient, bag = first_trained(run)
    rename(new, "SIM3", patient)
    shutil.copy(next(bag.iterdir()), next(new.glob("*set/SIM7")) / "999999.jpg")
    said = predict_to(ensemble.path, str(new), tmp_path / "out", allow_seen=True).text
    assert "2 were seen in training" in said
    table = predictions(tmp_path / "out").set_index("patient")
    assert set(table.index[table["seen"]]) == {patient, "SIM7"} and len(table) == NEW
    counted = (load_cohort(new).patients.set_index("patient")["label"] != -1) & ~table["seen"]
    assert f"external validation: {counted.sum()} labelled patients" in said and counted.sum() < NEW * 0.8 - 1


def test_seen_patients_alone_validate_nothing(ensemble: Ensemble, run: Run, tmp_path: Path) -> None:
    said = predict_to(ensemble.path, run.description.cohort.data, tmp_path / "out", allow_seen=True).text
    assert "12 were seen in training" in said and "external" not in said
    assert predictions(tmp_path / "out")["seen"].sum() == 12


def test_seen_is_by_id_or_by_any_picture(ensemble: Ensemble, run: Run) -> None:
    cohort = load_cohort(run.description.cohort.data)
    trained_P = cohort.labels != -1
    others = [f"{number:064x}" for number in range(len(cohort.picture_digests))]
    renamed = cohort.patients.assign(patient=[f"X{number}" for number in range(len(trained_P))])
    np.testing.assert_array_equal(ensemble.seen(cohort), trained_P)
    np.testing.assert_array_equal(ensemble.seen(replace(cohort, picture_digests=others)), trained_P)
    np.testing.assert_array_equal(ensemble.seen(replace(cohort, patients=renamed)), trained_P)
    assert not ensemble.seen(replace(cohort, patients=renamed, picture_digests=others)).any()


# ---- external validation


def relabelled(cohort: Cohort, label: int) -> Cohort:
    patients = cohort.patients.assign(label=np.where(cohort.labels == -1, -1, label))
    return replace(cohort, patients=patients)


def test_labelled_patients_are_an_external_validation(ensemble: Ensemble, new: Path, tmp_path: Path) -> None:
    said = predict_to(ensemble.path, str(new), tmp_path / "out").text
    cohort = load_cohort(new)
    scores = ensemble.score(cohort)
    assert list(scores) == ["balanced_accuracy", "recall", "specificity", "auc", "log_loss", "brier"]
    for name, interval in scores.items():
        assert f"{name.replace('_', ' '):18} {interval}" in said
    assert said.endswith("SIMULATED cohort: these numbers say nothing about people.")
    labels = cohort.labels[cohort.labelled]
    called = predictions(tmp_path / "out")["predicted"].to_numpy()[cohort.labelled]
    assert scores["recall"].value == pytest.approx(called[labels == 1].mean())
    assert scores["specificity"].value == pytest.approx(1 - called[labels == 0].mean())
    assert all(len(line) <= 80 for line in said.splitlines()[1:])


def test_the_ensembles_own_threshold_calls(tmp_path: Path) -> None:
    probabilities_P, labels_P = np.array([0.1, 0.3, 0.35, 0.9]), np.array([0, 0, 1, 1])
    usual, lower = (external_scores(probabilities_P, labels_P, threshold) for threshold in (0.5, 0.3))
    assert (usual["recall"].value, usual["specificity"].value) == (0.5, 1.0)
    assert (lower["recall"].value, lower["specificity"].value) == (1.0, 0.5)
    assert usual["auc"] == lower["auc"] and usual["auc"].value == 1.0


def test_scoring_patients_seen_in_training_is_refused(ensemble: Ensemble, run: Run, new: Path) -> None:
    trained = load_cohort(run.description.cohort.data)
    with pytest.raises(InputError, match="12 of 15 patients were seen in training"):
        ensemble.score(trained)
    patient, _ = first_trained(run)
    rename(new, "SIM3", patient)
    with pytest.raises(InputError, match=rf"1 of {NEW} patients were seen in training \({patient}\) and cannot"):
        ensemble.score(load_cohort(new))


@pytest.mark.parametrize(("label", "found"), [(1, "0 reactive and 11 tumoral"), (-1, "0 reactive and 0 tumoral")])
def test_one_class_alone_is_not_scored(ensemble: Ensemble, new: Path, label: int, found: str) -> None:
    with pytest.raises(InputError, match=f"new: {found} patients to score; expected some of both"):
        ensemble.score(relabelled(load_cohort(new), label))


def test_predictions_of_one_class_say_why_there_is_no_score(ensemble: Ensemble, new: Path, tmp_path: Path) -> None:
    csv = new / "clinical_annotation.csv"
    csv.write_text(csv.read_text().replace(",0,", ",1,"))
    said = predict_to(ensemble.path, str(new), tmp_path / "out").text
    assert "no external validation: 0 reactive and 11 tumoral" in said
    assert len(predictions(tmp_path / "out")) == NEW


def test_other_versions_than_it_was_saved_with_are_named(ensemble: Ensemble) -> None:
    assert ensemble.other_versions == []
    versions = ensemble.description["versions"] | {"torch": "1.0"}
    other = Ensemble(ensemble.path, ensemble.description | {"versions": versions})
    assert [text.split(" ")[0] for text in other.other_versions] == ["torch"]
    assert other.other_versions[0].endswith("(saved with 1.0)")


def test_a_patient_seen_in_training_is_known_in_either_unicode_form(
    ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ensembles of earlier versions may have noted the decomposed id, later ones note the composed."""
    for form, other in (("NFD", "NFC"), ("NFC", "NFD")):
        monkeypatch.setattr(ensemble, "_trained_on", frozenset({hashed(unicodedata.normalize(form, "P\u00e9"))}))
        assert ensemble.seen_ids([unicodedata.normalize(other, "P\u00e9"), "Pe", "P\u00e8"]).tolist() == [
            True,
            False,
            False,
        ]
