"""The honest score: what a whole procedure, its choosing included, is worth on patients that chose nothing.

Shapes: P patients, S resamples.
"""

from collections.abc import Callable

import numpy as np

from lymphtune.statistics.bootstrap import RESAMPLES, resample
from lymphtune.statistics.metrics import balanced_accuracy

Procedure = Callable[[np.ndarray], np.ndarray]


def left_out_scores(
    labels_P: np.ndarray,
    procedures: dict[str, Procedure],
    metric: Callable[..., np.ndarray] = balanced_accuracy,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Return each procedure's metric [S] on the patients left out of each resample, the same for all of them.

    A procedure takes counts_P (how often each patient was drawn), chooses and fits on the drawn patients alone,
    and returns one probability a patient [P]. Raises ValueError where patients are too few to leave any out.
    Source: Tsamardinos, Greasidou and Borboudakis 2018, algorithm 3 (BBC-CV; arXiv:1708.07180).
    """
    scores: dict[str, list[float]] = {name: [] for name in procedures}
    for counts_P in resample(labels_P, RESAMPLES, seed):
        left_out = counts_P == 0
        if len(np.unique(labels_P[left_out])) < 2:
            continue
        for name, procedure in procedures.items():
            scores[name].append(float(metric(procedure(counts_P)[left_out], labels_P[left_out])))
    if not next(iter(scores.values())):
        raise ValueError("no resample leaves out patients of both classes; more patients are needed")
    return {name: np.array(values) for name, values in scores.items()}
