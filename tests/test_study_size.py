"""The main job at the study's size, whole: every command, every recipe, a saturated member among them."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.study_size import Size, Step, truth, whole_job
from lymphtune.ensembling.recipe import all_recipes


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600)
def test_every_command_ends_at_the_studys_size(tmp_path: Path) -> None:
    steps = whole_job(tmp_path / "study", Size())
    wrong = [step for step in steps if not step.as_expected]
    assert not wrong, "\n".join(f"{step.command}: {Path(step.log).read_text()[-2000:]}" for step in wrong)
    ensembles = tmp_path / "study" / "runs" / "frozen" / "ensembles"
    for recipe in all_recipes():
        predicted = pd.read_parquet(ensembles / recipe.name / "predictions.parquet")["probability"]
        assert predicted.between(0, 1).all() and len(predicted) == 42
    assert truth(tmp_path / "study" / "cohort", ensembles / "top" / "predictions.parquet")["auc"] > 0.6


def test_a_step_is_as_expected_by_its_exit_code() -> None:
    assert Step("doctor", "doctor --data cohort", 3, 1.0, "").as_expected
    assert not Step("search frozen", "search", 3, 1.0, "").as_expected
