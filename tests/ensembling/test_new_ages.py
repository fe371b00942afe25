"""Ages of new patients: counted as in training or as asked, said each time, refused where they cannot be alike."""

import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lymphtune
from lymphtune.cohort import load_cohort
from lymphtune.cohort.simulation.patients import write_simulated
from lymphtune.ensembling.apply import predict_to
from lymphtune.ensembling.bundle import Ensemble
from lymphtune.errors import InputError
from lymphtune.files import read_yaml, write_yaml
from lymphtune.runs.run import Run

TABLE = "clinical_annotation.csv"


@pytest.fixture(scope="module")
def clinical(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an ensemble of clinical models, trained on ages counted to 2020-01-01."""
    own = Path(shutil.copytree(run.path, tmp_path_factory.mktemp("clinical") / "own"))
    return lymphtune.ensemble(run=own, top=2, source="clinical").path


@pytest.fixture
def new(tmp_path: Path) -> Path:
    write_simulated(tmp_path / "new", 10, 3, 5)
    (tmp_path / "new" / "SIMULATED").unlink()
    return tmp_path / "new"


@pytest.fixture
def examined(clinical: Path, tmp_path: Path) -> Path:
    """The same ensemble as if its patients' ages had been those at the examination."""
    return said_to_be(Path(shutil.copytree(clinical, tmp_path / "examined")), "examination")


def said_to_be(ensemble: Path, ages: str | None) -> Path:
    given = read_yaml(ensemble / "ensemble.yaml")
    given["cohort"].pop("ages")
    if ages:
        given["cohort"]["ages"] = ages
    write_yaml(ensemble / "ensemble.yaml", given)
    return ensemble


def with_days(folder: Path, day: str = "1/1/2026") -> Path:
    table = pd.read_csv(folder / TABLE, index_col=0, dtype=str, keep_default_na=False)
    table.assign(EXAMINED_ON=day).to_csv(folder / TABLE)
    return folder


def predicted(ensemble: Path, data: Path, name: str = "out", **options: date | None) -> np.ndarray:
    out = data.parent / name
    predict_to(ensemble, str(data), out, **options)  # type: ignore[arg-type]
    return pd.read_parquet(out / "predictions.parquet")["probability"].to_numpy()


def test_the_bundle_keeps_how_ages_were_counted(clinical: Path) -> None:
    assert read_yaml(clinical / "ensemble.yaml")["cohort"]["ages"] == "reference_date"
    assert Ensemble.load(clinical).ages.at == "reference_date"


def test_the_default_is_said(clinical: Path, new: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predicted(clinical, new)
    said = capsys.readouterr().err
    assert "new: ages are counted to 2020-01-01, as in training: " in said
    assert "another date: `--reference-date`; each patient's examination: a column EXAMINED_ON" in said


def test_a_day_that_is_named_is_counted_to(clinical: Path, new: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Six years later is as old as born six years before."""
    later = predicted(clinical, new, "later", reference_date=date(2026, 1, 1))
    said = capsys.readouterr().err
    assert "new: ages are counted to 2026-01-01 (--reference-date): " in said
    assert "; in training they were counted to 2020-01-01" in said
    assert not np.allclose(later, predicted(clinical, new, "default"))
    np.testing.assert_allclose(later, predicted(clinical, with_days(new), "examined"))


def test_ages_at_the_examination_are_taken_and_said(
    clinical: Path, new: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predicted(clinical, with_days(new))
    said = capsys.readouterr().err
    assert "ages are those at the examination: " in said and "in training they were counted to 2020-01-01" in said


def test_a_birth_after_the_training_s_day_names_the_option(clinical: Path, new: Path) -> None:
    table = pd.read_csv(new / TABLE, index_col=0, dtype=str, keep_default_na=False)
    table.loc[table.index[0], "DOB"] = "1/1/2021"
    table.to_csv(new / TABLE)
    with pytest.raises(InputError, match=r"after the reference date 2020-01-01; .*--reference-date"):
        predicted(clinical, new)
    assert not (new.parent / "out").exists()
    assert len(predicted(clinical, new, reference_date=date(2026, 1, 1))) == 10


def test_trained_at_the_examination_wants_the_same_or_a_day(
    examined: Path, new: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"trained on ages at the examination; add a column EXAMINED_ON .*, or count"):
        predicted(examined, new)
    assert not (new.parent / "out").exists()
    asked = predicted(examined, new, "asked", reference_date=date(2026, 1, 1))
    assert "; in training they were those at the examination" in capsys.readouterr().err
    np.testing.assert_allclose(asked, predicted(examined, with_days(new), "days"))
    said = capsys.readouterr().err
    assert "ages are those at the examination: " in said and "in training" not in said


def test_a_day_against_the_table_s_own_is_refused(clinical: Path, new: Path) -> None:
    with pytest.raises(InputError, match="--reference-date: new has each patient's age at the examination"):
        predicted(clinical, with_days(new), reference_date=date(2026, 1, 1))


def test_an_ensemble_of_an_earlier_version_is_read(clinical: Path, new: Path, tmp_path: Path) -> None:
    earlier = said_to_be(Path(shutil.copytree(clinical, tmp_path / "earlier")), None)
    assert Ensemble.load(earlier).ages.at is None
    np.testing.assert_array_equal(predicted(earlier, new, "earlier_out"), predicted(clinical, new, "now"))
    with pytest.raises(InputError, match="not as `lymphtune ensemble` writes it"):
        Ensemble.load(said_to_be_another(clinical, tmp_path))


def said_to_be_another(clinical: Path, tmp_path: Path) -> Path:
    return said_to_be(Path(shutil.copytree(clinical, tmp_path / "another")), "yesterday")


def test_the_python_way_says_a_difference(examined: Path, new: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ensemble = Ensemble.load(examined)
    ensemble.predict_proba(load_cohort(new))
    assert "ages are counted to 2020-01-01: " in capsys.readouterr().err
    ensemble.predict_proba(load_cohort(with_days(new)))
    assert "ages are" not in capsys.readouterr().err


# ---- missing values


def test_a_patient_without_an_age_is_marked(clinical: Path, new: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.read_csv(new / TABLE, index_col=0, dtype=str, keep_default_na=False)
    first, second, *others = table["ID"]
    table.loc[table["ID"].isin([first, second]), "DOB"] = ""
    table.loc[table["ID"] == second, "LYMPH_COUNT"] = ""
    table.to_csv(new / TABLE)
    (new / "cohort.yaml").write_text('missing: ""')
    predicted(clinical, new)
    said = capsys.readouterr().err
    assert "new: missing: age_years of 2 of 10 patients, lymphocytes_g_per_l of 1 of 10 patients; replaced by" in said
    missing = pd.read_parquet(new.parent / "out" / "predictions.parquet").set_index("patient")["missing"]
    expected = {first: "age_years", second: "age_years, lymphocytes_g_per_l"} | dict.fromkeys(others, "")
    assert missing.to_dict() == expected


def test_nothing_is_said_of_ages_where_pictures_are_all_that_is_seen(
    new: Path, clinical: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Ensemble, "used_attributes", ())
    predicted(clinical, new)
    assert "ages are" not in capsys.readouterr().err
    assert set(pd.read_parquet(new.parent / "out" / "predictions.parquet")["missing"]) == {""}
    predicted(clinical, new, "asked", reference_date=date(2026, 1, 1))
    assert "--reference-date has no effect: the ensemble does not use ages" in capsys.readouterr().err
