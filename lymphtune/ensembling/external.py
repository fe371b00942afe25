"""External validation: scores of an ensemble on labelled patients that were not used for training or selection.

Shapes: P labelled patients, none of them seen in training.
"""

import numpy as np

from lymphtune import console
from lymphtune.cohort.cohort import REACTIVE, TUMORAL
from lymphtune.errors import InputError
from lymphtune.statistics.bootstrap import Interval
from lymphtune.statistics.honest import SCORES, fixed_score


def external_scores(probabilities_P: np.ndarray, labels_P: np.ndarray, threshold: float) -> dict[str, Interval]:
    """Return the metrics by name, with 95 % intervals; probabilities of at least `threshold` are called tumoral."""
    return {name: fixed_score(probabilities_P, labels_P, name, threshold) for name in SCORES}


def check_scorable(labels_P: np.ndarray, name: str) -> None:
    """Raise InputError, which starts with `name`, unless there are patients of both classes."""
    reactive, tumoral = (int((labels_P == label).sum()) for label in (REACTIVE, TUMORAL))
    if not (reactive and tumoral):
        raise InputError(
            f"{name}: {reactive} reactive and {tumoral} tumoral patients to score; expected some of both (LABEL 0, 1)"
        )


def external_summary(scores: dict[str, Interval], labels_P: np.ndarray, simulated: bool) -> str:
    """Return the scores as lines of at most 80 columns."""
    lines = [
        f"external validation: {len(labels_P)} labelled patients not seen in training, {int(labels_P.sum())} tumoral",
        f"  {'':18} score (95 % interval)",
    ]
    lines += [f"  {name.replace('_', ' '):18} {value}" for name, value in scores.items()]
    if simulated:
        lines.append(console.painted(console.SIMULATED, "warning"))
    return "\n".join(lines)
