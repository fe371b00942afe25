"""Decision curve analysis: the net benefit of calling patients tumoral at each threshold probability.

Shapes: P patients, T threshold probabilities, ... any leading axes (resamples).
"""

import numpy as np
from scipy.special import expit, logit

from lymphtune.statistics.metrics import SMALLEST


def net_benefit(
    called_PT: np.ndarray, labels_P: np.ndarray, thresholds_T: np.ndarray, weights_P: np.ndarray | None = None
) -> np.ndarray:
    """Return the net benefit [..., T] per patient: true positives minus false ones times the odds of the threshold.

    called_PT: fraction of calls in which each patient is tumoral at each threshold. weights_P: how often each patient
    counts [..., P]. The prevalence is that of these patients. Source: Vickers and Elkin 2006, the formula of "Theory".
    """
    weights_P = np.ones(len(labels_P)) if weights_P is None else np.asarray(weights_P, dtype=float)
    n = weights_P.sum(axis=-1, keepdims=True)
    true_T, false_T = ((weights_P * (labels_P == label)) @ called_PT / n for label in (1, 0))
    return true_T - false_T * thresholds_T / (1 - thresholds_T)


def treat_all(labels_P: np.ndarray, thresholds_T: np.ndarray) -> np.ndarray:
    """Return the net benefit [T] of calling every patient tumoral; that of calling none is 0."""
    return net_benefit(np.ones((len(labels_P), len(thresholds_T))), labels_P, thresholds_T)


def at_prevalence(probabilities: np.ndarray, prevalence: float) -> np.ndarray:
    """Return probabilities for a given prevalence of tumoral, from probabilities that assume equally frequent classes.

    Source: Saerens, Latinne and Decaestecker 2002, eq. 2.4.
    """
    return expit(logit(np.clip(probabilities, SMALLEST, 1 - SMALLEST)) + logit(prevalence))
