"""One member whose probabilities are exactly 0 and 1 stops no recipe, calibration, threshold or export."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lymphtune
from benchmarks.study_size import saturate_best
from lymphtune.cohort import Cohort
from lymphtune.ensembling.bundle import Ensemble
from lymphtune.ensembling.export import export_onnx
from lymphtune.ensembling.procedure import Procedure
from lymphtune.ensembling.recipe import all_recipes
from lymphtune.registry import calibrations
from lymphtune.runs.run import Run, read_table
from tests.training.asked import asked

FACTOR = 1e4  # of the logits: the small networks of the tests are far from sure


@pytest.fixture(scope="module")
def saturated(searched: Run, cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(Path(shutil.copytree(searched.path, tmp_path_factory.mktemp("runs") / "saturated")))
    trial = saturate_best(run, cohort, FACTOR)
    oof = read_table(run.trial(trial) / "oof.parquet")
    assert oof[oof["epoch"] == oof["epoch"].max()]["probability"].isin([0.0, 1.0]).any()
    return run


def is_sound(ensemble: Ensemble) -> None:
    for name in ("oof.parquet", "predictions.parquet"):
        probability = pd.read_parquet(ensemble.path / name)["probability"]
        assert probability.between(0, 1).all() and len(probability)


QUICK = ("top", "greedy")  # of the recipes; one whose members are chosen, one whose weights are learnt
RECIPES = [
    pytest.param(recipe.name, marks=() if recipe.name in QUICK else pytest.mark.slow) for recipe in all_recipes()
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_takes_a_saturated_member(recipe: str, saturated: Run) -> None:
    is_sound(lymphtune.ensemble(recipe, run=saturated.path))


@pytest.mark.slow
@pytest.mark.parametrize("calibration", ["none", *calibrations.words()])
def test_every_calibration_takes_a_saturated_member(
    calibration: str, saturated: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Procedure, "check", lambda self, labels_P: None)  # twelve patients are too few for any
    tuned = {"calibration": calibration, "threshold": "tuned", "name": f"{calibration}-tuned"}
    is_sound(lymphtune.ensemble("top", run=saturated.path, top=2, **tuned))


def test_a_saturated_member_is_exported(saturated: Run, cohort: Cohort, tmp_path: Path) -> None:
    ensemble = lymphtune.ensemble("top", run=saturated.path, top=9, source="networks", name="all")
    export_onnx(ensemble.path, tmp_path / "all.onnx")
    probability_P, members_MP = asked(tmp_path / "all.onnx", cohort)
    assert np.isfinite(probability_P).all() and ((members_MP == 0) | (members_MP == 1)).any()
