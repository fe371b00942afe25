"""A run's configurations again: the same folds, new seeds, nobody stopped; and what cannot be trained again."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from lymphtune.cluster.retrain import plan_again, retrain
from lymphtune.errors import InputError
from lymphtune.files import write_table
from lymphtune.runs.run import Run, read_table


@pytest.fixture
def run(searched: Run, tmp_path: Path) -> Run:
    """A copy of the finished run, free to be changed."""
    return Run(Path(shutil.copytree(searched.path, tmp_path / "runs" / "copy")))


@pytest.fixture
def trials(run: Run) -> list[str]:
    """Two networks that ran to their end."""
    table = run.leaderboard.query("kind == 'network' and status == 'done'")
    return list(table["trial"][:2])


def test_the_plan_has_the_same_folds_and_configurations_and_new_seeds(run: Run, trials: list[str]) -> None:
    cohort, plan = plan_again(run, trials, 3, run.description.cohort.data)
    assert plan.folds_RP.shape == (3, len(cohort.patients))
    folds = run.folds.set_index("patient")["fold"]
    for fold_P in plan.folds_RP:
        assert fold_P.tolist() == [folds[patient] for patient in cohort.ids]
    assert [trial.configuration for trial in plan.trials] == [run.configuration(trial) for trial in trials]
    seeds = {yaml.safe_load((run.trial(trial) / "config.yaml").read_text())["seed"] for trial in trials}
    assert not seeds & {trial.seed for trial in plan.trials} and not set(trials) & {trial.hash for trial in plan.trials}
    assert plan.epochs == run.description.protocol.epochs
    assert plan.rungs() == [] and run.description.protocol.rungs != []


@pytest.mark.slow
def test_a_retrained_run_is_a_run_in_which_nobody_was_stopped(run: Run, trials: list[str], ray_session: None) -> None:
    again = retrain(run, trials, 2)
    assert again.path == run.path.with_name("copy-retrained")
    networks = again.leaderboard.query("kind == 'network'")
    assert list(networks["status"]) == ["done", "done"] and (networks["epochs"] == 4).all()
    assert (networks["repeats_sd"] >= 0).all()
    protocol = again.description.protocol
    assert (protocol.seed, protocol.fold_seed, protocol.repeats) == (1, 0, 2)
    pd.testing.assert_frame_equal(again.folds.query("repeat == 0"), run.folds)
    for trial in networks["trial"]:
        oof = read_table(again.trial(trial) / "oof.parquet")
        first, second = (oof.query(f"repeat == {repeat} and epoch == 4")["probability"] for repeat in (0, 1))
        assert not np.allclose(first, second)


def test_what_is_there_already_is_not_overwritten(run: Run, trials: list[str]) -> None:
    again = run.path.with_name("copy-retrained")
    again.mkdir()
    message = f"{again}: is there already; `lymphtune stability --run copy-retrained` reads it, or move it away"
    with pytest.raises(InputError, match=re.escape(message)):
        retrain(run, trials, 2)


def test_another_cohort_is_refused(run: Run, trials: list[str], tiny_cohort_folder: Path) -> None:
    table = tiny_cohort_folder / "clinical_annotation.csv"
    table.write_text(re.sub(r"\d+\.\d\d$", "9.99", table.read_text(), count=1, flags=re.MULTILINE))
    with pytest.raises(InputError, match="tiny: not the cohort that the run copy was trained on"):
        retrain(run, trials, 2, data=tiny_cohort_folder)
    assert not run.path.with_name("copy-retrained").exists()


def test_another_split_is_refused(run: Run, trials: list[str]) -> None:
    folds = run.folds
    folds["fold"] = folds["fold"].where(folds["fold"] < 0, (folds["fold"] + 1) % 3)
    write_table(run.path / "folds.parquet", folds, {})
    with pytest.raises(InputError, match=r"folds.parquet: not the split that seed 0 gives with the installed scikit-l"):
        retrain(run, trials, 2)
    assert not run.path.with_name("copy-retrained").exists()


def test_a_retrained_run_keeps_the_settings_of_the_run(run: Run, trials: list[str]) -> None:
    given = yaml.safe_load((run.path / "run.yaml").read_text())
    given["protocol"] |= {"max_failures": 7, "max_concurrent": 3, "cpus_per_trial": 2, "keep_weights": 9}
    (run.path / "run.yaml").write_text(yaml.safe_dump(given))
    uri = "s3://bucket/runs"
    settings = plan_again(run, trials, 3, given["cohort"]["data"], storage=uri)[1].settings
    assert (settings.max_failures, settings.max_concurrent, settings.storage) == (7, 3, uri)
    assert (settings.cpus_per_trial, settings.keep_weights, settings.repeats) == (2, 9, 3)


def test_a_run_that_was_sampled_and_followed_in_another_way_is_retrained(run: Run, trials: list[str]) -> None:
    """A grid takes no suggestions, a password that was not kept is not asked for, and nobody follows it unasked."""
    given = yaml.safe_load((run.path / "run.yaml").read_text())
    given["protocol"] |= {"searcher": "tpe", "racing": True, "report": True, "mlflow": "http://***@host:5000"}
    (run.path / "run.yaml").write_text(yaml.safe_dump(given))
    plan = plan_again(run, trials, 3, given["cohort"]["data"])[1]
    assert (plan.settings.searcher, plan.settings.racing) == ("random", False)
    assert (plan.settings.mlflow, plan.settings.report) == (None, False)
    assert plan.rules() == []
