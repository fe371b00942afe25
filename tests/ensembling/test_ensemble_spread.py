"""Stability of a run: which single runs are drawn from, what is written of them, what is concluded and refused."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lymphtune.config import configuration
from lymphtune.ensembling.ensemble_spread import conclusion, measure_stability
from lymphtune.ensembling.single_runs import choose_trials, read_single_runs, trials_to_retrain
from lymphtune.errors import InputError
from lymphtune.files import write_table, write_yaml
from lymphtune.runs.run import Run, read_table
from lymphtune.statistics.ensemble_sizes import stability
from lymphtune.statistics.metrics import balanced_accuracy

FILES = ["runs.csv", "stability.csv", "stability.png", "stability.svg"]
N_PATIENTS = 40
LABELS_P = np.arange(N_PATIENTS) % 2


def write_run(path: Path, oof_TRP: np.ndarray, simulated: bool = False, stopped: int = 0) -> Run:
    """Write a run of networks of which the worst `stopped` did not run to their end, and one clinical baseline.

    Every trial has a first epoch that says nothing; the second is the judged one.
    """
    n_trials, n_repeats, _ = oof_TRP.shape
    said = [*oof_TRP, np.repeat(np.where(LABELS_P == 1, 0.9, 0.1)[None], n_repeats, axis=0)]
    rows = []
    for number, oof_RP in enumerate(said):
        clinical = number == n_trials
        network = {"model": {"encoder": {"resnet": {"filters": number + 1}}}}
        chosen = configuration({"clinical": "logistic"} if clinical else network, "test")
        rows.append(
            {
                "trial": f"{number:016x}",
                "kind": chosen.kind,
                "title": chosen.title,
                "baseline": clinical,
                "epoch": 2,
                "status": "stopped" if n_trials - stopped <= number < n_trials else "done",
                "best_epoch_picked": False,
                "balanced_accuracy": float(balanced_accuracy(oof_RP.mean(0), LABELS_P)),
            }
        )
        folder = path / "trials" / rows[-1]["trial"]
        write_yaml(folder / "config.yaml", {"configuration": chosen.as_yaml()})
        write_table(folder / "oof.parquet", _oof(oof_RP).assign(trial=rows[-1]["trial"]), {"cohort_hash": "made"})
    write_table(path / "leaderboard.parquet", pd.DataFrame(rows), {})
    patients = [f"P{row}" for row in range(N_PATIENTS)]
    folds = {"patient": patients * n_repeats, "repeat": np.repeat(range(n_repeats), N_PATIENTS), "fold": 0}
    write_table(path / "folds.parquet", pd.DataFrame(folds), {})
    cohort = {"name": "made_up", "simulated": simulated, "hash": "made", "data": "", "reference_date": "2020-01-01"}
    protocol = {"folds": 1, "repeats": n_repeats, "epochs": 2, "trials": 8, "seed": 0}
    described = {"created": "2026", "cohort": cohort, "protocol": protocol, "space": {"name": "mixed"}}
    write_yaml(path / "run.yaml", described)
    return Run(path)


def _oof(oof_RP: np.ndarray) -> pd.DataFrame:
    tables = []
    for epoch in (1, 2):
        for repeat, probability_P in enumerate(oof_RP):
            tables.append(
                pd.DataFrame(
                    {
                        "repeat": repeat,
                        "fold": 0,
                        "epoch": epoch,
                        "patient": [f"P{row}" for row in range(N_PATIENTS)],
                        "label": LABELS_P,
                        "probability": probability_P if epoch == 2 else 0.5,
                    }
                )
            )
    return pd.concat(tables)


def runs_of(trials: int, repeats: int, luck: float = 1.0) -> np.ndarray:
    """Return probabilities [T, R, P] that are right on the whole; `luck` is what each run adds of its own."""
    rng = np.random.default_rng(0)
    towards_TRP = 0.8 + rng.normal(size=N_PATIENTS) + luck * rng.normal(size=(trials, repeats, N_PATIENTS))
    return 1 / (1 + np.exp(-np.where(LABELS_P == 1, towards_TRP, -towards_TRP)))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Eight trials of three seeds, of which the last two were stopped."""
    return write_run(tmp_path / "eight", runs_of(8, 3), stopped=2)


