"""ROC curves: their area is the metric's, a perfect model has a perfect one, bands hold their curves.

Shapes: P patients.
"""

import numpy as np
import pytest

from lymphtune.statistics.metrics import auc
from lymphtune.statistics.roc import GRID_G, Roc, calls, roc

LABELS_P = np.arange(90) % 3 % 2


def said(skill: float, seed: int = 0, steps: int | None = None) -> np.ndarray:
    """Return probabilities of some skill; steps: rounded, so that many are alike."""
    noise_P = np.random.default_rng(seed).normal(size=len(LABELS_P))
    probability_P = 1 / (1 + np.exp(-skill * (2 * LABELS_P - 1) - noise_P))
    return probability_P if steps is None else np.round(probability_P * steps) / steps


def curve(probabilities_P: np.ndarray, resamples: int = 400) -> Roc:
    return roc(calls(probabilities_P), LABELS_P, resamples)


@pytest.mark.parametrize("steps", [None, 4])
@pytest.mark.parametrize("skill", [0.0, 0.7, 1.2])
def test_the_area_is_that_of_the_metric_and_the_band_holds_the_curve(skill: float, steps: int | None) -> None:
    found = curve(said(skill, steps=steps))
    assert found.auc == pytest.approx(float(auc(said(skill, steps=steps), LABELS_P)))
    for rates_T in (found.false_positive_T, found.true_positive_T):
        assert (rates_T[0], rates_T[-1]) == (0, 1) and (np.diff(rates_T) >= 0).all()
    there_G = np.interp(GRID_G, found.false_positive_T.round(12), found.true_positive_T)
    assert ((found.low_G <= there_G) & (there_G <= found.high_G)).all()
    assert (found.high_G - found.low_G)[5:40].mean() > 0.05


def test_a_perfect_model_has_the_perfect_curve() -> None:
    found = curve(LABELS_P * 0.8 + 0.1)
    assert found.auc == 1
    np.testing.assert_array_equal([found.low_G, found.high_G], np.ones((2, len(GRID_G))))


def test_more_patients_make_a_narrower_band() -> None:
    few = curve(said(1.0))
    many = roc(np.tile(calls(said(1.0)), (9, 1)), np.tile(LABELS_P, 9), 400)
    np.testing.assert_allclose(many.true_positive_T, few.true_positive_T)
    assert (few.high_G - few.low_G).mean() > 0.05
    assert (many.high_G - many.low_G).mean() == pytest.approx((few.high_G - few.low_G).mean() / 3, rel=0.2)
