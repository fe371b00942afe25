"""The set of trials that cannot be told from the best: it holds the truly best, and leaves the hopeless out.

Shapes: S resamples, M trials, P patients.
"""

import numpy as np

from lymphtune.statistics.best import tied_with_best
from lymphtune.statistics.bootstrap import resample

LABELS_P = np.arange(80) % 2


def found(loss_MP: np.ndarray, seed: int = 0) -> np.ndarray:
    weights_SP = resample(LABELS_P, 500, seed) / len(LABELS_P)
    return tied_with_best(weights_SP @ loss_MP.T, loss_MP.mean(axis=1))


def test_the_truly_best_is_in_it_nineteen_times_in_twenty() -> None:
    holds, sizes = [], []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        loss_MP = np.linspace(0.5, 0.7, 20)[:, None] + rng.normal(0, 0.3, 80) + rng.normal(0, 0.2, (20, 80))
        tied_M = found(loss_MP, seed)
        holds.append(tied_M[0])
        sizes.append(tied_M.mean())
    assert np.mean(holds) >= 0.93
    assert np.mean(sizes) < 0.8


def test_a_hopeless_trial_is_out_and_the_best_is_in() -> None:
    rng = np.random.default_rng(0)
    loss_MP = np.array([0.4, 0.41, 2.0])[:, None] + rng.normal(0, 0.1, (3, 80))
    assert found(loss_MP).tolist() == [True, True, False]


def test_twins_are_tied_and_one_alone_is_the_best() -> None:
    loss_P = np.random.default_rng(0).normal(0.5, 0.1, 80)
    assert found(np.array([loss_P, loss_P])).all() and found(loss_P[None]).all()
