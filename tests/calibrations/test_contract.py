"""What every calibration promises: order kept, sound probabilities, nothing learnt but arrays, a better fit.

Shapes: P patients.
"""

from typing import Any

import numpy as np
import pytest

from lymphtune.config import parse_part
from lymphtune.registry import calibrations
from lymphtune.statistics.metrics import balanced_log_loss

WORDS = calibrations.words()


def built(word: str) -> Any:
    return calibrations[word].build(parse_part(calibrations, word, word).options)


def overconfident(patients: int = 400, seed: int = 0, factor: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities [P] whose logits are `factor` times too large, and labels [P]."""
    rng = np.random.default_rng(seed)
    logit_P = rng.normal(0, 1.2, patients)
    labels_P = (rng.random(patients) < 1 / (1 + np.exp(-logit_P))).astype(int)
    return 1 / (1 + np.exp(-factor * logit_P)), labels_P


@pytest.mark.parametrize("word", WORDS)
def test_it_keeps_the_order_and_stays_a_probability(word: str) -> None:
    probability_P, labels_P = overconfident()
    fitted = built(word).fit(probability_P, labels_P)
    grid = np.linspace(0, 1, 101)
    meant = fitted.apply(grid)
    assert meant.shape == grid.shape and (np.diff(meant) >= -1e-12).all() and meant.min() >= 0 and meant.max() <= 1


@pytest.mark.parametrize("word", WORDS)
def test_overconfidence_is_mended_on_other_patients(word: str) -> None:
    fitted = built(word).fit(*overconfident())
    probability_P, labels_P = overconfident(2000, seed=1)
    assert balanced_log_loss(fitted.apply(probability_P), labels_P) < balanced_log_loss(probability_P, labels_P) - 0.1


@pytest.mark.parametrize("word", WORDS)
def test_an_anti_predictor_is_not_turned_round(word: str) -> None:
    probability_P, labels_P = overconfident()
    fitted = built(word).fit(1 - probability_P, labels_P)
    assert (np.diff(fitted.apply(np.linspace(0, 1, 11))) >= -1e-12).all()
    if word != "temperature":  # which cannot flatten more than its range
        assert balanced_log_loss(fitted.apply(1 - probability_P), labels_P) <= np.log(2) + 1e-6


@pytest.mark.parametrize("word", WORDS)
def test_all_that_is_learnt_is_arrays_that_end_in_an_underscore(word: str) -> None:
    probability_P, labels_P = overconfident()
    fitted, bare = built(word).fit(probability_P, labels_P), built(word)
    learnt = {name: value for name, value in vars(fitted).items() if name.endswith("_")}
    assert learnt and all(isinstance(value, np.ndarray) for value in learnt.values())
    vars(bare).update(learnt)
    np.testing.assert_array_equal(bare.apply(probability_P), fitted.apply(probability_P))


@pytest.mark.parametrize("word", WORDS)
def test_the_classes_weigh_the_same_whatever_their_numbers(word: str) -> None:
    """Reactive patients counted five times over change nothing: half stays the point where both are as likely."""
    probability_P, labels_P = overconfident()
    often_P = np.where(labels_P == 0, 5, 1)
    once, often = (
        built(word).fit(probability_P, labels_P),
        built(word).fit(probability_P.repeat(often_P), labels_P.repeat(often_P)),
    )
    grid = np.linspace(0.05, 0.95, 19)
    np.testing.assert_allclose(once.apply(grid), often.apply(grid), atol=0.02)


def test_temperature_leaves_one_half_alone() -> None:
    fitted = built("temperature").fit(*overconfident())
    assert fitted.apply(np.array([0.5]))[0] == pytest.approx(0.5)
    assert fitted.temperature_[0] == pytest.approx(3, rel=0.25)


@pytest.mark.parametrize("word", WORDS)
def test_perfect_probabilities_are_survived(word: str) -> None:
    labels_P = np.arange(60) % 2
    meant = built(word).fit(labels_P.astype(float), labels_P).apply(np.array([0.0, 0.5, 1.0]))
    assert np.isfinite(meant).all() and meant[0] < 0.1 and meant[2] > 0.9
