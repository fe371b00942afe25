"""A search on a real local Ray: what it leaves on disk, the same twice, and what goes wrong in it."""

import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import save_file

import lymphtune
from lymphtune.cluster import driver as search_module
from lymphtune.cluster.driver import resume
from lymphtune.cluster.estimate import dry_run
from lymphtune.cohort import load_cohort
from lymphtune.cohort.simulation.patients import write_simulated
from lymphtune.ensembling.bundle import Ensemble
from lymphtune.errors import InputError
from lymphtune.files import read_yaml, write_yaml
from lymphtune.registry import stopping_rules
from lymphtune.runs.mirror import Mirror
from lymphtune.runs.run import Run, all_runs, find_run, read_table
from lymphtune.searching.board import Board, StopReason
from lymphtune.searching.epoch_report import Report
from lymphtune.searching.grid_table import table_text
from lymphtune.searching.plan import Trial, concurrency, make_plan
from lymphtune.searching.prepare import prepare
from lymphtune.searching.racing import Racing
from lymphtune.searching.settings import Settings
from lymphtune.searching.time_left import share_trained
from lymphtune.searching.trial import CHECKPOINT, EPOCHS
from lymphtune.spaces import load_space
from lymphtune.training.frozen import WEIGHTS
from lymphtune.training.lockstep import Diverged
from tests.conftest import SMALL_SEARCH, write_backbone

OOF = ["trial", "repeat", "fold", "epoch", "patient", "label", "probability", "gate"]
LEADERBOARD = [
    "trial",
    "kind",
    "status",
    "reason",
    "epochs",
    "balanced_accuracy",
    "balanced_accuracy_low",
    "balanced_accuracy_high",
    "recall",
    "specificity",
    "auc",
    "log_loss",
    "seconds",
]


@pytest.fixture
def space(tmp_path: Path) -> Path:
    """One small network; its trials differ in their weight decay alone."""
    path = tmp_path / "one.yaml"
    configuration = {
        "model": {"encoder": {"vanilla": {"pooling": "average"}}, "fusion": "concat"},
        "data": {"crop_px": 40, "bag_size": 2},
        "training": {"precision": "float32", "weight_decay": {"uniform": [0.001, 0.002]}},
    }
    path.write_text(
        yaml.safe_dump({"suggested": {"trials": 2, "epochs": 2, "folds": 3}, "configuration": configuration})
    )
    return path


def test_shortcuts_are_said_before_anything_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_simulated(tmp_path / "cohort", 60, 1, 0)
    table = pd.read_csv(tmp_path / "cohort" / "clinical_annotation.csv", dtype=str, keep_default_na=False)
    table["DOB"] = np.where(table["LABEL"] == "1", "16-09-1934", "3/27/1961")
    table.to_csv(tmp_path / "cohort" / "clinical_annotation.csv", index=False)
    prepare("tiny", tmp_path / "cohort", Settings())
    said = [line for line in capsys.readouterr().err.splitlines() if "alone predicts" in line]
    assert any(line.startswith("cohort: format of DOB alone predicts the label") for line in said)


