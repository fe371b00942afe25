"""Predictions of onnxruntime for a deployed ensemble, given as a file or its bytes.

Shapes: P patients, M member trials.
"""

from pathlib import Path

import numpy as np
import onnxruntime

from lymphtune.cohort import Cohort


def asked(model: Path | bytes, cohort: Cohort) -> tuple[np.ndarray, np.ndarray]:
    """Return probability [P] and members [M, P] of all patients of a cohort."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    outputs = []
    for row, patient in enumerate(cohort.patients.itertuples()):
        given = {
            "cells": cohort.bag(row),
            "age_years": np.array([patient.age_years], dtype=np.float32),
            "lymphocytes_g_per_l": np.array([patient.lymphocytes_g_per_l], dtype=np.float32),
        }
        outputs.append(session.run(["probability", "members"], given))
    return np.concatenate([one for one, _ in outputs]), np.stack([members_M for _, members_M in outputs], axis=1)
