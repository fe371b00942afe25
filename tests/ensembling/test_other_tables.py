"""A cohort with attributes of its own, missing values and sites, from its table to a prediction elsewhere."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lymphtune
from lymphtune.cohort import Cohort, load_cohort
from lymphtune.cohort.attributes import Attribute
from lymphtune.ensembling.apply import predict_to
from lymphtune.ensembling.bundle import Ensemble
from lymphtune.ensembling.candidates import group_note
from lymphtune.ensembling.export import export_onnx
from lymphtune.errors import InputError
from lymphtune.reporting.report import write_report
from lymphtune.runs.run import Run

LAYOUT = """
missing: [""]
attributes:
  haemoglobin: {column: HB}
  smoker: {column: SMOKER, kind: categorical}
groups: [SITE]
"""
WORDS = ("no", "yes", "once")


def widen(folder: Path, n_sites: int = 6) -> Path:
    """Give the cohort three columns more, some of whose values are missing."""
    rng, path = np.random.default_rng(0), folder / "clinical_annotation.csv"
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    for number, row in enumerate(rows):
        row += [f"{rng.normal(13, 1.5):.1f}" if number % 4 else "", WORDS[number % 3] if number % 5 else ""]
        row.append(f"site {number % n_sites}")
    rows[0][header.index("LYMPH_COUNT")] = ""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([[*header, "HB", "SMOKER", "SITE"], *rows])
    (folder / "cohort.yaml").write_text(LAYOUT)
    return folder


def test_an_ensemble_wants_the_attributes_it_was_trained_on(ensemble: Ensemble, run: Run, tiny_cohort: Cohort) -> None:
    assert ensemble.check_attributes(tiny_cohort) == []
    without = replace(tiny_cohort, attributes=tiny_cohort.attributes[:1])
    with pytest.raises(InputError, match=r"no attribute lymphocytes_g_per_l \(numbers\), which .* was trained on"):
        ensemble.predict_proba(without, allow_seen=True)
    more = replace(tiny_cohort, patients=tiny_cohort.patients.assign(hb=3.0))
    more = replace(more, attributes=(*more.attributes, Attribute("hb")))  # which the ensemble does not look at
    np.testing.assert_array_equal(ensemble.predict_proba(more, True), ensemble.predict_proba(tiny_cohort, True))


def test_few_groups_are_said_to_stand_for_no_others(tiny_cohort: Cohort) -> None:
    def grouped(n_groups: int) -> Cohort:
        numbers = np.arange(len(tiny_cohort.patients)) % n_groups
        return replace(tiny_cohort, patients=tiny_cohort.patients.assign(group=numbers.astype(str)))

    assert group_note(tiny_cohort) == group_note(grouped(len(tiny_cohort.patients))) == ""
    assert "3 groups of patients, under 20: folds keep groups apart" in group_note(grouped(3))


@pytest.mark.slow
def test_from_a_table_of_one_s_own_to_a_prediction_elsewhere(
    tiny_cohort_folder: Path, tmp_path: Path, ray_session: None
) -> None:
    data = widen(tiny_cohort_folder)
    run = lymphtune.search("tiny", data, runs=tmp_path / "runs", name="own", trials=2, epochs=2)
    cohort = load_cohort(data)
    fold_of, sites = run.folds.set_index("patient")["fold"], dict(zip(cohort.ids, cohort.groups, strict=True))
    known = [cohort.ids[row] for row in cohort.labelled]
    assert len({(sites[patient], fold_of[patient]) for patient in known}) == len({sites[patient] for patient in known})
    assert run.leaderboard["balanced_accuracy"].notna().all()
    made = lymphtune.ensemble(run=run.path, top=2, source="all")
    assert [attribute.name for attribute in made.attributes][2:] == ["haemoglobin", "smoker"]
    assert "haemoglobin and smoker" in (made.path / "MODEL_CARD.md").read_text()
    assert write_report(run).exists()
    assert export_onnx(made.path, tmp_path / "own.onnx").values["farthest"] < 1e-4

    elsewhere = Path(shutil.copytree(data, tmp_path / "elsewhere"))
    table = pd.read_csv(elsewhere / "clinical_annotation.csv", dtype=str, keep_default_na=False)
    table["SMOKER"] = "pipe"  # a word that no patient had in training
    table.to_csv(elsewhere / "clinical_annotation.csv", index=False)
    predict_to(made.path, str(elsewhere), tmp_path / "out", allow_seen=True)
    said = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert said["probability"].between(0, 1).all() and len(said) == len(cohort.patients)
    missing = replace(cohort, patients=cohort.patients.assign(smoker=""))
    np.testing.assert_allclose(said["probability"], made.predict_proba(missing, allow_seen=True), atol=1e-6)
    (elsewhere / "cohort.yaml").unlink()
    with pytest.raises(InputError, match="LYMPH_COUNT is missing"):
        predict_to(made.path, str(elsewhere), tmp_path / "out2", allow_seen=True)
