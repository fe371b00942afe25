"""Net benefit: what is known of it at hand, and probabilities moved to another prevalence.

Shapes: P patients, T thresholds.
"""

import numpy as np
import pytest

from lymphtune.statistics.decision import at_prevalence, net_benefit, treat_all

LABELS_P = np.array([1, 1, 1, 0, 0])
THRESHOLDS_T = np.array([0.1, 0.5, 0.6, 0.8])


def test_net_benefit_is_the_published_formula() -> None:
    called_P = np.array([1, 1, 0, 1, 0])
    found_T = net_benefit(np.tile(called_P[:, None], 4), LABELS_P, THRESHOLDS_T)
    np.testing.assert_allclose(found_T, [2 / 5 - 1 / 5 * t / (1 - t) for t in THRESHOLDS_T])


def test_nobody_is_worth_nothing_everybody_as_much_as_there_are_and_perfection_the_prevalence() -> None:
    np.testing.assert_array_equal(net_benefit(np.zeros((5, 4)), LABELS_P, THRESHOLDS_T), np.zeros(4))
    assert treat_all(LABELS_P, np.array([1e-9, 0.6])) == pytest.approx([0.6, 0.0])
    np.testing.assert_allclose(net_benefit(np.tile(LABELS_P[:, None], 4), LABELS_P, THRESHOLDS_T), 0.6)


def test_weights_count_patients_as_often() -> None:
    called_PT, counts_SP = np.random.default_rng(0).random((5, 4)), np.array([[2, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    twice = np.repeat(np.arange(5), counts_SP[0])
    expected = [net_benefit(called_PT[rows], LABELS_P[rows], THRESHOLDS_T) for rows in (twice, np.arange(5))]
    np.testing.assert_allclose(net_benefit(called_PT, LABELS_P, THRESHOLDS_T, counts_SP), expected)


def test_a_prevalence_moves_the_odds_by_its_own() -> None:
    probability_P = np.array([0.0, 0.2, 0.5, 0.9, 1.0])
    moved_P = at_prevalence(probability_P, 0.75)
    np.testing.assert_allclose(moved_P[1:4], [0.75 / 1.75, 0.75, 27 / 28])
    assert (np.diff(moved_P) > 0).all() and 0 < moved_P[0] < 1e-5 and 1 - 1e-5 < moved_P[-1] < 1
    np.testing.assert_allclose(at_prevalence(probability_P, 0.5), probability_P, atol=2e-6)