def test_fixed_bags_have_the_size_of_the_cohorts_smallest(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "fixed.yaml"
    data = {"crop_px": 40, "bag_size": {"choose": ["fixed", "fixed:9", 2]}}
    path.write_text(yaml.safe_dump({"grid": True, "configuration": {"model": {"encoder": "vanilla"}, "data": data}}))
    cohort, plan = prepare(str(path), tiny_cohort_folder, Settings())
    sizes = [trial.configuration.data.bag_size for trial in plan.trials]
    assert sizes == [
        f"fixed:{cohort.patients['n_cells'].min()}",
        "fixed:9",
        2,
    ]  # what a saved model judges by, anywhere
    assert Trial.of_config(plan.trials[0].as_config()).configuration == plan.trials[0].configuration


def test_a_cohort_of_few_patients_is_not_audited(tiny_cohort_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare("tiny", tiny_cohort_folder, Settings())
    assert "alone predicts" not in capsys.readouterr().err


def test_a_run_holds_what_the_documentation_says(searched: Run) -> None:
    given = searched.description
    assert given.status == "done" and given.cohort.name == "tiny" and not given.cohort.simulated
    assert 0 < given.busy <= 1 and given.arithmetic is not None
    assert set(given.arithmetic.as_yaml()) == {"precision", "channels_last", "device"}
    assert given.arithmetic.precision in ("float32", "bfloat16") and given.arithmetic.device == "cpu"
    table = searched.leaderboard
    assert set(LEADERBOARD) <= set(table.columns)
    assert (table["kind"] == "clinical").sum() == 4
    assert list(read_table(searched.path / "folds.parquet").columns) == ["patient", "repeat", "fold"]
    for row in table.itertuples():
        folder = searched.trial(row.trial)
        oof = read_table(folder / "oof.parquet")
        assert list(oof.columns) == OOF
        assert oof["epoch"].max() == row.epochs == len(read_table(folder / "curves.parquet"))
        assert oof["probability"].between(0, 1).all()
        assert oof["gate"].isna().all()  # the tiny space has no gate
        assert searched.configuration(row.trial).kind == row.kind
        assert len(list((folder / "weights").iterdir())) == 3
        assert not list(folder.glob("weights-*"))
    assert not list(searched.path.rglob(".*"))


def test_each_labelled_patient_is_judged_once_an_epoch_and_no_other_ever(searched: Run) -> None:
    cohort = load_cohort(searched.description.cohort.data)
    labelled = {cohort.ids[row] for row in cohort.labelled}
    for trial in searched.leaderboard["trial"]:
        oof = read_table(searched.trial(trial) / "oof.parquet")
        for _, epoch in oof.groupby("epoch"):
            assert sorted(epoch["patient"]) == sorted(labelled)


def test_stopped_trials_are_cut_at_the_rung_that_stopped_them(searched: Run) -> None:
    table = searched.leaderboard
    stopped = table[table["status"] == "stopped"]
    assert len(stopped) >= 1
    assert (stopped["epochs"] == 2).all()
    assert stopped["reason"].str.contains("at epoch 2").all()
    assert (table[(table["status"] == "done") & (table["kind"] == "network")]["epochs"] == 4).all()


def test_the_same_seed_gives_the_same_leaderboard(searched: Run, tmp_path: Path) -> None:
    again = lymphtune.search("tiny", searched.description.cohort.data, runs=tmp_path, max_concurrent=1, **SMALL_SEARCH)
    pd.testing.assert_frame_equal(
        searched.leaderboard.drop(columns="seconds"), again.leaderboard.drop(columns="seconds")
    )


def test_repeats_are_trained_from_seeds_of_their_own(
    space: Path, tiny_cohort_folder: Path, tmp_path: Path, ray_session: None
) -> None:
    run = lymphtune.search(str(space), tiny_cohort_folder, runs=tmp_path / "runs", repeats=2, trials=1)
    trial = run.leaderboard.query("kind == 'network'").iloc[0]
    oof = read_table(run.trial(trial.trial) / "oof.parquet")
    first, second = (oof[oof["repeat"] == repeat].set_index(["epoch", "patient"]) for repeat in (0, 1))
    assert (first["fold"] == second["fold"]).all()
    assert not np.allclose(first["probability"], second["probability"])
    assert trial.repeats_sd >= 0
    assert len(list((run.trial(trial.trial) / "weights").iterdir())) == 6


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Diverged("loss is nan in epoch 1"), "diverged: loss is nan in epoch 1"),
        pytest.param(MemoryError("2 GB wanted"), "out of memory: 2 GB wanted", marks=pytest.mark.slow),
        pytest.param(ZeroDivisionError("a bug"), "a bug", marks=pytest.mark.slow),
    ],
)
def test_a_trial_that_fails_fails_alone_and_by_name(
    error: Exception,
    reason: str,
    space: Path,
    tiny_cohort_folder: Path,
    tmp_path: Path,
    ray_session: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search_module, "Shared", _sabotaged(error))
    run = lymphtune.search(str(space), tiny_cohort_folder, runs=tmp_path / "runs", trials=3)
    table = run.leaderboard.query("kind == 'network'").set_index("number")
    assert table["status"].to_dict() == {0: "done", 1: "failed", 2: "done"}
    assert reason in table.loc[1, "reason"]
    assert list(run.leaderboard["status"])[-1] == "failed"


