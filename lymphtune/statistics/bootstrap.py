"""Bootstrap over patients: intervals of a fixed model, and the honest score of choosing among many.

Shapes: P patients, M models (trials), S resamples.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lymphtune.statistics.metrics import balanced_accuracy

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A value with the interval that holds the truth in 95 of 100 such samples of patients."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f})"


def resample(labels_P: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return counts [S, P]: how often each patient is drawn; the two classes keep their sizes."""
    rng = np.random.default_rng(seed)
    counts_SP = np.zeros((resamples, len(labels_P)), dtype=np.int64)
    for label in (0, 1):
        of = np.flatnonzero(labels_P == label)
        counts_SP[:, of] = rng.multinomial(len(of), np.full(len(of), 1 / len(of)), size=resamples)
    return counts_SP


def interval(
    metric: Callable[..., np.ndarray], probabilities_P: np.ndarray, labels_P: np.ndarray, seed: int = 0
) -> Interval:
    """Return the metric of one fixed model with its percentile interval over resampled patients.

    Source: Efron and Tibshirani 1993, section 13.3.
    """
    drawn = metric(probabilities_P, labels_P, resample(labels_P, RESAMPLES, seed))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(metric(probabilities_P, labels_P)), float(low), float(high))


def honest_score(
    oof_MP: np.ndarray,
    labels_P: np.ndarray,
    procedure: Callable[[np.ndarray, np.ndarray], np.ndarray],
    metric: Callable[..., np.ndarray] = balanced_accuracy,
    seed: int = 0,
) -> Interval:
    """Return the score of a whole procedure, what it chooses included, on patients that chose nothing.

    In every resample `procedure(oof_MP, counts_P)` chooses on the drawn patients alone and returns one
    probability a patient [P]; the metric is taken over the patients not drawn.
    Source: Tsamardinos, Greasidou and Borboudakis 2018, algorithm 3 (BBC-CV).
    """
    scores = []
    for counts_P in resample(labels_P, RESAMPLES, seed):
        left_out = counts_P == 0
        if len(np.unique(labels_P[left_out])) == 2:
            said_P = procedure(oof_MP, counts_P)
            scores.append(float(metric(said_P[left_out], labels_P[left_out])))
    if not scores:
        raise ValueError("no resample leaves out patients of both classes; more patients are needed")
    low, high = np.quantile(scores, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(np.mean(scores)), float(low), float(high))
