"""Prediction sets: their coverage in simulation, fold by fold, and what they are called.

Shapes: P patients with known labels, K folds, Q new patients.
"""

import numpy as np
import pytest

from lymphtune.statistics.conformal import CrossConformal, set_names


def drawn(patients: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return what patients look like, and labels; seven in ten tumoral."""
    labels = (rng.random(patients) < 0.7).astype(int)
    return labels * 1.2 + rng.normal(0, 1, patients), labels


def by_fold(looks: np.ndarray, shift_K: np.ndarray) -> np.ndarray:
    """Return what each fold's models say [K, Q]: folds differ a little."""
    return 1 / (1 + np.exp(-(looks - 0.6 + shift_K[:, None])))


@pytest.mark.parametrize("error_rate", [0.05, 0.1, 0.2])
def test_sets_miss_about_as_often_as_allowed_in_each_class(error_rate: float) -> None:
    missed: dict[int, list[float]] = {0: [], 1: []}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        looks_P, labels_P = drawn(100, rng)
        fold_P, shift_K = np.arange(100) % 5, rng.normal(0, 0.3, 5)
        oof_P = by_fold(looks_P, shift_K)[fold_P, np.arange(100)]
        looks_Q, labels_Q = drawn(100, rng)
        sets_2Q = CrossConformal(oof_P, labels_P, fold_P).sets(by_fold(looks_Q, shift_K), error_rate)
        for label in (0, 1):
            missed[label].append(1 - sets_2Q[label, labels_Q == label].mean())
    for shares in missed.values():
        assert error_rate - 0.05 < np.mean(shares) < error_rate + 0.01


def test_p_values_are_counted() -> None:
    known = CrossConformal(np.array([0.2, 0.4, 0.6, 0.9]), np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    p_2Q = known.p_values(np.array([[0.4, 0.95], [0.4, 0.95]]))
    np.testing.assert_allclose(p_2Q, [[2 / 3, 1 / 3], [1 / 3, 1.0]])


def test_each_fold_is_compared_with_its_own_models() -> None:
    known = CrossConformal(np.array([0.2, 0.4, 0.6, 0.9]), np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    unlike = known.p_values(np.array([[0.1], [0.95]]))
    np.testing.assert_allclose(unlike[:, 0], [(1 + 1 + 0) / 3, (1 + 0 + 1) / 3])


def test_sets_have_names() -> None:
    sets_2Q = np.array([[False, True, False, True], [False, False, True, True]])
    assert set_names(sets_2Q) == ["neither", "reactive", "tumoral", "both"]
