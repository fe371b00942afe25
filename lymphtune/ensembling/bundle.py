"""The saved ensemble: a self-contained folder that predicts without its run and without pickle.

Shapes: P patients of a cohort, C cells of these patients, M member trials, F fold models of all members, K folds.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lymphtune import console
from lymphtune.cohort import Cohort, CohortSurvey
from lymphtune.cohort.attributes import STANDARD, Attribute, attributes_of_yaml
from lymphtune.cohort.folds import hashed
from lymphtune.config import Configuration, configuration, parse_part
from lymphtune.ensembling.attributes import TrainedAges, missing_values, uses_age
from lymphtune.ensembling.external import check_scorable, external_scores
from lymphtune.ensembling.learnt import load_learnt
from lymphtune.ensembling.procedure import Fitted, Procedure
from lymphtune.ensembling.recipe import parse_recipe
from lymphtune.ensembling.threshold import parse_threshold
from lymphtune.errors import InputError
from lymphtune.files import read_yaml, sha256
from lymphtune.registry import calibrations
from lymphtune.result import Result
from lymphtune.runs.run import TRIAL, read_table
from lymphtune.statistics.bootstrap import Interval
from lymphtune.statistics.conformal import CrossConformal, set_names
from lymphtune.versions import version

FORMAT = 2
PACKAGES = ("lymphtune", "torch", "timm", "scikit-learn", "numpy")  # packages whose versions are saved
MOST_TRAINED_ON = 2**28  # largest size of trained_on.txt in bytes
LEARNT = "learnt.safetensors"  # fitted arrays of the combiner and the calibration


@dataclass(frozen=True)
class EnsemblePrediction:
    """The predictions of an ensemble.

    probability_P: probability of tumoral. spread_P: standard deviation over all fold models. members_MP: mean of each
    trial's fold models. gate_P: gate weight of the picture expert, mean over the fold models with a gate, NaN without
    any. sets_2P: whether each label is in the patient's prediction set. refers_P: which patients are too near the
    threshold to be called.
    """

    probability_P: np.ndarray
    spread_P: np.ndarray
    members_MP: np.ndarray
    gate_P: np.ndarray
    sets_2P: np.ndarray
    refers_P: np.ndarray


class FoldPredictions(NamedTuple):
    """Predictions of the fold models, before the members are combined.

    by_fold_MKP: mean of each trial's models of each fold. The other fields are those of EnsemblePrediction.
    """

    members_MP: np.ndarray
    by_fold_MKP: np.ndarray
    spread_P: np.ndarray
    gate_P: np.ndarray


class Ensemble:
    """Member trials with all their fold models, the fitted combiner and the threshold."""

    def __init__(self, path: Path, description: dict[str, Any], result: Result | None = None) -> None:
        self.path, self.description = path, description
        self.result = result or Result("", {})
        self.members: list[dict[str, Any]] = description["members"]
        self.threshold = float(description["threshold"]["value"])
        self.error_rate = float(description["error_rate"])
        self.attributes = attributes_of_yaml(description["attributes"]) if "attributes" in description else STANDARD
        oof = read_table(path / "oof.parquet")
        _check_members(self.members, oof)
        self.fitted = _fitted(path, description, oof)
        self.procedure = _procedure(path, description)
        sound = 0 <= self.threshold <= 1.001 and 0 <= self.error_rate <= 1 and 0 <= self.fitted.margin <= 100
        if not (sound and isinstance(description["cohort"]["simulated"], bool)):
            raise ValueError("numbers")
        self.ages = TrainedAges.of(description["cohort"])
        self.reference_date = self.ages.reference_date
        _ = self._trained_on  # raises an error now if trained_on.txt is damaged, not at the first prediction
        self.known = CrossConformal(*(oof[name].to_numpy() for name in ("probability", "label", "fold")))

    @property
    def summary(self) -> str:
        """The table of scores that was printed when the ensemble was made; empty for one that was loaded."""
        return self.result.text

    @classmethod
    def load(cls, path: str | Path, result: Result | None = None) -> "Ensemble":
        """Load a saved ensemble; raises InputError if the folder is not one or was changed."""
        path = Path(path)
        if not (path / "ensemble.yaml").is_file():
            raise InputError(f"{path}: no ensemble.yaml in it; expected a folder that `lymphtune ensemble` wrote")
        try:
            given = _description(path)
            for name, expected in given["files"].items():
                if not (path / name).is_file() or sha256(path / name) != expected:
                    raise InputError(f"{path / name}: missing or not the file that was saved; copy the folder again")
            return cls(path, given, result)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            where = path / "ensemble.yaml"
            raise InputError(f"{where}: not as `lymphtune ensemble` writes it; copy the folder again") from error

    @property
    def other_versions(self) -> list[str]:
        """Return the packages with another version than at saving; predictions may differ in the last digits."""
        saved, here = self.description["versions"], {name: version(name) for name in PACKAGES}
        return [f"{name} {here[name]} (saved with {saved.get(name)})" for name in here if here[name] != saved.get(name)]

    def predict_proba(self, cohort: Cohort, allow_seen: bool = False) -> np.ndarray:
        """Return the probability of tumoral [P] for every patient of a cohort, from all fold models.

        Raises InputError if any patient was seen in training, by id or picture, unless `allow_seen`. The prediction for
        such a patient is not out-of-fold and must not be scored.
        """
        return self.predict(cohort, np.arange(len(cohort.patients)), allow_seen).probability_P

    @cached_property
    def used_attributes(self) -> tuple[Attribute, ...]:
        """Return the attributes that the members use; none if all members use pictures alone."""
        where = str(self.path / "ensemble.yaml")
        seen = [configuration(member["configuration"], where).sees for member in self.members]
        return () if set(seen) == {"images"} else self.attributes

    def missing(self, patients: pd.DataFrame) -> np.ndarray:
        """Return the names of each patient's missing attributes [P], among those that the members use."""
        return missing_values(patients, self.used_attributes)

    def check_attributes(self, cohort: Cohort | CohortSurvey) -> list[str]:
        """Return notes on categories that did not occur in training; InputError if the cohort lacks an attribute."""
        given, notes = {attribute.name: attribute for attribute in cohort.attributes}, []
        for attribute in self.attributes:
            own = given.get(attribute.name)
            if own is None or (own.levels is None) != (attribute.levels is None):
                kind = "numbers" if attribute.levels is None else "words"
                raise InputError(
                    f"{cohort.name}: no attribute {attribute.name} ({kind}), which {self.path} was trained on; "
                    "describe its column in cohort.yaml"
                )
            if new := sorted({*(own.levels or ())} - {*(attribute.levels or ())}):
                notes.append(f"{attribute.name}: {first_ids(new)} did not occur in training and counts as missing")
        return notes

    def _as_trained(self, cohort: Cohort) -> Cohort:
        """Return the cohort with the attributes and categories of training."""
        self.check_attributes(cohort)
        return cohort if cohort.attributes == self.attributes else replace(cohort, attributes=self.attributes)

    def predict(self, cohort: Cohort, rows: np.ndarray, allow_seen: bool = False) -> EnsemblePrediction:
        """Predict the patients in `rows` of the cohort.

        Raises InputError if the cohort lacks an attribute, or if any of these patients was seen in training, unless
        `allow_seen`.
        """
        if not allow_seen:
            self._refuse_seen(cohort, rows)
        cohort = self._as_trained(cohort)
        if uses_age(self.used_attributes) and (note := self.ages.difference(cohort)):
            console.say(f"{cohort.name}: {note}")
        if len(rows) == 0:
            empty, no_sets = np.zeros(0), np.zeros((2, 0), dtype=bool)
            return EnsemblePrediction(empty, empty, np.zeros((len(self.members), 0)), empty, no_sets, no_sets[0])
        from lymphtune.training.loading import predict_with

        predictions = []
        with console.bar("predicting", sum(len(member["weights"]) for member in self.members)) as bar:
            for path, chosen in self.fold_models():
                predictions.append(predict_with(path, chosen, cohort, rows))
                bar.advance()
        return self.combine([self._by_member(np.array(predictions))])

    def _refuse_seen(self, cohort: Cohort, rows: np.ndarray) -> None:
        seen_P = self.seen(cohort)[rows]
        if seen_P.any():
            some = first_ids([cohort.ids[row] for row in np.asarray(rows)[seen_P]])
            raise InputError(
                f"{cohort.name}: {int(seen_P.sum())} of these {len(seen_P)} patients were seen in training ({some}); "
                "remove them, or predict them as well with allow_seen=True"
            )

    def predict_folds(self, block: Cohort, cells: bool = False) -> tuple[FoldPredictions, np.ndarray | None]:
        """Return all fold models' predictions for a block of patients and, with `cells`, for each cell [2, C].

        The two rows of a cell are its probability (mean over the fold models that predict cells) and its weight in the
        bag (mean over the fold models that weight cells), NaN without such models. Frozen features are computed in
        memory, once for all fold models that share them, and are not written to the cache.
        """
        from lymphtune.training.loading import predict_cells_with, predict_with

        block = self._as_trained(block)
        rows, kept = np.arange(len(block.patients)), dict[str, np.ndarray]()
        if not cells:
            predictions = [predict_with(path, chosen, block, rows, kept) for path, chosen in self.fold_models()]
            return self._by_member(np.array(predictions)), None
        both = [predict_cells_with(path, chosen, block, rows, kept) for path, chosen in self.fold_models()]
        of_cells_F2C = np.array([of_cells for _, of_cells in both])
        of_cells_2C = np.stack([_mean_of_given(of_cells_F2C[:, kind]) for kind in (0, 1)])
        return self._by_member(np.array([of_patients for of_patients, _ in both])), of_cells_2C

    def combine(self, blocks: Sequence[FoldPredictions]) -> EnsemblePrediction:
        """Combine the members' predictions, for the patients of all blocks."""
        members_MP, by_fold_MKP, spread_P, gate_P = (
            np.concatenate(part, axis=-1) for part in zip(*blocks, strict=True)
        )
        probability_P = self.fitted.probability(members_MP)
        probability_KP = np.array([self.fitted.probability(of_fold_MP) for of_fold_MP in by_fold_MKP.swapaxes(0, 1)])
        sets_2P = self.known.sets(probability_KP, self.error_rate)
        return EnsemblePrediction(
            probability_P, spread_P, members_MP, gate_P, sets_2P, self.fitted.refers(probability_P)
        )

    def table(self, ids: Sequence[str], prediction: EnsemblePrediction, seen_P: np.ndarray) -> pd.DataFrame:
        """Return the table of predictions.parquet: one row per patient, with a column for each member."""
        table = pd.DataFrame(
            {
                "patient": ids,
                "probability": prediction.probability_P,
                "spread": prediction.spread_P,
                "predicted": (prediction.probability_P >= self.threshold).astype(int),
                "set": set_names(prediction.sets_2P),
                "refer": prediction.refers_P,
            }
        )
        for member, probability_P in zip(self.members, prediction.members_MP, strict=True):
            table[member["trial"]] = probability_P
        return table.assign(gate=prediction.gate_P, seen=seen_P)

    def score(self, cohort: Cohort) -> dict[str, Interval]:
        """Return an external validation: every metric on the cohort's labelled patients, with intervals.

        Raises InputError if any patient of the cohort was seen in training.
        """
        seen_P = self.seen(cohort)
        if seen_P.any():
            some = first_ids([cohort.ids[row] for row in np.flatnonzero(seen_P)])
            raise InputError(
                f"{cohort.name}: {int(seen_P.sum())} of {len(seen_P)} patients were seen in training ({some}) and "
                "cannot be scored; remove them"
            )
        labels_P = cohort.labels[cohort.labelled]
        check_scorable(labels_P, cohort.name)
        return external_scores(self.predict(cohort, cohort.labelled).probability_P, labels_P, self.threshold)

    def seen(self, cohort: Cohort) -> np.ndarray:
        """Return the mask [P] of patients seen in training, by id or by any of their pictures."""
        return self.seen_ids(cohort.ids) | self.seen_pictures(cohort.digests_of_bags)

    def seen_ids(self, ids: Sequence[str]) -> np.ndarray:
        """Return the mask [P] of ids seen in training, in any Unicode normalisation."""
        spellings = [{patient, *(unicodedata.normalize(form, patient) for form in ("NFC", "NFD"))} for patient in ids]
        return np.array([any(hashed(one) in self._trained_on for one in of) for of in spellings], dtype=bool)

    def seen_pictures(self, digests: Sequence[Sequence[str]]) -> np.ndarray:
        """Return the mask [P] of patients, given by their pictures' digests, with a picture seen in training."""
        return np.array([any(cell[:16] in self._trained_on for cell in cells) for cells in digests], dtype=bool)

    @cached_property
    def _trained_on(self) -> frozenset[str]:
        path = self.path / "trained_on.txt"
        data = path.read_bytes() if path.stat().st_size <= MOST_TRAINED_ON else b""
        if not re.fullmatch(rb"([0-9a-f]{16}[ \n]){2,}", data):
            raise InputError(f"{path}: not the hashes of the patients seen in training; copy the folder again")
        return frozenset(data.decode("ascii").split())

    def fold_models(self) -> Iterator[tuple[Path, Configuration]]:
        """Yield the weight file and the configuration of every fold model, member by member."""
        for member in self.members:
            chosen = configuration(member["configuration"], str(self.path / "ensemble.yaml"))
            for name in member["weights"]:
                yield self.path / name, chosen

    def _by_member(self, probability_F2P: np.ndarray) -> FoldPredictions:
        """Group the probability and gate of every fold model by member."""
        ends = np.cumsum([len(member["weights"]) for member in self.members])
        members, by_fold = [], []
        for member, probability_FP in zip(self.members, np.split(probability_F2P[:, 0], ends[:-1]), strict=True):
            fold_F = np.array([fold_of(name) for name in member["weights"]])
            members.append(probability_FP.mean(axis=0))
            by_fold.append([probability_FP[fold_F == fold].mean(axis=0) for fold in np.unique(fold_F)])
        spread_P, gate_P = probability_F2P[:, 0].std(axis=0), _mean_of_given(probability_F2P[:, 1])
        return FoldPredictions(np.array(members), np.array(by_fold), spread_P, gate_P)


