"""Combiners: functions that combine the members' probabilities into one.

A combiner is built from its options. `fit(oof_MP, labels_P)` fits it to out-of-fold probabilities and returns it;
`predict_proba(probabilities_MP)` returns [P]. The order of members has no influence, and a single member is returned
unchanged. Fitted attributes are float64 arrays, listed in `learns`; their names end in the letters of their shape and
`_`. A saved ensemble stores these arrays and nothing else. A combiner that is a weighted mean stores its weights [M],
which sum to 1, as `weights_M_`. Shapes: M member trials, P patients.
"""

from typing import Protocol

import numpy as np


class Combiner(Protocol):
    """The interface of a combiner; the module's text describes it."""

    learns: tuple[str, ...]

    def fit(self, oof_MP: np.ndarray, labels_P: np.ndarray) -> "Combiner": ...

    def predict_proba(self, probabilities_MP: np.ndarray) -> np.ndarray: ...
