"""Logistic regression, the baseline of every network."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from sklearn.linear_model import LogisticRegression

from lymphtune.registry import clinical_models


@dataclass(frozen=True, kw_only=True)
class Config:
    C: Annotated[float, Field(gt=0)] = 1.0  # inverse of the ridge penalty


@clinical_models.register("logistic", Config)
def logistic(config: Config, seed: int) -> LogisticRegression:
    return LogisticRegression(C=config.C, max_iter=1000, random_state=seed)
