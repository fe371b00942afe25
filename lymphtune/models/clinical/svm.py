"""Support vector machine with a Gaussian kernel, with probabilities by Platt's method."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC

from lymphtune.registry import clinical_models


@dataclass(frozen=True, kw_only=True)
class Config:
    C: Annotated[float, Field(gt=0)] = 1.0
    gamma: Annotated[float, Field(gt=0)] = 0.5  # of the kernel exp(-gamma |x - y|^2), attributes standardised


@clinical_models.register("svm", Config)
def svm(config: Config, seed: int) -> CalibratedClassifierCV:
    parts = StratifiedKFold(3, shuffle=True, random_state=seed)
    return CalibratedClassifierCV(SVC(C=config.C, gamma=config.gamma), ensemble=False, cv=parts)
