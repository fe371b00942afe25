"""A clinical model as a member: one fold's scikit-learn classifier on the clinical attributes."""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from lymphtune import registry
from lymphtune.config import Configuration
from lymphtune.files import atomic_file

SUFFIX = ".skops"


class ClinicalMember:
    """A fitted pipeline: attributes standardised by its training patients, a missing one their mean; then the model."""

    def __init__(self, configuration: Configuration, attributes_PA: np.ndarray, labels_P: np.ndarray, seed: int):
        assert configuration.clinical is not None
        member = registry.clinical_models[configuration.clinical.word]
        model = member.build(configuration.clinical.options, seed)
        with np.errstate(invalid="ignore"):  # an attribute of which none of them has a value
            scale = StandardScaler().fit(attributes_PA)
        self.pipeline = Pipeline([("scale", scale), ("model", model)])
        model.fit(_standard(self.pipeline, attributes_PA), labels_P, compute_sample_weight("balanced", labels_P))

    def predict(self, attributes_PA: np.ndarray) -> np.ndarray:
        """Return the probability of tumoral [P]."""
        return probability(self.pipeline, attributes_PA)

    @staticmethod
    def save(pipeline: Any, path: Path) -> None:
        """Write the pipeline without pickle."""
        import skops.io  # seconds; networks have no need of it

        with atomic_file(path.with_suffix(SUFFIX)) as scratch:
            skops.io.dump(pipeline, scratch)


def probability(pipeline: Pipeline, attributes_PA: np.ndarray) -> np.ndarray:
    """Return the probability of tumoral [P] that a pipeline of a member gives; NaN among the attributes is missing."""
    return pipeline[-1].predict_proba(_standard(pipeline, attributes_PA))[:, 1]


def _standard(pipeline: Pipeline, attributes_PA: np.ndarray) -> np.ndarray:
    """Return the attributes as the model sees them: standardised, 0 where a value is missing."""
    standard_PA = pipeline[0].transform(attributes_PA)
    return np.where(np.isnan(standard_PA), 0.0, standard_PA)
