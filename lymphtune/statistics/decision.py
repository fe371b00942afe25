"""Net benefit: what calling patients by a probability is worth, at each price of a false alarm.

Shapes: P patients, T threshold probabilities, ... any leading axes (resamples).
"""

import numpy as np
from scipy.special import expit, logit

from lymphtune.statistics.metrics import SMALLEST


def net_benefit(
    called_PT: np.ndarray, labels_P: np.ndarray, thresholds_T: np.ndarray, weights_P: np.ndarray | None = None
) -> np.ndarray:
    """Return the net benefit [..., T]: true positives less false ones, each at the odds of the threshold, a patient.

    called_PT: how often each patient is called tumoral at each threshold; weights_P: how often each counts [..., P].
    It uses the prevalence of these very patients. Source: Vickers and Elkin 2006, the formula of "Theory".
    """
    weights_P = np.ones(len(labels_P)) if weights_P is None else np.asarray(weights_P, dtype=float)
    n = weights_P.sum(axis=-1, keepdims=True)
    true_T, false_T = ((weights_P * (labels_P == label)) @ called_PT / n for label in (1, 0))
    return true_T - false_T * thresholds_T / (1 - thresholds_T)


def treat_all(labels_P: np.ndarray, thresholds_T: np.ndarray) -> np.ndarray:
    """Return the net benefit [T] of calling everybody tumoral; that of calling nobody is 0."""
    return net_benefit(np.ones((len(labels_P), len(thresholds_T))), labels_P, thresholds_T)


def at_prevalence(probabilities: np.ndarray, prevalence: float) -> np.ndarray:
    """Return what probabilities that hold for two classes of the same size are where one is as frequent as that.

    Source: Saerens, Latinne and Decaestecker 2002, eq. 2.4.
    """
    return expit(logit(np.clip(probabilities, SMALLEST, 1 - SMALLEST)) + logit(prevalence))
