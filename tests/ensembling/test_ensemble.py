"""Ensembles: what is chosen, what is saved, what it says of new patients, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import lymphtune
from lymphtune.cohort import load_cohort
from lymphtune.ensembling.bundle import Ensemble
from lymphtune.ensembling.candidates import eligible, read_candidates
from lymphtune.ensembling.recipe import load_recipe
from lymphtune.errors import InputError
from lymphtune.registry import combiners
from lymphtune.runs import Run


@pytest.fixture(scope="module")
def run(searched: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A copy of the finished run, free to be ensembled."""
    return Run(Path(shutil.copytree(searched.path, tmp_path_factory.mktemp("runs") / "copy")))


@pytest.fixture(scope="module")
def ensemble(run: Run) -> Ensemble:
    return lymphtune.ensemble(run=run.path, top=2)


def test_the_submission_names_every_patient_to_predict_once(ensemble: Ensemble, run: Run) -> None:
    cohort = load_cohort(run.description["cohort"]["data"])
    text = (ensemble.path / "submission.csv").read_text()
    assert text.startswith("ID,Predicted\n") and text.endswith("\n")
    submission = pd.read_csv(ensemble.path / "submission.csv")
    assert sorted(submission["ID"]) == sorted(cohort.ids[row] for row in cohort.to_predict)
    assert submission["Predicted"].isin([0, 1]).all()


def test_predictions_are_the_mean_of_the_members(ensemble: Ensemble) -> None:
    table = pd.read_parquet(ensemble.path / "predictions.parquet")
    trials = [member["trial"] for member in ensemble.members]
    assert list(table.columns) == ["patient", "probability", "spread", "predicted", *trials, "gate", "seen"]
    np.testing.assert_allclose(table["probability"], table[trials].mean(axis=1), rtol=1e-12)
    assert (table["predicted"] == (table["probability"] >= 0.5)).all()
    assert (table["spread"] >= 0).all()
    assert table["gate"].isna().all()  # no member has one
    assert not table["seen"].any()


def test_the_folder_works_alone_elsewhere(ensemble: Ensemble, run: Run, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(ensemble.path, tmp_path / "elsewhere"))
    cohort = load_cohort(run.description["cohort"]["data"])
    rows = cohort.to_predict
    loaded = Ensemble.load(moved)
    expected = pd.read_parquet(ensemble.path / "predictions.parquet")["probability"]
    np.testing.assert_array_equal(loaded.predict(cohort, rows).probability_P, expected)
    np.testing.assert_allclose(loaded.predict_proba(cohort)[rows], expected, rtol=0, atol=1e-6)  # in other company


def test_one_member_in_that_member_out(run: Run) -> None:
    one = lymphtune.ensemble(run=run.path, top=1)
    table = pd.read_parquet(one.path / "predictions.parquet")
    np.testing.assert_array_equal(table["probability"], table[one.members[0]["trial"]])


def test_the_best_trials_are_chosen(ensemble: Ensemble, run: Run) -> None:
    networks = run.leaderboard.query("kind == 'network' and status != 'failed'")
    assert [member["trial"] for member in ensemble.members] == list(networks["trial"][:2])


def test_clinical_members_can_be_averaged_too(run: Run) -> None:
    built = lymphtune.ensemble(run=run.path, top=6, source="all")
    kinds = {"clinical" if "clinical" in member["configuration"] else "network" for member in built.members}
    assert kinds == {"clinical", "network"}
    assert "honest" in built.summary


def test_the_summary_sets_honest_beside_flattered(ensemble: Ensemble) -> None:
    for words in ("flattered by choosing", "honest: all choosing repeated", "optimism", "best baseline", "recall"):
        assert words in ensemble.summary
    assert all(len(line) <= 90 for line in ensemble.summary.splitlines())


def test_choosing_looks_at_drawn_patients_only(run: Run) -> None:
    cohort = load_cohort(run.description["cohort"]["data"])
    candidates = read_candidates(run, cohort, eligible(run.leaderboard, "networks"))
    counts = np.arange(len(candidates.labels_P)) % 3
    before = candidates.choose(1, counts)
    candidates.oof_CP[:, counts == 0] = 1 - candidates.oof_CP[:, counts == 0]
    np.testing.assert_array_equal(candidates.choose(1, counts), before)


@pytest.mark.parametrize(
    ("top", "message"), [(0, "--top 0: an ensemble has at least 1 trial"), (9, "--top 9: the run copy has 5 trials")]
)
def test_a_top_that_cannot_be_is_refused(top: int, message: str, run: Run) -> None:
    with pytest.raises(InputError, match=message):
        lymphtune.ensemble(run=run.path, top=top)


def test_another_cohort_is_refused(run: Run, tiny_cohort_folder: Path) -> None:
    shutil.rmtree(tiny_cohort_folder / "testset")
    text = (tiny_cohort_folder / "clinical_annotation.csv").read_text().splitlines()
    kept = [line for line in text if ",-1," not in line]
    (tiny_cohort_folder / "clinical_annotation.csv").write_text("\n".join(kept))
    with pytest.raises(InputError, match="not the cohort that the run copy was trained on"):
        lymphtune.ensemble(run=run.path, data=tiny_cohort_folder)


def test_an_altered_folder_is_refused(ensemble: Ensemble, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(ensemble.path, tmp_path / "altered"))
    weights = next(moved.rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(InputError, match="missing or not the file that was saved"):
        Ensemble.load(moved)
    with pytest.raises(InputError, match=r"no ensemble.yaml in it"):
        Ensemble.load(tmp_path)


def test_weights_that_were_not_kept_are_named(run: Run, tmp_path: Path) -> None:
    bare = Run(Path(shutil.copytree(run.path, tmp_path / "bare")))
    for weights in bare.path.glob("trials/*/weights"):
        shutil.rmtree(weights)
    shutil.rmtree(bare.path / "ensembles", ignore_errors=True)
    with pytest.raises(InputError, match="larger --keep-weights"):
        lymphtune.ensemble(run=bare.path, top=1)
    assert not (bare.path / "ensembles" / "top").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"combiner": "tpo"}, "combiner has no 'tpo'; there are top"),
        ({"combiner": "top", "form": "all"}, "has no 'form'; there are about, combiner, from, trials"),
        ({"combiner": "top", "from": "nets"}, "from has no 'nets'; there are networks, clinical, all"),
        ({"combiner": "top", "trials": "five"}, "trials: expected a whole number from 1; found 'five'"),
        ({}, "combiner: expected one word of top"),
    ],
)
def test_a_recipe_is_checked(given: dict, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(given))
    with pytest.raises(InputError, match=message):
        load_recipe(str(path))


@pytest.mark.parametrize("word", combiners.words())
def test_every_combiner_keeps_the_contract(word: str) -> None:
    rng = np.random.default_rng(0)
    labels_P = rng.integers(0, 2, 40)
    oof_MP = np.clip(labels_P * 0.3 + rng.uniform(0.1, 0.6, (5, 40)), 0, 1)
    member = combiners[word]
    said = member.build(member.options()).fit(oof_MP, labels_P).predict_proba(oof_MP)
    assert said.shape == (40,) and ((said >= 0) & (said <= 1)).all()
    shuffled = oof_MP[[3, 1, 0, 4, 2]]
    np.testing.assert_allclose(member.build(member.options()).fit(shuffled, labels_P).predict_proba(shuffled), said)
    one = member.build(member.options()).fit(oof_MP[:1], labels_P).predict_proba(oof_MP[:1])
    np.testing.assert_allclose(one, oof_MP[0])