def test_the_files_say_what_the_statistics_say(run: Run) -> None:
    said = measure_stability(run, (1, 4), draws=100).text
    assert sorted(path.name for path in (run.path / "stability").iterdir()) == FILES
    table = pd.read_csv(run.path / "stability" / "stability.csv").set_index("size")
    for of_size in stability(runs_of(8, 3)[:6], LABELS_P, (1, 4), 100):
        row = table.loc[of_size.size]
        np.testing.assert_allclose([row["mean"], row["sd"]], [of_size.mean, of_size.sd], rtol=1e-4)
        assert row["variance_seed"] == pytest.approx(of_size.variances.seed, rel=1e-4)
        assert f"{of_size.size:4} {len(of_size.scores_E):5} {of_size.mean:.3f}" in said
    assert said.splitlines()[-1] == str(run.path / "stability")
    assert all(len(line) <= 80 for line in said.splitlines()[:-1])
    single = pd.read_csv(run.path / "stability" / "runs.csv", dtype={"trial": str})
    assert list(single.groupby("trial")["repeat"].unique().map(list)) == [[0, 1, 2]] * 6
    expected = balanced_accuracy(runs_of(8, 3)[:6], LABELS_P).reshape(-1)
    np.testing.assert_allclose(single["balanced_accuracy"], expected, atol=1e-5)
    with Image.open(run.path / "stability" / "stability.png") as picture:
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize("columns", [40, 60])
def test_the_table_follows_a_narrow_terminal(columns: int, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = measure_stability(run, (1, 4), draws=50).text.splitlines()
    monkeypatch.setenv("COLUMNS", str(columns))
    narrow = measure_stability(run, (1, 4), draws=50).text.splitlines()
    assert max(map(len, narrow[:-1])) <= columns < max(map(len, wide[:-1]))
    assert sorted(set(" ".join(wide).split()) - set(" ".join(narrow).split())) == []


def test_a_simulated_cohort_is_named_in_every_file_and_no_other_is(tmp_path: Path) -> None:
    for simulated in (True, False):
        run = write_run(tmp_path / f"{simulated}", runs_of(5, 1), simulated)
        said = measure_stability(run, (1, 2)).text
        texts = [said, *((run.path / "stability" / name).read_bytes().decode("latin-1") for name in FILES)]
        assert [("SIMULATED" in text) for text in texts] == [simulated] * 5
        with Image.open(run.path / "stability" / "stability.png") as picture:
            assert ("made_up (SIMULATED)" in picture.info["Title"]) == simulated


def test_the_same_run_gives_the_same_bytes(run: Run) -> None:
    before = []
    for _ in range(2):
        measure_stability(run, (1, 3), draws=50)
        before.append([(run.path / "stability" / name).read_bytes() for name in FILES])
    assert before[0] == before[1]
    ElementTree.fromstring(before[0][FILES.index("stability.svg")])


def test_a_name_is_never_read_as_a_formula(tmp_path: Path) -> None:
    measure_stability(write_run(tmp_path / "a$\\frac$<b>", runs_of(5, 1)), (1, 2))


def test_nothing_is_left_behind_where_the_figure_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: object) -> None:
        raise RuntimeError("no figure")

    monkeypatch.setattr("lymphtune.ensembling.ensemble_spread.save_figure", fails)
    with pytest.raises(RuntimeError, match="no figure"):
        measure_stability(run, (1, 2))
    assert not list(run.path.glob("*stability*"))


def test_trials_that_were_stopped_are_not_drawn_and_the_best_come_first(run: Run) -> None:
    assert list(choose_trials(run, "networks", 10)["trial"]) == [f"{number:016x}" for number in range(6)]
    assert list(choose_trials(run, "networks", 10, pool=4)["trial"]) == [f"{number:016x}" for number in range(4)]
    assert len(choose_trials(run, "all", 10)) == 7 and len(choose_trials(run, "clinical", 3)) == 1


def test_the_pool_grows_with_the_largest_size(tmp_path: Path) -> None:
    run = write_run(tmp_path / "many", runs_of(26, 1))
    assert [len(choose_trials(run, "networks", largest)) for largest in (5, 20, 24)] == [20, 20, 24]


