"""Procedures: every step learns from the drawn patients alone, whatever the recipe, calibration and threshold.

Shapes: S resamples, P patients.
"""

import numpy as np
import pytest

from lymphtune.ensembling.candidates import Candidates, Resamples
from lymphtune.ensembling.procedure import Procedure, margins, parse_calibration
from lymphtune.ensembling.recipe import load_recipe
from lymphtune.ensembling.threshold import parse_threshold
from lymphtune.errors import InputError
from lymphtune.registry import calibrations
from lymphtune.spaces import shipped
from lymphtune.statistics.bootstrap import resample
from tests.ensembling.made_up import candidates

RECIPES = shipped("ensembles")
STEPS = [
    ("none", "0.5"),
    *[(word, "tuned") for word in calibrations.words()],
    ("none", "recall=0.9"),
    ("none", "cost=2:1"),
]


def procedure(recipe: str, calibration: str = "none", threshold: str = "0.5", refer: float = 0.2) -> Procedure:
    return Procedure(load_recipe(recipe), parse_calibration(calibration), parse_threshold(threshold), refer)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(("calibration", "threshold"), STEPS)
def test_nothing_is_learnt_from_patients_left_out(recipe: str, calibration: str, threshold: str) -> None:
    """Their labels turned round, and their probabilities, leave everything as it was for all others."""
    given, counts_SP = candidates(), resample(candidates().labels_P, 3, 0)
    before = procedure(recipe, calibration, threshold).repeat(given, Resamples(given, counts_SP))
    for s, counts_P in enumerate(counts_SP):
        out_P = counts_P == 0
        labels_P = np.where(out_P, 1 - given.labels_P, given.labels_P)
        oof_CP = np.where(out_P, 1 - given.oof_CP, given.oof_CP)
        turned = Candidates(given.table, given.patients, labels_P, given.fold_P, oof_CP, given.trial_C)
        after = procedure(recipe, calibration, threshold).repeat(turned, Resamples(turned, counts_SP[[s]]))
        np.testing.assert_allclose(after.probability_SP[0, ~out_P], before.probability_SP[s, ~out_P], atol=1e-9)
        assert after.threshold_S[0] == pytest.approx(before.threshold_S[s], abs=1e-9)
        np.testing.assert_array_equal(after.refers_SP[0, ~out_P], before.refers_SP[s, ~out_P])
        np.testing.assert_array_equal(after.sets_2SP[:, 0, ~out_P], before.sets_2SP[:, s, ~out_P])


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_repeated_is_what_is_done_on_all(recipe: str) -> None:
    given = candidates()
    everybody = np.ones((1, len(given.labels_P)), dtype=int)
    mine = procedure(recipe, "platt", "tuned")
    resampled = mine.repeat(given, Resamples(given, everybody))
    oof_MP = given.oof_CP[given.chosen(mine.recipe.choice)]
    fitted = mine.fit(oof_MP, given.labels_P)
    np.testing.assert_allclose(resampled.probability_SP[0], fitted.probability(oof_MP), atol=1e-9)
    assert resampled.threshold_S[0] == pytest.approx(fitted.threshold, abs=1e-9)


def test_the_share_that_is_asked_for_is_referred() -> None:
    given = candidates(patients=200)
    mine = procedure("top", refer=0.1)
    oof_MP = given.oof_CP[given.chosen(mine.recipe.choice)]
    fitted = mine.fit(oof_MP, given.labels_P)
    probability_P = fitted.probability(oof_MP)
    refers_P = fitted.refers(probability_P)
    assert refers_P.sum() == 20
    assert margins(probability_P[refers_P], 0.5).max() < margins(probability_P[~refers_P], 0.5).min()
    assert not procedure("top", refer=0.0).fit(oof_MP, given.labels_P).refers(probability_P).any()


@pytest.mark.parametrize(("word", "least"), [("temperature", 50), ("platt", 50), ("isotonic", 150)])
def test_a_calibration_needs_patients(word: str, least: int) -> None:
    labels_P = np.arange(least) % 2
    procedure("top", word).check(labels_P)
    with pytest.raises(InputError, match=f"--calibration {word}: needs {least} labelled patients or more; this run"):
        procedure("top", word).check(labels_P[1:])


def test_calibrations_that_are_not_there_are_refused() -> None:
    with pytest.raises(InputError, match="--calibration has no 'beta'; there are none, isotonic, platt, temperature"):
        parse_calibration("beta")
