"""The audit of single attributes: what gives the label away is found, and chance is not."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from lymphtune.statistics import audit as module
from lymphtune.statistics.audit import audit
from lymphtune.statistics.metrics import auc, balanced_accuracy

RNG = np.random.default_rng(0)
LABELS = np.arange(120) % 3 % 2  # 80 reactive, 40 tumoral
FOLD = (np.arange(120) // 3) % 5


def noise(number: int) -> pd.DataFrame:
    return pd.DataFrame(RNG.standard_normal((len(LABELS), number))).rename(columns="noise {}".format)


def test_what_gives_the_label_away_is_found_whichever_its_unit_and_direction() -> None:
    given = noise(2).assign(up=1e4 + 30 * (LABELS + 0.4 * RNG.standard_normal(120)), down=-1e-3 * LABELS)
    found = audit(given, LABELS, FOLD).set_index("attribute")
    assert found.index[0] == "down" and found.loc["down", ["auc", "balanced_accuracy"]].tolist() == [1, 1]
    assert found.loc["up", "auc"] > 0.9
    assert (found.loc[["up", "down"], "p_all"] == 1 / 201).all()
    assert (found["p_all"] >= found["p"]).all()


def test_noise_is_called_significant_about_as_often_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PERMUTATIONS", 40)
    p = np.concatenate([audit(noise(10), LABELS, FOLD, seed)["p"] for seed in range(4)])
    assert 0 < (p < 0.5).mean() - 0.3 < 0.4
    assert (p < 0.05).mean() < 0.15


def test_chance_reaches_about_as_much_below_one_half_as_above() -> None:
    found = audit(noise(5), LABELS, FOLD)
    middle = (found["auc_low"] + found["auc_high"]) / 2
    assert (abs(middle - 0.5) < 0.08).all() and (found["auc_high"] > 0.53).all() and (found["auc_high"] < 0.75).all()


def test_the_regression_is_scikit_learns() -> None:
    value = LABELS + RNG.standard_normal(120)
    expected = LogisticRegression(class_weight="balanced").fit(value[:, None], LABELS)
    offset, slope = module._fit(value[:, None], LABELS[None])[0]
    assert slope == pytest.approx(expected.coef_[0, 0], rel=1e-3)
    assert offset == pytest.approx(expected.intercept_[0], rel=1e-3)


def test_several_columns_make_one_attribute_as_scikit_learn_fits_them() -> None:
    values = np.column_stack([LABELS + RNG.standard_normal(120), RNG.standard_normal(120), LABELS * 0.5])
    expected = LogisticRegression(class_weight="balanced").fit(values, LABELS)
    np.testing.assert_allclose(module._fit(values, LABELS[None])[0, 1:], expected.coef_[0], rtol=1e-3)
    inside_only = np.column_stack([values[:, 1], values[:, 1] + 0.5 * (LABELS - 0.5)])  # neither column alone
    found = audit({"both": inside_only, "first": inside_only[:, 0]}, LABELS, FOLD).set_index("attribute")
    assert found.loc["both", "auc"] > 0.95 > 0.7 > found.loc["first", "auc"]


def test_words_predict_in_whatever_order_they_sort() -> None:
    word = np.where(LABELS == 1, "b", np.where(RNG.random(120) < 0.5, "a", "c"))
    found = audit({"word": word, "constant": np.repeat("x", 120)}, LABELS, FOLD).set_index("attribute")
    assert found.loc["word", "auc"] == 1 and found.loc["word", "p_all"] == 1 / 201
    assert found.loc["constant", "p"] > 0.05


def test_the_scores_are_those_of_the_metrics() -> None:
    values = np.round(LABELS + RNG.standard_normal(120), 1)[:, None]  # with ties
    said = module._out_of_fold(values, LABELS[None], FOLD)
    auc_S, accuracy_S = module._scores(values, LABELS[None], FOLD, FOLD >= 0)
    assert auc_S[0] == pytest.approx(float(auc(said[0], LABELS)))
    assert accuracy_S[0] == pytest.approx(float(balanced_accuracy(said[0], LABELS)))


def test_nobody_is_judged_by_a_regression_that_saw_its_label() -> None:
    value = RNG.standard_normal(120)
    flipped = LABELS.copy()
    flipped[FOLD == 2] = 1 - flipped[FOLD == 2]
    one, other = (module._out_of_fold(value[:, None], labels[None], FOLD)[0] for labels in (LABELS, flipped))
    np.testing.assert_array_equal(one[FOLD == 2], other[FOLD == 2])
    assert not np.array_equal(one, other)


def test_patients_that_are_only_trained_on_are_not_scored() -> None:
    fold = np.where(FOLD == 0, 0, -1)
    given = pd.DataFrame({"only in the held-out": np.where(fold == 0, LABELS, 0.0), "label": LABELS.astype(float)})
    found = audit(given, LABELS, fold).set_index("attribute")
    assert found.loc["label", "auc"] == 1
    assert found.loc["only in the held-out", "auc"] == 0.5  # nothing to learn it from
    constant = audit(pd.DataFrame({"constant": np.ones(120)}), LABELS, FOLD)
    assert constant.loc[0, "auc"] == pytest.approx(0.5, abs=0.1) and constant.loc[0, "p"] > 0.05
