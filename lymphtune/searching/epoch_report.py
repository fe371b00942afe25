"""One epoch of a trial in plain values: as its worker tells it, and as its ledger keeps it.

Shapes: R repeats, P patients of the cohort.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lymphtune.runs.ledger import packed, unpacked

CURVE = ("train_loss", "train_loss_sd", "learning_rate", "seconds", "chunk_pixels")


@dataclass(frozen=True)
class Report:
    """weights: SHA-256 of each weights file kept from this epoch, {} where none was."""

    epoch: int
    probabilities_RP: np.ndarray
    gates_RP: np.ndarray
    curve: Mapping[str, Any]
    weights: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, result: Any, weights: Mapping[str, str]) -> "Report":
        """Return the report of a training's EpochResult."""
        curve = {name: getattr(result, name) for name in CURVE}
        return cls(result.epoch, result.probabilities_RP, result.gates_RP, curve, weights)

    def fact(self) -> dict[str, Any]:
        """Return it as plain values."""
        arrays = {"probabilities": packed(self.probabilities_RP), "gates": packed(self.gates_RP)}
        return {"epoch": self.epoch, "curve": dict(self.curve), "weights": dict(self.weights)} | arrays

    @classmethod
    def read(cls, fact: Mapping[str, Any]) -> "Report":
        """Return the report that `fact` gave the plain values of."""
        arrays = (unpacked(fact["probabilities"]), unpacked(fact["gates"]))
        return cls(fact["epoch"], *arrays, {name: fact["curve"][name] for name in CURVE}, fact["weights"])
