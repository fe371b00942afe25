"""A clinical model as a member: one fold's scikit-learn classifier on age and log lymphocyte count."""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from lymphtune import registry
from lymphtune.config import Configuration
from lymphtune.files import whole

SUFFIX = ".skops"


class ClinicalMember:
    """A fitted pipeline: attributes standardised by its training patients, then the model."""

    def __init__(self, configuration: Configuration, attributes_PA: np.ndarray, labels_P: np.ndarray, seed: int):
        assert configuration.clinical is not None
        member = registry.clinical_models[configuration.clinical.word]
        model = member.build(configuration.clinical.options, seed)
        self.pipeline = Pipeline([("scale", StandardScaler()), ("model", model)])
        self.pipeline.fit(attributes_PA, labels_P, model__sample_weight=compute_sample_weight("balanced", labels_P))

    def predict(self, attributes_PA: np.ndarray) -> np.ndarray:
        """Return the probability of tumoral [P]."""
        return self.pipeline.predict_proba(attributes_PA)[:, 1]

    @staticmethod
    def save(pipeline: Any, path: Path) -> None:
        """Write the pipeline without pickle."""
        import skops.io  # seconds; networks have no need of it

        with whole(path.with_suffix(SUFFIX)) as scratch:
            skops.io.dump(pipeline, scratch)
