"""One trial as the board keeps it, and what is written of it: its row of the leaderboard and its out-of-fold table.

Shapes: R repeats, P patients of the cohort, E epochs of a trial.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from lymphtune.searching.plan import Trial
from lymphtune.statistics.bootstrap import grouping
from lymphtune.statistics.honest import fixed_score
from lymphtune.statistics.metrics import METRICS, balanced_accuracy


@dataclass
class Record:
    """What one trial has said so far, and how it ended; once it is settled, its row says it all."""

    trial: Trial
    probabilities_ERP: list[np.ndarray] = field(default_factory=list)
    gates_ERP: list[np.ndarray] = field(default_factory=list)
    curves: list[dict[str, float]] = field(default_factory=list)
    weights: dict[int, dict[str, str]] = field(default_factory=dict)  # of an epoch: SHA-256 by file
    status: str = "waiting"  # then running, ended, and settled as done, stopped or failed
    reason: str = ""
    retries: int = 0
    started: bool = False  # handed to a worker by this search
    latest: dict[str, float] = field(default_factory=dict)  # the last epoch heard of, as it stands in `curves`
    row: dict[str, Any] = field(default_factory=dict)  # of the leaderboard, once its fate is settled

    @property
    def log_losses(self) -> list[float]:
        return [curve["log_loss"] for curve in self.curves]

    @property
    def epochs(self) -> int:
        """Return how many epochs it has trained."""
        return self.row["epochs"] if self.row else len(self.curves)

    @property
    def is_over(self) -> bool:
        """Return whether it trains no more in this search, its fate settled or not."""
        return bool(self.row) or self.status == "ended"

    @property
    def epoch_s(self) -> float:
        """Return the mean seconds of its epochs; 0 before the first has ended."""
        seconds = self.row["seconds"] if self.row else sum(curve["seconds"] for curve in self.curves)
        return float(seconds) / max(self.epochs, 1)

    def cut(self, epochs: int) -> None:
        """Forget what came after so many epochs."""
        for values in (self.curves, self.probabilities_ERP, self.gates_ERP):
            del values[epochs:]


def row_of(record: Record, labels_P: np.ndarray, groups_P: np.ndarray) -> dict[str, Any]:
    """Return the trial's row of the leaderboard."""
    trial, curves = record.trial, record.curves
    epoch = len(curves)
    if curves and trial.configuration.picks_epoch:
        epoch = int(np.argmin(record.log_losses)) + 1
    row: dict[str, Any] = {
        "trial": trial.hash,
        "kind": trial.configuration.kind,
        "status": record.status,
        "reason": record.reason,
        "epochs": len(curves),
        "title": trial.configuration.title,
        "number": trial.number,
        "baseline": trial.baseline,
        "epoch": epoch,
        "best_epoch_picked": trial.configuration.picks_epoch,
        "sees": trial.configuration.sees,
        "architecture": trial.configuration.architecture,
    }
    blank = dict.fromkeys([*METRICS, "balanced_accuracy_low", "balanced_accuracy_high", "repeats_sd"], float("nan"))
    row |= blank | {"seconds": float(sum(curve["seconds"] for curve in curves))}
    if curves:
        probability_P, scored_P = pooled(record.probabilities_ERP[epoch - 1], labels_P)
        group_P = grouping(groups_P[~np.isnan(record.probabilities_ERP[epoch - 1]).all(axis=0)])
        bounds = fixed_score(probability_P, scored_P, "balanced_accuracy", group_P=group_P)
        row |= {name: float(curves[epoch - 1][name]) for name in METRICS}
        row |= {"balanced_accuracy_low": float(bounds.low), "balanced_accuracy_high": float(bounds.high)}
        row["repeats_sd"] = _repeats_sd(record.probabilities_ERP[epoch - 1], labels_P)
    return row


def oof_of(record: Record, folds_RP: np.ndarray, patients: list[str], labels_P: np.ndarray) -> pd.DataFrame:
    """Return the trial's out-of-fold probabilities, one row an epoch, repeat and patient held out."""
    held_R, held_P = np.nonzero(folds_RP >= 0)
    tables = []
    for epoch, probabilities_RP in enumerate(record.probabilities_ERP, start=1):
        tables.append(
            pd.DataFrame(
                {
                    "trial": record.trial.hash,
                    "repeat": held_R,
                    "fold": folds_RP[held_R, held_P],
                    "epoch": epoch,
                    "patient": np.array(patients)[held_P],
                    "label": labels_P[held_P],
                    "probability": probabilities_RP[held_R, held_P],
                    "gate": record.gates_ERP[epoch - 1][held_R, held_P],
                }
            )
        )
    columns = ["trial", "repeat", "fold", "epoch", "patient", "label", "probability", "gate"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def pooled(probabilities_RP: np.ndarray, labels_P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean probability over repeats, and label, of the patients ever held out."""
    scored_P = ~np.isnan(probabilities_RP).all(axis=0)
    return np.nanmean(probabilities_RP[:, scored_P], axis=0), labels_P[scored_P]


def _repeats_sd(probabilities_RP: np.ndarray, labels_P: np.ndarray) -> float:
    """Return the standard deviation between repeats of the balanced accuracy; NaN for one repeat."""
    if len(probabilities_RP) < 2:
        return float("nan")
    scores = [float(balanced_accuracy(*pooled(row_P[None], labels_P))) for row_P in probabilities_RP]
    return float(np.std(scores, ddof=1))
