"""Racing: a trial is stopped that is very probably worse than the best one before it, patient by patient."""

import numpy as np
from scipy.stats import t as student

from lymphtune.searching.stopping import Options, Rule, RungScores
from lymphtune.statistics.metrics import class_weights

LEVEL = 0.01  # of the one-sided test, at each rung
FEWEST = 10  # patients of each class: losses are skewed, and the mean of fewer says little


class Racing(Rule):
    """A paired test over the patients between a trial and the best earlier one at the same epoch.

    Stopped is who is worse by Student's t at the level .01 *and* whose mean loss is above that of the best one's worst
    fold, so that nobody falls for a hair that many patients happen to agree on. The test is not corrected for
    the number of rungs and trials, nor for the best having been chosen as such. It says who is worse *now*: where the
    curves of slow and quick learners cross, that is no sign of who is worse at the end.

    Sources: races, Maron and Moore 1994 (Hoeffding) and Birattari et al. 2002 (F-race); the comparison with the worst
    fold, Bergman, Purucker and Hutter 2024 (arXiv:2405.03389), there between folds and here between epochs.
    """

    goes_on = 0.6  # fits benchmarks/stopping.py

    def __init__(self, options: Options) -> None:
        self.grace = options.grace
        self._best: dict[int, RungScores] = {}

    def epochs(self, last: int) -> list[int]:
        """Return every multiple of grace."""
        return list(range(self.grace, last, self.grace))

    def should_stop(self, epoch: int, standing: RungScores) -> str:
        best = self._best.get(epoch)
        if best is None or standing.score < best.score:
            self._best[epoch] = standing
            return ""
        if standing.score <= worst_fold(best):
            return ""
        p = p_worse(standing.losses_P - best.losses_P, standing.labels_P)
        if p >= LEVEL:
            return ""
        p_text = "< .001" if p < 0.001 else f"= {p:.3f}".replace("0.", ".")
        return f"worse than trial {best.trial} on the same patients (p {p_text})"


def p_worse(differences_P: np.ndarray, labels_P: np.ndarray) -> float:
    """Return the chance of so large a class-balanced mean difference if there were none; 1 for too few patients.

    Degrees of freedom are those of the smaller class.
    """
    classes = [differences_P[labels_P == label] for label in (0, 1)]
    fewest = min(map(len, classes))
    if fewest < FEWEST:
        return 1.0
    mean = sum(float(of.mean()) for of in classes) / 2
    error = sum(float(of.var(ddof=1)) / len(of) for of in classes) ** 0.5 / 2
    return float(student.sf(mean / max(error, 1e-12), fewest - 1))


def worst_fold(standing: RungScores) -> float:
    """Return the highest class-balanced mean loss of the trial's folds."""
    weights_P = class_weights(standing.labels_P)
    folds = [standing.folds_P == fold for fold in np.unique(standing.folds_P)]
    return max(float((weights_P * standing.losses_P)[of].sum() / weights_P[of].sum()) for of in folds)