def _mean_of_given(values_FX: np.ndarray) -> np.ndarray:
    """Return the mean [X] over the fold models with values that are not NaN; NaN without any."""
    given_FX = values_FX[~np.isnan(values_FX[:, 0])]
    return given_FX.mean(axis=0) if len(given_FX) else np.full(values_FX.shape[1], np.nan)


def fold_of(name: str) -> int:
    """Return the held-out fold of a weight file's model, from its name; raises InputError if the name has none."""
    if found := re.search(r"-fold-(\d+)", name):
        return int(found[1])
    raise InputError(f"{name}: no fold in the file name; expected repeat-R-fold-K")


def _description(path: Path) -> dict[str, Any]:
    """Read ensemble.yaml; raises InputError if it is invalid, or names files outside the folder or without a hash."""
    where, given = path / "ensemble.yaml", read_yaml(path / "ensemble.yaml")
    if not isinstance(given, dict) or given.get("format") != FORMAT:
        found = given.get("format") if isinstance(given, dict) else None
        raise InputError(
            f"{where}: format {found!r}; this version reads format {FORMAT}; run `lymphtune ensemble` again"
        )
    if missing := [
        key for key in ("members", "files", "recipe", "threshold", "cohort", "versions") if key not in given
    ]:
        raise InputError(f"{where}: no '{missing[0]}' in it; expected what `lymphtune ensemble` writes")
    files = given["files"] if isinstance(given["files"], dict) else {}
    for name in files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
            raise InputError(f"{where}: files: {name!r} is not a file of the folder; copy the folder again")
    weights = [name for member in given["members"] for name in member["weights"]]
    for name in (LEARNT, "oof.parquet", "trained_on.txt", *weights):
        if name not in files:
            raise InputError(f"{where}: {name} is not among its files; copy the folder again")
    return given


