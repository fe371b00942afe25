"""Stacking: members weighted by a non-negative ridge logistic regression on their logits.

Shapes: M members, P patients.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from lymphtune.registry import combiners
from lymphtune.statistics.metrics import SMALLEST, class_weights


@dataclass(frozen=True, kw_only=True)
class Config:
    ridge: float = 0.1  # strength of the penalty towards equal weights

    def __post_init__(self) -> None:
        if not 0 <= self.ridge <= 1e6:
            raise ValueError("expected a ridge from 0 to 1e6")


@combiners.register("stack", Config)
class Stack:
    """The logit is a weighted mean of the members' logits.

    Weights are non-negative and sum to 1, so a single member is returned unchanged; scale and shift are left to a
    calibration. They minimise the class-balanced log loss plus ridge x M x their squared distance from equal weights.
    Source: Breiman 1996, Stacked regressions, section 3.
    """

    learns = ("logit_weights_M_",)

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, oof_MP: np.ndarray, labels_P: np.ndarray) -> "Stack":
        logit_MP, weight_P, equal = _logits(oof_MP), class_weights(labels_P), 1 / len(oof_MP)
        sign_P = np.where(labels_P == 1, 1.0, -1.0)

        def loss(weight_M: np.ndarray) -> tuple[float, np.ndarray]:
            margin_P = sign_P * (weight_M @ logit_MP)
            slope_P = -weight_P * sign_P * expit(-margin_P)
            deviation_M = weight_M - equal
            ridge = self.config.ridge * len(deviation_M)
            value = weight_P @ np.logaddexp(0, -margin_P) + ridge * deviation_M @ deviation_M
            return float(value), logit_MP @ slope_P + 2 * ridge * deviation_M

        sums_to_one = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like}
        start_M = np.full(len(oof_MP), equal)
        found = minimize(
            loss,
            start_M,
            jac=True,
            method="SLSQP",
            bounds=[(0, 1)] * len(start_M),
            constraints=sums_to_one,
            options={"ftol": 1e-9},
        )
        weight_M = np.maximum(found.x, 0)
        self.logit_weights_M_ = weight_M / weight_M.sum()
        return self

    def predict_proba(self, probabilities_MP: np.ndarray) -> np.ndarray:
        """Return the probability of the weighted logit [P]."""
        return expit(self.logit_weights_M_ @ _logits(probabilities_MP))


def _logits(probabilities_MP: np.ndarray) -> np.ndarray:
    return logit(np.clip(probabilities_MP, SMALLEST, 1 - SMALLEST))
