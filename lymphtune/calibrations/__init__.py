"""Calibrations of the combined probabilities, for two classes of equal weight.

A calibration is built from its options; `least_patients` is the smallest number of patients it accepts.
`fit(probabilities_P, labels_P)` fits it to out-of-fold probabilities and returns it; `apply(probabilities_P)` returns
the calibrated probabilities [P], which keep their ranking. Fitted attributes are float64 arrays [up to P], listed in
`learns`; their names end in `_`. Shapes: P patients.
"""

from typing import Protocol

import numpy as np


class Calibration(Protocol):
    """The interface of a calibration; the module's text describes it."""

    learns: tuple[str, ...]
    least_patients: int

    def fit(self, probabilities_P: np.ndarray, labels_P: np.ndarray) -> "Calibration": ...

    def apply(self, probabilities_P: np.ndarray) -> np.ndarray: ...