def _check_members(members: list[dict[str, Any]], oof: pd.DataFrame) -> None:
    """Raise ValueError unless the members and the out-of-fold table are valid and match."""
    trials = [member["trial"] for member in members]
    named = [column for column in oof.columns if column != "patient"]  # earlier versions have no column `patient`
    if trials != named[3:] or not trials or not all(map(TRIAL.fullmatch, trials)):
        raise ValueError("members")
    values = oof[["probability", *trials]].to_numpy(dtype=float)
    if not len(oof) or not ((values >= 0) & (values <= 1)).all() or not oof["label"].isin([0, 1]).all():
        raise ValueError("out-of-fold table")
    folds = set(oof["fold"])
    if any({fold_of(name) for name in member["weights"]} != folds for member in members):
        raise ValueError("folds")


def _procedure(path: Path, given: dict[str, Any]) -> Procedure:
    """Return the unfitted procedure that made the ensemble."""
    where = str(path / "ensemble.yaml")
    recipe, calibration = parse_recipe(given["recipe"], str(given["name"]), where), given["calibration"]
    part = None if calibration is None else parse_part(calibrations, calibration, where)
    threshold, share = parse_threshold(str(given["threshold"]["rule"])), float(given["refer"]["share"])
    return Procedure(recipe, part, threshold, share, float(given["error_rate"]))


def _fitted(path: Path, description: dict[str, Any], oof: pd.DataFrame) -> Fitted:
    """Return the fitted procedure: the combiner and the calibration with their fitted arrays."""
    where = str(path / "ensemble.yaml")
    combiner = parse_recipe(description["recipe"], "recipe", f"{where}: recipe").build()
    calibration = None
    if (word := description["calibration"]) is not None:
        part = parse_part(calibrations, word, f"{where}: calibration")
        calibration = calibrations[part.word].build(part.options)
    threshold, margin = description["threshold"]["value"], description["refer"]["margin"]
    fitted = Fitted(combiner, calibration, float(threshold), float(margin))
    load_learnt(fitted, path / LEARNT, len(description["members"]), len(oof))
    return fitted


def first_ids(ids: Sequence[str]) -> str:
    """Format at most three of the ids for a message."""
    return ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
