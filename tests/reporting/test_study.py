"""The study's figures: curves of training with bands, ROC curves, the table of architectures."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lymphtune.files import write_table
from lymphtune.reporting.facts import Facts
from lymphtune.reporting.parts import Drawing, Part, Table
from lymphtune.reporting.sections import study
from lymphtune.runs.run import Run, read_table
from lymphtune.statistics.metrics import METRICS


def parts(facts: Facts) -> dict[str, Part]:
    return {part.name: part for part in study.section(facts).parts if isinstance(part, Drawing | Table)}


@pytest.fixture(scope="module")
def found(facts: Facts) -> dict[str, Part]:
    return parts(facts)


def test_every_line_of_training_has_its_band(facts: Facts, found: dict[str, Part]) -> None:
    drawing = found["training-curves"]
    assert isinstance(drawing, Drawing) and "no bands" not in drawing.caption and "not kept" not in drawing.caption
    networks = facts.candidates.table.query("kind == 'network'").drop_duplicates("architecture").head(study.MOST)
    for panel in drawing.figure.axes:
        assert len(panel.collections) == len(networks)
    for row in networks.itertuples():
        assert row.architecture in drawing.alt
        table = read_table(facts.run.trial(row.trial) / "curves.parquet")
        assert (table["train_loss_sd"] > 0).all()


def test_a_run_that_kept_no_spread_of_the_loss_has_no_band_of_it(facts: Facts, tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(facts.run.path, tmp_path / "older")))
    for path in run.path.glob("trials/*/curves.parquet"):
        write_table(path, read_table(path).drop(columns="train_loss_sd"), {})
    drawing = parts(replace(facts, run=run))["training-curves"]
    assert isinstance(drawing, Drawing)
    losses, scores = drawing.figure.axes
    assert (
        not losses.collections and scores.collections and "the run did not record that of the loss" in drawing.caption
    )


def test_curves_that_are_damaged_are_left_out(facts: Facts, tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(facts.run.path, tmp_path / "damaged")))
    for path in run.path.glob("trials/*/curves.parquet"):
        path.write_bytes(b"no table")
    assert "training-curves" not in parts(replace(facts, run=run))


def test_a_fold_model_is_scored_on_its_own_patients() -> None:
    folds_RP, labels_P = np.array([[0, 0, 1, 1, -1], [1, 0, 0, 1, -1]]), np.array([0, 1, 0, 1, 1])
    oof_ERP = np.full((2, 2, 5), np.nan)
    oof_ERP[:, :, :4] = [[[0.1, 0.9, 0.9, 0.9], [0.1, 0.2, 0.9, 0.8]], [[0.1, 0.9, 0.1, 0.9]] * 2]
    np.testing.assert_array_equal(study._by_fold(oof_ERP, folds_RP, labels_P), [[1, 0.5, 0, 1], [1, 1, 1, 1]])


def test_areas_under_the_curves_are_those_of_the_verdict(facts: Facts, found: dict[str, Part]) -> None:
    drawing = found["roc"]
    assert isinstance(drawing, Drawing)
    for name in ("ensemble", "best baseline"):
        area = facts.scores.entries[name].honest["auc"].value
        assert f"{name} AUC {area:.3f}" in drawing.alt
        assert study._left_out(facts, name).auc == pytest.approx(area, abs=0.1)


def test_the_table_has_each_architecture_with_its_best_trial(facts: Facts, found: dict[str, Part]) -> None:
    table = found["architectures"]
    assert isinstance(table, Table) and table.shown is not None and "0.756 to 0.849" in table.caption
    known = facts.candidates.table
    assert sorted(table.frame["model"]) == sorted(known["architecture"].unique())
    assert table.frame["trials"].sum() == len(known)
    for row in table.frame.itertuples():
        best = known.set_index("trial").loc[row.best_trial]
        for name in study.SHOWN:
            assert getattr(row, name) == pytest.approx(best[name])  # of one seed
            assert np.isnan(getattr(row, f"sd_of_{name}"))
    assert not table.shown["AUC"].str.contains("±").any()


def test_the_best_of_several_stands_for_them(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "_labels", lambda facts, table: table["kind"])
    known, found = facts.candidates.table, study._by_architecture(facts).set_index("model")
    for kind, trials in known.groupby("kind"):
        ended = trials[trials["status"] == "done"]
        assert found.loc[kind, "best_trial"] == ended["trial"].iloc[0] and len(ended) > 1
        assert found.loc[kind, "mean_of_trials"] == pytest.approx(ended["balanced_accuracy"].mean())
        assert (found.loc[kind, "trials"], found.loc[kind, "to_their_end"]) == (len(trials), len(ended))


def test_seeds_are_judged_each_for_itself(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    probability_RP = np.random.default_rng(0).random((3, len(facts.labels_P)))
    monkeypatch.setattr(study, "_out_of_fold", lambda *_: probability_RP)
    found = study._over_seeds(facts, None)
    for name in study.SHOWN:
        score_R = METRICS[name](probability_RP, facts.labels_P)
        assert (found[name], found[f"sd_of_{name}"]) == pytest.approx((score_R.mean(), score_R.std(ddof=1)))


def test_a_grid_goes_by_the_names_of_its_rows(facts: Facts) -> None:
    rows: list[dict[str, Any]] = [{"name": f"row {number}", "published": None} for number in range(5)]
    rows[3]["published"] = {"balanced_accuracy": 0.8, "recall": None, "auc": 0.84, "kaggle": None}
    rows[2]["published"] = 0.7  # as runs of earlier versions keep it
    named = replace(
        facts, description=facts.description.changed(space=facts.description.space.as_yaml() | {"rows": rows})
    )
    table = parts(named)["architectures"]
    assert isinstance(table, Table) and table.shown is not None
    shown = table.shown.assign(name=table.frame["model"]).set_index("name")
    numbers = facts.candidates.table["number"]
    names = [f"row {number}" for number in sorted(numbers[numbers >= 0])]
    assert list(shown.index[: len(names)]) == names and shown.index[len(names) :].str.endswith("(baseline)").all()
    published = shown["published: balanced accuracy"]
    assert (published["row 3"], published["row 2"]) == ("0.800", "0.700")
    assert (published.drop(["row 2", "row 3"]) == "-").all()
    assert shown.loc["row 3", "published: AUC"] == "0.840" and shown.loc["row 2", "published: AUC"] == "-"
    assert not {"published: recall", "published: kaggle"} & set(shown.columns)
    assert pd.notna(table.frame.set_index("model").loc["row 3", "balanced_accuracy"])
