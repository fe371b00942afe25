"""A small fully connected network on age and log count."""

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field
from sklearn.neural_network import MLPClassifier

from lymphtune.registry import clinical_models


@dataclass(frozen=True, kw_only=True)
class Config:
    hidden: Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(min_length=1)] = field(
        default_factory=lambda: [32]
    )
    alpha: Annotated[float, Field(ge=0)] = 0.1  # ridge penalty


@clinical_models.register("mlp", Config)
def mlp(config: Config, seed: int) -> MLPClassifier:
    return MLPClassifier(config.hidden, alpha=config.alpha, solver="lbfgs", max_iter=2000, random_state=seed)
