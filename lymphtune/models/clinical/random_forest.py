"""Random forest on age and log count."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from sklearn.ensemble import RandomForestClassifier

from lymphtune.registry import clinical_models


@dataclass(frozen=True, kw_only=True)
class Config:
    trees: Annotated[int, Field(ge=1, le=5000)] = 200
    min_leaf: Annotated[int, Field(ge=1)] = 5  # patients


@clinical_models.register("random_forest", Config)
def random_forest(config: Config, seed: int) -> RandomForestClassifier:
    return RandomForestClassifier(config.trees, min_samples_leaf=config.min_leaf, random_state=seed, n_jobs=1)
