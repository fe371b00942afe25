"""A clinical model as a member: one fold's scikit-learn classifier on the clinical attributes."""

from pathlib import Path

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from lymphtune import registry
from lymphtune.config import Configuration
from lymphtune.files import atomic_file

SUFFIX = ".skops"


class ClinicalMember:
    """A fitted pipeline: a scaler, by which a missing attribute becomes the training patients' mean, and the model."""

    def __init__(self, configuration: Configuration, attributes_PA: np.ndarray, labels_P: np.ndarray, seed: int):
        assert configuration.clinical is not None
        member = registry.clinical_models[configuration.clinical.word]
        model = member.build(configuration.clinical.options, seed)
        with np.errstate(invalid="ignore"):  # raised by an attribute without any value
            scale = StandardScaler().fit(attributes_PA)
        self.pipeline = Pipeline([("scale", scale), ("model", model)])
        model.fit(_standard(self.pipeline, attributes_PA), labels_P, compute_sample_weight("balanced", labels_P))

    def predict(self, attributes_PA: np.ndarray) -> np.ndarray:
        """Return the probability of tumoral [P]."""
        return probability(self.pipeline, attributes_PA)

    @staticmethod
    def save(pipeline: Pipeline, path: Path) -> None:
        """Write the pipeline without pickle."""
        import skops.io  # takes seconds; networks do not need it

        with atomic_file(path.with_suffix(SUFFIX)) as scratch:
            skops.io.dump(pipeline, scratch)


def probability(pipeline: Pipeline, attributes_PA: np.ndarray) -> np.ndarray:
    """Return the probability of tumoral [P] by a member's pipeline; NaN among the attributes is a missing value."""
    return pipeline[-1].predict_proba(_standard(pipeline, attributes_PA))[:, 1]


def _standard(pipeline: Pipeline, attributes_PA: np.ndarray) -> np.ndarray:
    """Return the model's input: standardised attributes, 0 where a value is missing."""
    standard_PA = pipeline[0].transform(attributes_PA)
    return np.where(np.isnan(standard_PA), 0.0, standard_PA)
