"""Candidates without a search: probabilities drawn, a table that says what they are.

Shapes: M trials, P patients.
"""

import numpy as np
import pandas as pd

from lymphtune.ensembling.candidates import Candidates

SEES = ("images", "mixed", "clinical")


def candidates(
    trials: int = 12, patients: int = 80, skill: float = 0.5, seed: int = 0, epochs: int = 1, alike: float = 0.5
) -> Candidates:
    """Return trials of about the skill (0: they know nothing), a third each of images, mixed and clinical."""
    rng = np.random.default_rng(seed)
    labels_P = np.arange(patients) % 3 % 2
    rows = trials * epochs
    noise_CP = alike * rng.standard_normal(patients) + (1 - alike) * rng.standard_normal((rows, patients))
    gain_C = 4 * skill * rng.uniform(0.5, 1, rows)
    oof_CP = 1 / (1 + np.exp(-(gain_C[:, None] * (labels_P - 0.5) + noise_CP)))
    sees = [SEES[number % 3] for number in range(trials)]
    table = pd.DataFrame(
        {
            "trial": [f"{number:016x}" for number in range(trials)],
            "sees": sees,
            "kind": ["clinical" if word == "clinical" else "network" for word in sees],
            "architecture": [f"{word} {number % 2}" for number, word in enumerate(sees)],
            "title": sees,
            "balanced_accuracy": 0.7,
            "auc": 0.8,
            "status": "done",
        }
    )
    return Candidates(
        table,
        [f"P{number}" for number in range(patients)],
        labels_P,
        np.arange(patients) % 5,
        oof_CP,
        np.repeat(np.arange(trials), epochs),
    )
