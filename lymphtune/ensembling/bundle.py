"""The saved ensemble: a folder that predicts alone, without its run and without pickle.

Shapes: P patients of a cohort, M member trials, F fold models of a trial.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lymphtune import console
from lymphtune.cohort import Cohort
from lymphtune.config import configuration, parse_part
from lymphtune.ensembling.recipe import Recipe
from lymphtune.errors import InputError
from lymphtune.files import read_yaml, sha256
from lymphtune.registry import combiners

FORMAT = 1


@dataclass(frozen=True)
class Prediction:
    """probability_P: of being tumoral; spread_P: sd between all fold models; members_MP: each trial's mean;
    gate_P: share of the pictures' expert, mean over the fold models that have a gate, NaN where none has."""

    probability_P: np.ndarray
    spread_P: np.ndarray
    members_MP: np.ndarray
    gate_P: np.ndarray


class Ensemble:
    """Member trials with all their fold models, the fitted combiner and the threshold."""

    def __init__(self, path: Path, description: dict[str, Any], summary: str = "") -> None:
        self.path, self.description, self.summary = path, description, summary
        self.members: list[dict[str, Any]] = description["members"]
        self.threshold = float(description["threshold"])
        part = parse_part(combiners, description["recipe"]["combiner"], f"{path / 'ensemble.yaml'}: recipe.combiner")
        recipe = Recipe(description["recipe"]["name"], "", part, "all", len(self.members))
        # what a combiner has learnt follows from the out-of-fold table that is kept beside the weights
        self.combiner = recipe.build().fit(*_oof(path, [member["trial"] for member in self.members]))

    @classmethod
    def load(cls, path: str | Path, summary: str = "") -> "Ensemble":
        """Return a saved ensemble; raises InputError where the folder is not one, or was altered."""
        path = Path(path)
        if not (path / "ensemble.yaml").is_file():
            raise InputError(f"{path}: no ensemble.yaml in it; expected a folder that `lymphtune ensemble` wrote")
        given = read_yaml(path / "ensemble.yaml")
        if not isinstance(given, dict) or given.get("format") != FORMAT:
            found = given.get("format") if isinstance(given, dict) else None
            raise InputError(f"{path / 'ensemble.yaml'}: format {found!r}; this version reads format {FORMAT}")
        for name, expected in given["files"].items():
            if not (path / name).is_file() or sha256(path / name) != expected:
                raise InputError(f"{path / name}: missing or not the file that was saved; copy the folder again")
        return cls(path, given, summary)

    def predict_proba(self, cohort: Cohort) -> np.ndarray:
        """Return the probability of tumoral [P] of every patient of a cohort, as all fold models see it.

        For patients the ensemble was trained on this is no out-of-fold number: never score it.
        """
        return self.predict(cohort, np.arange(len(cohort.patients))).probability_P

    def predict(self, cohort: Cohort, rows: np.ndarray) -> Prediction:
        """Return the prediction for the patients in `rows` of the cohort."""
        if len(rows) == 0:
            return Prediction(np.zeros(0), np.zeros(0), np.zeros((len(self.members), 0)), np.zeros(0))
        fold_models = []
        files = sum(len(member["weights"]) for member in self.members)
        with console.bar("predicting", files) as bar:
            for member in self.members:
                fold_models.append(self._fold_models(member, cohort, rows, bar))
        members_MP = np.array([said_F2P[:, 0].mean(axis=0) for said_F2P in fold_models])
        all_F2P = np.concatenate(fold_models)
        gated_FP = all_F2P[~np.isnan(all_F2P[:, 1, 0]), 1]
        gate_P = gated_FP.mean(axis=0) if len(gated_FP) else np.full(len(rows), np.nan)
        return Prediction(self.combiner.predict_proba(members_MP), all_F2P[:, 0].std(axis=0), members_MP, gate_P)

    def _fold_models(self, member: dict[str, Any], cohort: Cohort, rows: np.ndarray, bar: console.Bar) -> np.ndarray:
        """Return probability and gate [F, 2, P] of every fold model."""
        from lymphtune.training.loading import judge_with

        chosen = configuration(member["configuration"], str(self.path / "ensemble.yaml"))
        said = []
        for name in member["weights"]:
            said.append(judge_with(self.path / name, chosen, cohort, rows))
            bar.advance()
        return np.array(said)

    def seen(self, cohort: Cohort) -> tuple[list[str], list[str]]:
        """Return the patients of whom any picture was trained on, and those who share no more than an id."""
        known = set((self.path / "trained_on.txt").read_text(encoding="utf-8").split())
        by_picture, by_id = [], []
        for patient, low, high in zip(cohort.ids, cohort.starts, cohort.starts[1:], strict=False):
            if known & {digest[:16] for digest in cohort.picture_digests[low:high]}:
                by_picture.append(patient)
            elif hashed(patient) in known:
                by_id.append(patient)
        return by_picture, by_id


def _oof(path: Path, trials: list[str]) -> tuple[np.ndarray, np.ndarray]:
    from lymphtune.runs import read_table

    table = read_table(path / "oof.parquet")
    return table[trials].to_numpy().T, table["label"].to_numpy()


def hashed(patient: str) -> str:
    """Return 16 hexadecimal digits of an id; ids themselves are not written into the folder's list."""
    return hashlib.sha256(b"patient\x1f" + patient.encode()).hexdigest()[:16]
