"""Ensembles: what is chosen, what is saved, what it says of new patients, and what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
import yaml

import lymphtune
from lymphtune.cohort import Cohort, load_cohort
from lymphtune.config import configuration
from lymphtune.ensembling.build import compare_recipes
from lymphtune.ensembling.bundle import Ensemble
from lymphtune.ensembling.candidates import read_candidates
from lymphtune.errors import InputError
from lymphtune.runs.run import Run
from lymphtune.spaces import shipped


def test_the_submission_names_every_patient_to_predict_once(ensemble: Ensemble, run: Run) -> None:
    cohort = load_cohort(run.description.cohort.data)
    text = (ensemble.path / "submission.csv").read_text()
    assert text.startswith("ID,Predicted\n") and text.endswith("\n")
    submission = pd.read_csv(ensemble.path / "submission.csv")
    assert sorted(submission["ID"]) == sorted(cohort.ids[row] for row in cohort.to_predict)
    assert submission["Predicted"].isin([0, 1]).all()


def test_predictions_are_the_mean_of_the_members(ensemble: Ensemble) -> None:
    table = pd.read_parquet(ensemble.path / "predictions.parquet")
    trials = [member["trial"] for member in ensemble.members]
    assert list(table.columns) == [
        "patient",
        "probability",
        "spread",
        "predicted",
        "set",
        "refer",
        *trials,
        "gate",
        "seen",
        "missing",
    ]
    assert table["set"].isin(["neither", "reactive", "tumoral", "both"]).all() and not table["refer"].any()
    np.testing.assert_allclose(table["probability"], table[trials].mean(axis=1), rtol=1e-12)
    assert (table["predicted"] == (table["probability"] >= 0.5)).all()
    assert (table["spread"] >= 0).all()
    gated = any("gated" in str(member["configuration"]["model"]["fusion"]) for member in ensemble.members)
    assert table["gate"].isna().all() != gated
    assert not table["seen"].any()


def test_the_folder_works_alone_elsewhere(ensemble: Ensemble, run: Run, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(ensemble.path, tmp_path / "elsewhere"))
    cohort = load_cohort(run.description.cohort.data)
    rows = cohort.to_predict
    loaded = Ensemble.load(moved)
    expected = pd.read_parquet(ensemble.path / "predictions.parquet")["probability"]
    np.testing.assert_array_equal(loaded.predict(cohort, rows, allow_seen=True).probability_P, expected)
    np.testing.assert_allclose(
        loaded.predict_proba(cohort, allow_seen=True)[rows], expected, rtol=0, atol=1e-6
    )  # in other company


def test_one_member_in_that_member_out(run: Run) -> None:
    one = lymphtune.ensemble(run=run.path, top=1)
    table = pd.read_parquet(one.path / "predictions.parquet")
    np.testing.assert_array_equal(table["probability"], table[one.members[0]["trial"]])


def test_the_best_trials_are_chosen(ensemble: Ensemble, run: Run) -> None:
    networks = run.leaderboard.query("kind == 'network' and status == 'done'")
    assert [member["trial"] for member in ensemble.members] == list(networks["trial"][:2])


def test_stopped_trials_are_members_only_when_asked_for(run: Run) -> None:
    board = run.leaderboard.query("kind == 'network'").set_index("trial")["status"]
    assert {"done", "stopped"} <= set(board)
    for include_stopped, expected in ((None, {"done"}), (True, {"done", "stopped"})):
        built = lymphtune.ensemble(run=run.path, top=5, include_stopped=include_stopped)
        assert {board[member["trial"]] for member in built.members} == expected
        assert ("stopped early are excluded" in " ".join(built.summary.split())) == (include_stopped is None)


def test_clinical_members_can_be_averaged_too(run: Run) -> None:
    built = lymphtune.ensemble(run=run.path, top=6, source="all")
    kinds = {"clinical" if "clinical" in member["configuration"] else "network" for member in built.members}
    assert kinds == {"clinical", "network"}
    assert "honest" in built.summary


def test_the_summary_sets_honest_beside_naive(ensemble: Ensemble) -> None:
    for words in ("naive honest (95 %)", "optimism", "best baseline", "recall", "not significantly worse than the"):
        assert words in ensemble.summary
    assert all(len(line) <= 80 for line in ensemble.summary.splitlines())


def test_only_fold_models_that_never_saw_a_patient_vote_on_it(run: Run) -> None:
    """Out-of-fold probabilities are those of the one model that held the patient out, and of no other."""
    from lymphtune.training.loading import predict_with

    ensemble = lymphtune.ensemble(run=run.path, top=2)
    cohort, folds = load_cohort(run.description.cohort.data), run.folds.query("fold >= 0")
    oof = pd.read_parquet(ensemble.path / "oof.parquet")
    for member in ensemble.members:
        chosen = configuration(member["configuration"], "member")
        said = pd.Series(np.nan, index=cohort.ids)
        for fold, patients in folds.groupby("fold")["patient"]:
            rows = np.flatnonzero(np.isin(cohort.ids, patients))
            weights = ensemble.path / f"weights/{member['trial']}/repeat-0-fold-{fold}.safetensors"
            said.iloc[rows] = predict_with(weights, chosen, cohort, rows).probability_P
        expected = said.iloc[cohort.labelled].to_numpy()
        np.testing.assert_allclose(oof[member["trial"]], expected, atol=2e-2)  # bfloat16 then, float32 now
    np.testing.assert_allclose(oof["probability"], oof[[m["trial"] for m in ensemble.members]].mean(axis=1), rtol=1e-12)


def test_sets_are_made_of_each_fold_s_own_models(ensemble: Ensemble) -> None:
    """Two folds that contradict each other: what either rules out is weighed by how many it was compared with."""
    names = ensemble.members[0]["weights"]
    probability_F2P = np.full((len(names) * 2, 2, 1), 0.01)
    probability_F2P[[n for n, name in enumerate(names * 2) if "fold-0" in name]] = 0.99
    votes = ensemble._by_member(probability_F2P)
    assert votes.by_fold_MKP[:, 0].min() == 0.99 and votes.by_fold_MKP[:, 1:].max() == 0.01
    said = ensemble.combine([votes])
    by_hand_2P = ensemble.known.sets(votes.by_fold_MKP[0], ensemble.error_rate)
    np.testing.assert_array_equal(said.sets_2P, by_hand_2P)


@pytest.mark.parametrize("recipe", shipped("ensembles"))
def test_every_recipe_is_built_saved_and_loaded(recipe: str, run: Run, tmp_path: Path) -> None:
    built = lymphtune.ensemble(recipe, run=run.path, refer=0.2)
    moved = Ensemble.load(Path(shutil.copytree(built.path, tmp_path / "moved")))
    table = pd.read_parquet(built.path / "predictions.parquet")
    members_MP = table[[member["trial"] for member in built.members]].to_numpy().T
    np.testing.assert_array_equal(moved.fitted.probability(members_MP), table["probability"])
    assert moved.fitted.margin > 0
    scores = pd.read_parquet(built.path / "scores.parquet")
    assert set(scores["procedure"]) == {"ensemble", "best single trial", "best baseline"}


def test_what_needs_patients_is_refused_on_few(run: Run) -> None:
    for options in ({"threshold": "tuned"}, {"calibration": "platt"}):
        with pytest.raises(InputError, match="50 labelled patients or more; this run scored 12"):
            lymphtune.ensemble(run=run.path, top=2, **options)
    with pytest.raises(InputError, match=r"--refer 1: expected a fraction from 0 to 0\.9"):
        lymphtune.ensemble(run=run.path, top=2, refer=1.0)


def test_a_fixed_threshold_is_used_and_kept(run: Run) -> None:
    built = lymphtune.ensemble(run=run.path, top=2, threshold="0.001")
    assert Ensemble.load(built.path).threshold == 0.001
    assert (pd.read_csv(built.path / "submission.csv")["Predicted"] == 1).all()


def test_recipes_are_compared_on_a_run(run: Run) -> None:
    text = compare_recipes(run.path).text
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[2:-1]] == sorted(shipped("ensembles"))
    assert lines[-1] == "The best of these scores is optimistic: it was selected."


def test_a_top_that_cannot_be_is_refused(run: Run) -> None:
    with pytest.raises(InputError, match="--top 0: expected a whole number from 1"):
        lymphtune.ensemble(run=run.path, top=0)


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


def test_members_in_another_order_are_refused(ensemble: Ensemble, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(ensemble.path, tmp_path / "moved"))
    described = yaml.safe_load((moved / "ensemble.yaml").read_text())
    described["members"].reverse()
    (moved / "ensemble.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    with pytest.raises(InputError, match="not as `lymphtune ensemble` writes it"):
        Ensemble.load(moved)


def test_a_fold_model_that_is_missing_is_noticed(run: Run, tmp_path: Path) -> None:
    bare = Run(Path(shutil.copytree(run.path, tmp_path / "bare")))
    for weights in bare.path.glob("trials/*/weights/repeat-0-fold-1.safetensors"):
        weights.unlink()
    with pytest.raises(InputError, match="expected the 3 fold models of the run and no other"):
        lymphtune.ensemble(run=bare.path, top=1)


def test_damaged_runs_are_refused_in_one_line(run: Run, tmp_path: Path) -> None:
    def broken(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Path:
        path = Path(shutil.copytree(run.path, tmp_path / uuid4().hex))
        change(pd.read_parquet(path / name)).to_parquet(path / name)
        return path

    for name, change, message in (
        ("leaderboard.parquet", lambda t: t.assign(status="failed"), "no trial has ended"),
        ("leaderboard.parquet", lambda t: t.assign(epoch=99), "the leaderboard names epoch 99"),
        ("leaderboard.parquet", lambda t: t.drop(columns="sees"), "has no column sees"),
        ("folds.parquet", lambda t: pd.concat([t, t]), "not the folds of a run"),
        ("folds.parquet", lambda t: t.assign(fold=-1), "no patient of the cohort is held out"),
    ):
        with pytest.raises(InputError, match=message):
            lymphtune.ensemble(run=broken(name, change))


def test_a_recipe_s_file_name_is_no_way_out_of_the_folder(run: Run, tmp_path: Path) -> None:
    for name in ("..yaml", "...yaml", ".x.yaml"):
        (tmp_path / name).write_text("combiner: top\n")
        with pytest.raises(InputError, match="rename the file; expected letters"):
            lymphtune.ensemble(str(tmp_path / name), run=run.path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": 1}, "format 1; this version reads format 2"),
        ({"members": None}, "no 'members' in it"),
        ({"files": {"../../run.yaml": "0"}}, "'../../run.yaml' is not a file of the folder"),
        ({"files": {}}, "learnt.safetensors is not among its files"),
        ({"threshold": 0.5}, "not as `lymphtune ensemble` writes it"),
        ({"threshold": {"rule": "0.5", "value": float("nan")}}, "not as `lymphtune ensemble` writes it"),
        ({"error_rate": 55}, "not as `lymphtune ensemble` writes it"),
        ({"members": [5]}, "not as `lymphtune ensemble` writes it"),
        ({"cohort": {"simulated": "no"}}, "not as `lymphtune ensemble` writes it"),
    ],
)
def test_a_description_that_was_tampered_with_is_refused(
    changed: dict, message: str, ensemble: Ensemble, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(ensemble.path, tmp_path / "moved"))
    described = yaml.safe_load((moved / "ensemble.yaml").read_text()) | changed
    described = {name: value for name, value in described.items() if value is not None}
    (moved / "ensemble.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    with pytest.raises(InputError, match=message):
        Ensemble.load(moved)


def test_the_groups_of_a_cohort_reach_the_resamples(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = load_cohort(run.description.cohort.data)
    assert read_candidates(run, cohort).group_P is None  # everybody alone
    pairs = {patient: f"pair {number // 2}" for number, patient in enumerate(cohort.ids)}
    monkeypatch.setattr(Cohort, "groups", property(lambda self: np.array([pairs[patient] for patient in self.ids])))
    monkeypatch.setattr("lymphtune.statistics.bootstrap.LEAST_GROUPS", 2)
    found = read_candidates(run, cohort)
    assert found.group_P is not None
    named = [pairs[patient] for patient in found.patients]
    assert [(a == b) for a in named for b in named] == [(a == b) for a in found.group_P for b in found.group_P]
