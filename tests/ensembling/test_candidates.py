"""Which trials are taken: by metric, kind and architecture, in every resample alone; and what is refused.

Shapes: S resamples, M trials, C epochs of them, P patients.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, log_loss, roc_auc_score

from lymphtune.ensembling.candidates import Resamples, read_oof
from lymphtune.ensembling.recipe import Choice
from lymphtune.errors import InputError
from lymphtune.files import write_table
from lymphtune.statistics.bootstrap import resample
from tests.ensembling.made_up import candidates


def by_hand(metric: str, probability_P: np.ndarray, labels_P: np.ndarray, counts_P: np.ndarray) -> float:
    """Return the metric as scikit-learn has it, lower is better."""
    probability_P, labels_P = probability_P.repeat(counts_P), labels_P.repeat(counts_P)
    share = labels_P.mean()
    weight_P = np.where(labels_P == 1, 1 - share, share)
    return {
        "log_loss": lambda: log_loss(labels_P, probability_P, sample_weight=weight_P),
        "brier": lambda: brier_score_loss(labels_P, probability_P, sample_weight=weight_P),
        "balanced_accuracy": lambda: 1 - balanced_accuracy_score(labels_P, probability_P >= 0.5),
        "auc": lambda: 1 - roc_auc_score(labels_P, probability_P),
    }[metric]()


@pytest.mark.parametrize("metric", ["log_loss", "brier", "balanced_accuracy", "auc"])
def test_the_best_on_the_drawn_patients_are_taken(metric: str) -> None:
    given = candidates(trials=9, epochs=3)
    counts_SP = resample(given.labels_P, 20, 1)
    chosen_SN = Resamples(given, counts_SP).choose(Choice("all", (("any", 4),), metric))
    for counts_P, rows in zip(counts_SP, chosen_SN, strict=True):
        loss_C, log_loss_C = (
            np.array([by_hand(name, probability_P, given.labels_P, counts_P) for probability_P in given.oof_CP])
            for name in (metric, "log_loss")
        )
        kept_M = np.arange(9) * 3 + log_loss_C.reshape(9, 3).argmin(axis=1)  # the epoch whose weights a trial keeps
        assert set(rows) <= set(kept_M) and len(set(rows)) == 4
        np.testing.assert_allclose(loss_C[rows], np.sort(loss_C[kept_M])[:4], atol=1e-12)


def test_patients_not_drawn_have_no_say() -> None:
    given = candidates()
    counts_SP = resample(given.labels_P, 30, 0)
    choice = Choice("all", (("any", 5),), per_architecture=2)
    before = Resamples(given, counts_SP).choose(choice)
    for s, counts_P in enumerate(counts_SP):
        oof_CP = np.where(counts_P == 0, 1 - given.oof_CP, given.oof_CP)
        turned = type(given)(given.table, given.patients, given.labels_P, given.fold_P, oof_CP, given.trial_C)
        assert Resamples(turned, counts_SP[[s]]).choose(choice)[0].tolist() == before[s].tolist()


def test_an_architecture_enters_so_often_at_most() -> None:
    given = candidates(trials=30)
    rows = given.chosen(Choice("all", (("any", 9),), per_architecture=2))
    free = given.chosen(Choice("all", (("any", 30),)))
    walked: list[int] = []
    for row in free:
        alike = given.trials(np.array(walked, dtype=int))["architecture"].tolist()
        if alike.count(given.table["architecture"][row]) < 2:
            walked.append(int(row))
    assert rows.tolist() == walked[:9]
    assert len(given.chosen(Choice("all", (("any", 30),), per_architecture=1))) == given.table["architecture"].nunique()


def test_the_best_of_each_kind() -> None:
    given = candidates()
    rows = given.chosen(Choice("all", (("images", 1), ("clinical", 1), ("mixed", 2))))
    assert given.trials(rows)["sees"].tolist() == ["images", "clinical", "mixed", "mixed"]
    ranked = given.trials(given.chosen(Choice("all", (("any", 12),))))
    for kind, count in (("images", 1), ("clinical", 1), ("mixed", 2)):
        first = ranked[ranked["sees"] == kind]["trial"].head(count).tolist()
        assert given.trials(rows).query("sees == @kind")["trial"].tolist() == first


def test_kinds_that_are_missing_are_left_out_or_refused() -> None:
    given = candidates(trials=2)  # images and mixed
    rows = given.chosen(Choice("all", (("images", 1), ("clinical", 1), ("mixed", 1))))
    assert given.trials(rows)["sees"].tolist() == ["images", "mixed"]
    with pytest.raises(InputError, match="blends kinds of trials, and this run has only: images; use another recipe"):
        candidates(trials=1).chosen(Choice("all", (("images", 1), ("clinical", 1))))


def test_fewer_trials_than_asked_for_are_taken_with_a_warning() -> None:
    given = candidates()
    for most in (8, 9):
        assert len(given.chosen(Choice("networks", (("any", most),)))) == 8
    assert given.shortage(Choice("networks", (("any", 8),)), 8) == ""
    assert "9 trials were requested and 8 trials can be taken" in given.shortage(Choice("networks", (("any", 9),)), 8)


def test_no_trial_of_a_kind_is_refused() -> None:
    with pytest.raises(InputError, match="no trial for 'from: clinical'; the run has 2 network; try another --from"):
        candidates(trials=2).chosen(Choice("clinical"))


def test_stopped_trials_are_left_out_unless_asked_for() -> None:
    """The best trial of all was stopped; everything is chosen among the others, in resamples too."""
    given = candidates()
    best = given.table["trial"].iloc[given.trial_C[given.chosen(Choice("all", (("any", 1),)))[0]]]
    given.table.loc[given.table["trial"] == best, "status"] = "stopped"
    choice, both = Choice("all", (("any", 12),)), Choice("all", (("any", 12),), include_stopped=True)
    assert best not in set(given.trials(given.chosen(choice))["trial"])
    assert best in set(given.trials(given.chosen(both))["trial"])
    resamples = Resamples(given, resample(given.labels_P, 20, 0))
    stopped_row = int(given.table.index[given.table["trial"] == best][0])
    assert not (given.trial_C[resamples.choose(choice)] == stopped_row).any()
    assert (given.trial_C[resamples.choose(both)] == stopped_row).any()
    assert "1 stopped early are excluded (--include-stopped takes them)" in given.shortage(choice, 11)


def test_a_run_in_which_all_were_stopped_names_the_option() -> None:
    given = candidates()
    given.table["status"] = "stopped"
    with pytest.raises(InputError, match=r"8 stopped early are excluded .--include-stopped takes them."):
        given.chosen(Choice("networks"))
    assert len(given.chosen(Choice("networks", include_stopped=True))) == 5


def test_sources() -> None:
    given = candidates()
    for source, count in (("networks", 8), ("clinical", 4), ("all", 12)):
        assert given.allowed(Choice(source)).sum() == count
        assert len(given.chosen(Choice(source, (("any", 99),)))) == count


PATIENTS, FOLDS_RP = ["A", "B", "C", "D"], np.array([[0, 1, -1, 0], [1, 0, -1, 1]])


def oof_table(**changed: list) -> pd.DataFrame:
    """Return two epochs of two repeats, patient C never held out."""
    columns: dict[str, list] = {
        "trial": ["t"] * 12,
        "repeat": [0, 0, 0, 1, 1, 1] * 2,
        "fold": [0, 1, 0, 1, 0, 1] * 2,
        "epoch": [1] * 6 + [2] * 6,
        "patient": ["A", "B", "D"] * 4,
        "probability": list(np.arange(12) / 12),
    }
    return pd.DataFrame(columns | changed)


def test_probabilities_are_read_by_epoch_repeat_and_patient(tmp_path: Path) -> None:
    rounded = [1 + 1.2e-7, *(np.arange(1, 12) / 12)]  # as float32 arithmetic leaves it
    write_table(tmp_path / "t" / "oof.parquet", oof_table(probability=rounded), {"cohort_hash": "x"})
    oof_ERP = read_oof(tmp_path / "t" / "oof.parquet", PATIENTS, FOLDS_RP, "x")
    assert oof_ERP.shape == (2, 2, 4) and np.isnan(oof_ERP[:, :, 2]).all()
    np.testing.assert_allclose(oof_ERP[1, 0, [0, 1, 3]], np.arange(6, 9) / 12)
    assert oof_ERP[0, 0, 0] == 1


@pytest.mark.parametrize(
    ("changed", "hash_", "message"),
    [
        ({}, "y", "of another cohort than its run; search again"),
        ({"fold": [0, 1, 1, 1, 0, 1] * 2}, "x", "its folds are not those of the run's folds"),
        ({"patient": ["A", "B", "E"] * 4}, "x", "its patients are not those of the run's folds"),
        ({"patient": ["B", "A", "D"] * 4}, "x", "its patients are not those of the run's folds"),
        ({"repeat": [0] * 12}, "x", "its repeats are not those of the run's folds"),
        ({"epoch": [2] * 6 + [1] * 6}, "x", "its epochs are not 1, 2, ... in order"),
        ({"trial": ["t"] * 11 + ["u"]}, "x", "of another trial than its folder"),
        ({"probability": [0.5] * 11 + [7.0]}, "x", r"outside \[0, 1\] for 1 rows \(largest 7\)"),
        ({"probability": [0.5] * 11 + [float("nan")]}, "x", r"for 1 rows \(1 are NaN\)"),
    ],
)
def test_another_search_s_probabilities_are_refused(changed: dict, hash_: str, message: str, tmp_path: Path) -> None:
    write_table(tmp_path / "t" / "oof.parquet", oof_table(**changed), {"cohort_hash": "x"})
    with pytest.raises(InputError, match=message):
        read_oof(tmp_path / "t" / "oof.parquet", PATIENTS, FOLDS_RP, hash_)


def test_tables_cut_short_or_damaged_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t" / "oof.parquet"
    write_table(path, oof_table().iloc[:-1], {"cohort_hash": "x"})
    with pytest.raises(InputError, match="are not those of the run's folds"):
        read_oof(path, PATIENTS, FOLDS_RP, "x")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match="missing or damaged, not a Parquet table"):
        read_oof(path, PATIENTS, FOLDS_RP, "x")
    with pytest.raises(InputError, match="missing or damaged"):
        read_oof(tmp_path / "none.parquet", PATIENTS, FOLDS_RP, "x")