def test_a_baseline_that_was_searched_too_counts_once(run: Run) -> None:
    board = run.leaderboard
    baseline = board[board["baseline"]]
    again = baseline.assign(trial="f" * 16, baseline=False)
    write_yaml(
        run.trial("f" * 16) / "config.yaml", {"configuration": configuration({"clinical": "logistic"}, "").as_yaml()}
    )
    write_table(run.path / "leaderboard.parquet", pd.concat([board, again]), {})
    assert list(choose_trials(run, "clinical", 1)["trial"]) == ["f" * 16]


def test_trials_to_retrain_are_as_many_as_the_largest_size_but_five(run: Run, tmp_path: Path) -> None:
    assert trials_to_retrain(run, "networks", 2, 5) == [f"{number:016x}" for number in range(5)]
    assert len(trials_to_retrain(run, "networks", 6, 5)) == 6
    assert len(trials_to_retrain(run, "networks", 20, 5)) == 6  # all there are: 30 single runs
    assert len(trials_to_retrain(run, "networks", 2, 5, pool=3)) == 3
    many = write_run(tmp_path / "many", runs_of(26, 1))
    assert len(trials_to_retrain(many, "networks", 40, 2)) == 20  # 40 single runs


@pytest.mark.parametrize(
    ("largest", "seeds", "message"),
    [
        (2, 1, "--retrain 1: expected 2 seeds or more"),
        (2, 0, "--retrain 0: expected 2 seeds or more"),
        (
            13,
            2,
            r"--sizes 13: the run eight has 12 single runs .*\(6 trials x 2 seeds\); the largest possible size is 12",
        ),
    ],
)
def test_a_retraining_that_would_be_too_little_is_refused(largest: int, seeds: int, message: str, run: Run) -> None:
    with pytest.raises(InputError, match=message):
        trials_to_retrain(run, "networks", largest, seeds)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sizes": [1, 19]}, r"--sizes 19: the run eight has 18 single runs .*; the largest possible size is 18"),
        ({"sizes": [1, 7], "pool": 2}, "the largest possible size is 6"),
        ({"sizes": [0, 2]}, "--sizes 0,2: expected whole numbers from 1"),
        ({"sizes": []}, "--sizes : expected whole numbers from 1"),
        ({"pool": 7}, "--pool 7: the run eight has 6 completed trials .*; expected 1 to 6"),
        ({"pool": 0}, "--pool 0"),
        ({"draws": 1}, "--draws 1: expected 2 or more"),
        ({"seed": -1}, "--seed -1: expected 0 or more"),
        ({"source": "nets"}, "--from has no 'nets'; there are networks, clinical, all"),
    ],
)
def test_what_cannot_be_drawn_is_refused(given: dict, message: str, run: Run) -> None:
    with pytest.raises(InputError, match=message):
        measure_stability(run, **given)
    assert not (run.path / "stability").exists()


def test_a_run_in_which_all_were_stopped_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "none", runs_of(2, 1), stopped=2)
    with pytest.raises(InputError, match="no completed trial for --from networks"):
        measure_stability(run, (1,))


def test_sizes_are_taken_once_each_in_order(run: Run) -> None:
    measure_stability(run, (3, 1, 3))
    assert list(pd.read_csv(run.path / "stability" / "stability.csv")["size"]) == [1, 3]


def test_one_seed_is_said_not_to_tell_configuration_from_seed(run: Run, tmp_path: Path) -> None:
    once = re.sub(r"\s+", " ", measure_stability(write_run(tmp_path / "once", runs_of(8, 1)), (1, 2)).text)
    assert "conf.+seed" in once and "--retrain 5 trains the best ones again" in once
    table = pd.read_csv(tmp_path / "once" / "stability" / "stability.csv")
    assert table[["variance_configuration", "variance_seed"]].isna().all(axis=None)
    thrice = measure_stability(run, (1, 2)).text
    assert "conf.+seed" not in thrice and "--retrain" not in thrice