def _sabotaged(error: Exception) -> type:
    class Sabotaged(search_module.Shared):
        def train(self, trial: Trial, start: Any = None):  # type: ignore[no-untyped-def]
            if trial.number == 1:
                raise error
            return super().train(trial, start)

    return Sabotaged


@pytest.mark.slow
def test_a_worker_that_is_slow_to_clean_up_loses_no_trial(
    tiny_cohort_folder: Path, tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune gives a stopped trial two seconds, unless told otherwise, and then drops the worker's next one unsaid."""
    monkeypatch.setattr(search_module, "Shared", _slow_to_end())
    run = lymphtune.search("tiny", tiny_cohort_folder, runs=tmp_path / "runs", max_concurrent=1, **SMALL_SEARCH)
    statuses = run.leaderboard.query("kind == 'network'")["status"]
    assert len(statuses) == 5 and set(statuses) == {"done", "stopped"}


@pytest.mark.slow
def test_a_run_may_live_where_no_worker_sees_the_driver_s_folder(
    searched: Run, tiny_cohort_folder: Path, tmp_path: Path, ray_session: None
) -> None:
    """On any filesystem of pyarrow's: workers and driver bring their parts there; another machine goes on."""
    there = {"storage": f"file://{tmp_path}/bucket"}
    lymphtune.search("tiny", tiny_cohort_folder, runs=tmp_path / "one", name="far", **there, **SMALL_SEARCH)
    table = read_table(tmp_path / "bucket" / "far" / "leaderboard.parquet")
    pd.testing.assert_frame_equal(table.drop(columns="seconds"), searched.leaderboard.drop(columns="seconds"))
    names = {str(path.relative_to(searched.path)) for path in searched.path.glob("trials/*/**/*") if path.is_file()}
    held = {str(p.relative_to(tmp_path / "bucket" / "far")) for p in (tmp_path / "bucket" / "far").rglob("*")}
    assert names <= held and not any(name.endswith((EPOCHS, CHECKPOINT)) for name in held)
    other = tmp_path / "other" / "far"
    Mirror(f"file://{tmp_path}/bucket/far", other).pull_files("run.yaml")
    run = resume("far", other.parent, trials=6, **there)
    assert len(run.leaderboard.query("kind == 'network'")) == 6
    assert len(read_table(tmp_path / "bucket" / "far" / "leaderboard.parquet")) == 10


def _slow_to_end() -> type:
    class Slow(search_module.Shared):
        def train(self, trial: Trial, start: Any = None):  # type: ignore[no-untyped-def]
            try:
                yield from super().train(trial, start)
            finally:
                time.sleep(2.5)

    return Slow


def test_only_the_best_weights_are_kept(
    space: Path, tiny_cohort_folder: Path, tmp_path: Path, ray_session: None
) -> None:
    run = lymphtune.search(str(space), tiny_cohort_folder, runs=tmp_path / "runs", trials=3, keep_weights=1)
    networks = run.leaderboard.query("kind == 'network'")
    kept = [(run.trial(trial) / "weights").exists() for trial in networks["trial"]]
    assert kept == [True, False, False]


def test_a_clinical_space_needs_no_network(tiny_cohort_folder: Path, tmp_path: Path, ray_session: None) -> None:
    run = lymphtune.search("clinical", tiny_cohort_folder, runs=tmp_path / "runs", trials=3, folds=2)
    assert set(run.leaderboard["kind"]) == {"clinical"}
    assert (~run.leaderboard["baseline"]).sum() == 3


@pytest.mark.slow
def test_one_hold_out_says_what_it_is_worth(
    space: Path, tiny_cohort_folder: Path, tmp_path: Path, ray_session: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = lymphtune.search(str(space), tiny_cohort_folder, runs=tmp_path / "runs", trials=1, folds=1)
    assert "mostly luck" in capsys.readouterr().err
    oof = read_table(run.trial(run.leaderboard["trial"].iloc[0]) / "oof.parquet")
    assert oof["patient"].nunique() == 3  # a quarter of 12


FROZEN = {
    "grid": True,
    "configuration": {
        "model": {
            "encoder": {"timm:test_resnet": {"pretrained": True, "frozen": True, "pca": 4}},
            "fusion": {"choose": ["none", "gated"]},
        },
        "data": {"crop_px": 64, "bag_size": None, "flips": False, "quarter_turns": False},
    },
}


@pytest.fixture
def frozen_space(tmp_path: Path) -> Path:
    path = tmp_path / "frozen.yaml"
    path.write_text(yaml.safe_dump(FROZEN))
    return path


@pytest.mark.slow
def test_a_frozen_backbone_from_a_folder_goes_all_the_way_into_a_bundle(
    frozen_space: Path,
    backbone_weights: Path,
    tiny_cohort_folder: Path,
    tmp_path: Path,
    ray_session: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the bundle needs neither the folder of weights nor the cache."""
    wanted = {"runs": tmp_path / "runs", "weights": backbone_weights, "repeats": 2, "folds": 2, "epochs": 2, "grace": 2}
    run = lymphtune.search(str(frozen_space), tiny_cohort_folder, **wanted)
    networks = run.leaderboard.query("kind == 'network'").set_index("number")
    assert networks["status"].to_dict() == {0: "done", 1: "done"}, networks["reason"].to_dict()
    for number, gated in ((0, False), (1, True)):
        folder = run.trial(networks.loc[number, "trial"])
        gate = read_table(folder / "oof.parquet")["gate"]
        assert gate.between(0, 1).all() if gated else gate.isna().all()
        assert len(list((folder / "weights").glob("repeat-*"))) == 4 and (folder / "weights" / WEIGHTS).is_file()
    ensemble = lymphtune.ensemble(run=run.path, top=2)
    expected = pd.read_parquet(ensemble.path / "predictions.parquet")
    assert expected["gate"].between(0, 1).all()
    shutil.rmtree(backbone_weights)
    shutil.rmtree(run.path / "trials")
    monkeypatch.setenv("LYMPHTUNE_CACHE", str(tmp_path / "elsewhere"))
    cohort = load_cohort(tiny_cohort_folder)
    said = Ensemble.load(ensemble.path).predict(cohort, cohort.to_predict)
    np.testing.assert_allclose(said.probability_P, expected["probability"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(said.gate_P, expected["gate"], rtol=0, atol=1e-6)


def test_a_folder_without_the_weights_is_refused_before_anything_is_written(
    frozen_space: Path, tiny_cohort_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    missing = tmp_path / "empty" / "test_resnet.safetensors"
    with pytest.raises(InputError, match=f"{missing}: no such file; expected the weights of timm:test_resnet"):
        lymphtune.search(str(frozen_space), tiny_cohort_folder, runs=tmp_path / "runs", weights=tmp_path / "empty")
    assert not (tmp_path / "runs").exists()


def test_weights_of_another_network_are_refused_before_anything_is_written(
    frozen_space: Path, tiny_cohort_folder: Path, tmp_path: Path
) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "test_resnet.safetensors")
    with pytest.raises(InputError, match="not the weights of timm:test_resnet"):
        lymphtune.search(str(frozen_space), tiny_cohort_folder, runs=tmp_path / "runs", weights=tmp_path)
    assert not (tmp_path / "runs").exists()


def test_another_file_of_weights_is_another_trial(
    frozen_space: Path, backbone_weights: Path, tiny_cohort_folder: Path
) -> None:
    def hashes() -> list[str]:
        return [trial.hash for trial in prepare(str(frozen_space), tiny_cohort_folder, settings)[1].trials]

    settings = Settings(weights=backbone_weights)
    first = hashes()
    assert hashes() == first
    write_backbone(backbone_weights / "test_resnet.safetensors", seed=1)
    assert not set(hashes()) & set(first)


@pytest.mark.slow
def test_a_grid_with_named_rows_ends_in_a_table(
    tiny_cohort_folder: Path, tmp_path: Path, ray_session: None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.yaml"
    published = {"balanced_accuracy": 0.8, "auc": 0.842}
    rows = [{"name": "one of them", "published": published}, {"name": "the other"}]
    configuration = {"clinical": {"choose": ["logistic", "svm"]}}
    path.write_text(yaml.safe_dump({"grid": True, "rows": rows, "note": "as they say", "configuration": configuration}))
    lymphtune.search(str(path), tiny_cohort_folder, runs=tmp_path / "runs", repeats=2, folds=2)
    lines = capsys.readouterr().out.splitlines()
    (start,) = (n for n, line in enumerate(lines) if line.startswith("Balanced accuracy, 2 folds, 12 patients judged"))
    heading, first, second, note = lines[start + 3 : start + 7]
    assert heading.split() == ["mean", "sd", "95", "%", "avg.", "rec.", "AUC", "BA", "rec.", "AUC", "kaggle"]
    scores = r" +0\.\d{3} 0\.\d{3} 0\.\d\d-[01]\.\d\d [01]\.\d{3} [01]\.\d\d [01]\.\d{3} +"
    assert re.fullmatch(f"one of them{scores}\\.800 -    \\.842 -", first)
    assert re.fullmatch(f"the other{scores}-    -    -    -", second)
    assert note == "as they say" and all(len(line) <= 80 for line in lines[start:])


def test_a_row_that_was_not_trained_to_its_end_has_no_figures(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.yaml"
    encoders = {"choose": ["vanilla", "resnet", "plain"]}
    rows = [{"name": "whole"}, {"name": "cut", "published": 0.8}, {"name": "none"}]
    given = {"model": {"encoder": encoders}, "data": {"crop_px": 40}}
    path.write_text(yaml.safe_dump({"grid": True, "rows": rows, "configuration": given}))
    cohort, plan = prepare(str(path), tiny_cohort_folder, Settings(epochs=2))
    board = Board(Run(tmp_path / "run"), cohort, plan)
    curve = {"train_loss": 0.5, "train_loss_sd": 0.1, "learning_rate": 1e-3, "seconds": 1.0}
    probability_RP = np.where(plan.folds_RP >= 0, 0.3, np.nan)
    for number, epochs in ((0, 2), (1, 1)):
        for epoch in range(1, epochs + 1):
            board.report(number, Report(epoch, probability_RP, np.full_like(probability_RP, np.nan), curve))
    board.end(0)
    board.halt = StopReason("interrupted", "a signal")
    board.close()
    whole, cut, none = table_text(board).splitlines()[4:]
    assert whole.split()[:5] == ["whole", "0.500", "-", "0.50-0.50", "0.500"]
    assert cut.split() == ["cut", "cut", "short", "after", "1", "of", "2", "epochs", ".800", "-", "-", "-"]
    assert len(cut) == len(whole)
    assert none.split() == ["none", "waiting", "after", "0", "of", "2", "epochs", "-", "-", "-", "-"]


def test_a_row_shows_what_averaging_its_seeds_gives(tiny_cohort_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.yaml"
    given = {"model": {"encoder": "vanilla"}, "data": {"crop_px": 40}}
    path.write_text(yaml.safe_dump({"grid": True, "rows": [{"name": "one"}], "configuration": given}))
    cohort, plan = prepare(str(path), tiny_cohort_folder, Settings(epochs=1, repeats=2, folds=2))
    board = Board(Run(tmp_path / "run"), cohort, plan)
    curve = {"train_loss": 0.5, "train_loss_sd": 0.1, "learning_rate": 1e-3, "seconds": 1.0}
    # one seed is sure and right of every second patient, doubtful and wrong of the others; the other seed conversely
    is_first_P = np.arange(len(cohort.labels)) % 2 == 0
    right_RP = np.stack([is_first_P, ~is_first_P])
    sure_P = np.where(cohort.labels == 1, 0.9, 0.1)
    probability_RP = np.where(plan.folds_RP >= 0, np.where(right_RP, sure_P, np.where(sure_P > 0.5, 0.4, 0.6)), np.nan)
    board.report(0, Report(1, probability_RP, np.full_like(probability_RP, np.nan), curve))
    board.end(0)
    row = table_text(board).splitlines()[4].split()
    assert float(row[1]) < 0.8 and row[4] == "1.000"


def test_a_dry_run_counts_the_features_and_leaves_them_to_the_search(
    tmp_path: Path, tiny_cohort_folder: Path, backbone_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LYMPHTUNE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "frozen.yaml"
    encoder = {"timm:test_resnet": {"pretrained": True, "frozen": True}}
    given = {"model": {"encoder": encoder}, "data": {"crop_px": 64, "tta": {"choose": [False, True]}}}
    path.write_text(yaml.safe_dump({"configuration": given}))
    said = dry_run(str(path), tiny_cohort_folder, Settings(trials=6, weights=backbone_weights)).text
    assert re.search(r"^frozen features, once: \d+ s, [\d.]+ kB of disk$", said, re.MULTILINE)
    assert not list((tmp_path / "cache").glob("features-*"))


def test_a_dry_run_says_what_it_would_cost_and_writes_no_run(space: Path, tiny_cohort_folder: Path) -> None:
    said = dry_run(str(space), tiny_cohort_folder, Settings(trials=3, repeats=2)).text
    assert "3 trials x 3 folds x 2 seeds = 18 networks" in said
    for word in ("time: ", "memory: ", "disk: ", "4 clinical baselines"):
        assert word in said
    assert not Path("runs").exists()


def test_the_split_can_have_a_seed_of_its_own(tiny_cohort_folder: Path) -> None:
    """Another seed trains the same way on the same folds; without a word the split follows the seed."""
    plans = {
        (seed, fold_seed): prepare("tiny", tiny_cohort_folder, Settings(seed=seed, fold_seed=fold_seed))[1]
        for seed, fold_seed in ((0, None), (0, 0), (1, 0), (1, None))
    }
    split = {given: plan.folds_RP.tolist() for given, plan in plans.items()}
    assert split[0, None] == split[0, 0] == split[1, 0] != split[1, None]
    hashes = {given: [trial.hash for trial in plan.trials] for given, plan in plans.items()}
    assert hashes[0, None] == hashes[0, 0] and not set(hashes[0, 0]) & set(hashes[1, 0])


def test_the_share_trained_counts_every_rung(tiny_cohort_folder: Path) -> None:
    _, plan = prepare("tiny", tiny_cohort_folder, Settings(epochs=12, grace=3))
    assert plan.rungs() == [3, 9]
    assert share_trained(plan) == pytest.approx((3 + 6 / 3 + 3 / 9) / 12)
    _, plan = prepare("tiny", tiny_cohort_folder, Settings(epochs=12, scheduler="none"))
    assert plan.rungs() == [] and share_trained(plan) == 1
    _, plan = prepare("tiny", tiny_cohort_folder, Settings(epochs=12, grace=3, racing=True))
    assert plan.rungs() == [3, 6, 9]  # a trial's weights are kept at each of them
    passing = Racing.goes_on
    expected = 3 + 3 * passing / 3 + 3 * passing**2 / 3 + 3 * passing**3 / 9
    assert share_trained(plan) == pytest.approx(expected / 12)


@pytest.mark.parametrize(("epochs", "rungs"), [(3, []), (8, [3]), (27, [9]), (30, [10]), (100, [33, 99])])
def test_the_first_rung_is_at_a_third_of_the_epochs(tiny_cohort_folder: Path, epochs: int, rungs: list[int]) -> None:
    _, plan = prepare("tiny", tiny_cohort_folder, Settings(epochs=epochs))
    assert plan.rungs() == rungs
    _, longer = prepare("tiny", tiny_cohort_folder, Settings(epochs=200), plan.stages)
    assert longer.grace == plan.grace and longer.rungs()[: len(rungs)] == rungs


@pytest.mark.parametrize("scheduler", stopping_rules.words())
def test_named_rows_are_never_stopped(scheduler: str) -> None:
    plan = make_plan(load_space("study"), Settings(scheduler=scheduler, racing=True), np.zeros((1, 4)), {})
    assert plan.rules() == [] and plan.rungs() == []


def test_another_search_of_the_same_name_is_refused_with_the_differences(searched: Run, space: Path) -> None:
    data = searched.description.cohort.data
    given = {"runs": searched.path.parent, "name": "searched"} | SMALL_SEARCH
    with pytest.raises(InputError, match=r"protocol grace 2 -> 3; protocol reduction 4 -> 3\); take another --name"):
        lymphtune.search("tiny", data, runs=searched.path.parent, name="searched", trials=5, epochs=4)
    with pytest.raises(InputError, match=r"searched: belongs to another search \(space\.model\.encoder\.choose: "):
        lymphtune.search(str(space), data, **given)
    with pytest.raises(InputError, match=r"\(protocol seed 0 -> 1"):
        lymphtune.search("tiny", data, **given, seed=1)
    assert searched.description.status == "done"


def test_another_cohort_is_refused_with_the_differences(searched: Run, tiny_cohort_folder: Path) -> None:
    next((tiny_cohort_folder / "trainset").glob("*/000000.jpg")).unlink()
    given = {"runs": searched.path.parent, "name": "searched"} | SMALL_SEARCH
    with pytest.raises(InputError, match=r"cohort hash \w+ -> \w+; cohort n_cells 52 -> 51\)"):
        lymphtune.search("tiny", tiny_cohort_folder, **given)


def test_a_moved_cohort_is_to_be_named(searched: Run, tmp_path: Path) -> None:
    run = Path(shutil.copytree(searched.path, tmp_path / "searched"))
    given = read_yaml(searched.path / "run.yaml")
    write_yaml(run / "run.yaml", given | {"cohort": given["cohort"] | {"data": str(tmp_path / "moved")}})
    with pytest.raises(InputError, match=r"moved: no such file or folder, .* searched is of it; .* with --data$"):
        resume("searched", tmp_path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"trials": 0}, "trials: 0; expected 1 or more"),
        ({"epochs": -1}, "epochs: -1"),
        ({"seed": -1}, "seed: -1; expected 0 or more"),
        ({"fold_seed": -1}, "fold_seed: -1; expected 0 or more"),
        ({"gpus_per_trial": -0.5}, "gpus_per_trial"),
        ({"name": "a/b"}, "expected a plain folder name"),
        ({"name": ".."}, "expected a plain folder name"),
        ({"scheduler": "hyperband"}, "scheduler: 'hyperband'; there are asha, median, none"),
        ({"scheduler": "racing"}, "scheduler: 'racing'; there are"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Settings(**wrong)


def test_concurrency_follows_cpus_and_gpu_fractions() -> None:
    assert concurrency(Settings(), 4, 0) == (4, 0.0)
    assert concurrency(Settings(cpus_per_trial=2), 5, 0) == (2, 0.0)
    assert concurrency(Settings(gpus_per_trial=0.5), 16, 2) == (4, 0.5)
    assert concurrency(Settings(), 16, 2) == (2, 1.0)
    assert concurrency(Settings(max_concurrent=3), 16, 0) == (3, 0.0)
    with pytest.raises(InputError, match=r"there are 0 GPUs; 0 trains on CPUs$"):
        concurrency(Settings(gpus_per_trial=1), 4, 0)


def test_a_cluster_may_grow_to_what_is_asked_for() -> None:
    """An autoscaler brings machines when trials ask for them; until then there may be none."""
    assert concurrency(Settings(address="auto", max_concurrent=8, gpus_per_trial=0.5), 0, 0) == (8, 0.5)
    with pytest.raises(InputError, match="a cluster that is to grow wants --max-concurrent N"):
        concurrency(Settings(address="auto", gpus_per_trial=1), 4, 0)


def test_the_latest_run_is_found(searched: Run, tmp_path: Path) -> None:
    assert find_run(None, searched.path.parent).name == "searched"
    with pytest.raises(InputError, match="no run in it"):
        find_run(None, tmp_path)
    with pytest.raises(InputError, match="no such run; there are: searched"):
        find_run("other", searched.path.parent)


def test_one_damaged_run_hides_no_other(searched: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(searched.path, tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.yaml").write_text("created: [")
    assert [run.name for run in all_runs(tmp_path)] == ["good"] and find_run(None, tmp_path).name == "good"
    assert "bad/run.yaml, line" in capsys.readouterr().err