def test_notes_name_what_is_optimistic_or_imprecise(run: Run) -> None:
    board = run.leaderboard
    write_table(
        run.path / "leaderboard.parquet", board.assign(best_epoch_picked=board["title"].str.contains("-1 ")), {}
    )
    said = re.sub(r"\s+", " ", measure_stability(run, (1, 10)).text)
    assert "their level is optimistic" in said and "not the sampling of patients" in said
    assert "1 trial scored at the best epoch" in said
    assert "imprecise above 9 members" in said and "From 18 runs their standard error is about 17 %" in said
    said = re.sub(r"\s+", " ", measure_stability(run, (1, 18)).text)
    assert "Size 18 is all runs: one ensemble" in said


def concluded(run: Run, sizes: tuple[int, ...]) -> str:
    runs = read_single_runs(run, choose_trials(run, "networks", sizes[-1]))
    return conclusion(runs, stability(runs.oof_TRP, runs.labels_P, sizes))


def test_the_conclusion_quotes_new_ensembles_up_to_half_of_the_runs(tmp_path: Path) -> None:
    run = write_run(tmp_path / "six", runs_of(6, 3, luck=0.3))
    single, nine = stability(runs_of(6, 3, luck=0.3), LABELS_P, (1, 9))
    said = concluded(run, (1, 4, 9, 12))
    assert said.startswith("Averaging 9 runs reduces the standard deviation of balanced accuracy ")
    assert f"from {single.sd_new:.3f} to {nine.sd_new:.3f} ({single.sd_new / nine.sd_new:.1f} times less)" in said
    assert f"from {single.quantile(0):.2f}-{single.quantile(1):.2f} to {nine.quantile(0):.2f}-" in said
    share = 100 * nine.variances.patients / nine.variances.total
    assert said.endswith(f"the remaining variance comes mostly from the sampling of patients ({share:.0f} %).")
    assert concluded(run, (1, 4, 18)).startswith("Averaging 4 runs")


def test_the_conclusion_says_when_averaging_does_not_help(tmp_path: Path) -> None:
    """One configuration in four is sure and calls all tumoral; the others are right, but too timid to outvote it."""
    timid_P, sure_P = np.where(LABELS_P == 1, 0.55, 0.45), np.full(N_PATIENTS, 0.99)
    oof_TRP = np.array([sure_P if trial % 4 == 0 else timid_P for trial in range(12)])[:, None].repeat(2, axis=1)
    said = concluded(write_run(tmp_path / "sure", oof_TRP), (1, 2))
    single, pair = stability(oof_TRP, LABELS_P, (1, 2))
    assert pair.sd_new > single.sd_new and pair.mean < single.mean
    change = f"from {single.sd_new:.3f} to {pair.sd_new:.3f}"
    opening = (
        f"Averaging 2 runs does not reduce the variance of balanced accuracy: its standard deviation changes {change}, "
    )
    assert said.startswith(opening + "its range from 0.50-1.00 to 0.50-1.00 and its mean from 0.88 to 0.7")
    assert said.endswith("the remaining variance comes mostly from the choice of configuration (100 %).")


def test_the_conclusion_of_runs_that_agree(tmp_path: Path) -> None:
    run = write_run(tmp_path / "agree", np.repeat(runs_of(1, 2), 6, axis=0)[:, :1])
    assert concluded(run, (1, 3)).startswith("The single runs already agree: their standard deviation is 0")
    run = write_run(tmp_path / "two", runs_of(2, 1))
    assert concluded(run, (1, 2)).startswith("One size alone shows no change: add another below 2 to --sizes")
    assert concluded(run, (1,)).startswith("One size alone shows no change")


def test_a_real_run_is_read_at_its_judged_epochs(searched: Run) -> None:
    table = choose_trials(searched, "all", 1)
    runs = read_single_runs(searched, table)
    assert set(table["status"]) == {"done"} and runs.oof_TRP.shape == (len(table), 1, 12)
    for row, probability_P in zip(table.itertuples(), runs.oof_TRP[:, 0], strict=True):
        assert balanced_accuracy(probability_P, runs.labels_P) == pytest.approx(row.balanced_accuracy)
        oof = read_table(searched.trial(row.trial) / "oof.parquet").query(f"epoch == {row.epoch}").set_index("patient")
        assert oof["probability"][runs.patients].tolist() == probability_P.tolist()
    clinical = searched.leaderboard.query("kind == 'clinical'").iloc[0]
    assert runs.baseline == (clinical["title"], clinical["balanced_accuracy"])
