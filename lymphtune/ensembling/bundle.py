"""The saved ensemble: a folder that predicts alone, without its run and without pickle.

Shapes: P patients of a cohort, C cells of theirs, M member trials, F fold models of all of them, K folds.
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
from lymphtune.ensembling.attributes import TrainedAges, missing_values, tells_ages
from lymphtune.ensembling.external import check_scorable, external_scores
from lymphtune.ensembling.learnt import take_learnt
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
PACKAGES = ("lymphtune", "torch", "timm", "scikit-learn", "numpy")  # whose versions are noted
MOST_TRAINED_ON = 2**28  # bytes
LEARNT = "learnt.safetensors"  # what the combiner and the calibration have learnt


@dataclass(frozen=True)
class EnsemblePrediction:
    """probability_P: of being tumoral; spread_P: sd between all fold models; members_MP: each trial's mean;
    gate_P: share of the pictures' expert, mean over the fold models that have a gate, NaN where none has; sets_2P:
    whether either label is in the patient's prediction set; refers_P: who is too near the threshold to be called."""

    probability_P: np.ndarray
    spread_P: np.ndarray
    members_MP: np.ndarray
    gate_P: np.ndarray
    sets_2P: np.ndarray
    refers_P: np.ndarray


class Votes(NamedTuple):
    """What the fold models say, before the members are combined; by_fold_MKP: each trial's models of each fold; the
    others as in Prediction."""

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
        _ = self._trained_on  # who is seen is known before anything is said of anybody
        self.known = CrossConformal(*(oof[name].to_numpy() for name in ("probability", "label", "fold")))

    @property
    def summary(self) -> str:
        """The table of scores that was printed when the ensemble was made; empty for one that was loaded."""
        return self.result.text

    @classmethod
    def load(cls, path: str | Path, result: Result | None = None) -> "Ensemble":
        """Return a saved ensemble; raises InputError where the folder is not one, or was altered."""
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
        """Return which packages have another version than those it was saved with: last digits may differ."""
        saved, here = self.description["versions"], {name: version(name) for name in PACKAGES}
        return [f"{name} {here[name]} (saved with {saved.get(name)})" for name in here if here[name] != saved.get(name)]

    def predict_proba(self, cohort: Cohort, allow_seen: bool = False) -> np.ndarray:
        """Return the probability of tumoral [P] of every patient of a cohort, as all fold models see it.

        Raises InputError where any patient was seen in training, by id or picture, unless `allow_seen`: of such a
        patient this is no out-of-fold number, and never to be scored.
        """
        return self.predict(cohort, np.arange(len(cohort.patients)), allow_seen).probability_P

    @cached_property
    def shown_attributes(self) -> tuple[Attribute, ...]:
        """Return the attributes that its members look at: none where they see pictures alone."""
        where = str(self.path / "ensemble.yaml")
        seen = [configuration(member["configuration"], where).sees for member in self.members]
        return () if set(seen) == {"images"} else self.attributes

    def missing(self, patients: pd.DataFrame) -> np.ndarray:
        """Return the names of each patient's attributes [P] that its members look at and that have no value."""
        return missing_values(patients, self.shown_attributes)

    def check_attributes(self, cohort: Cohort | CohortSurvey) -> list[str]:
        """Return notes on words that no patient had in training; InputError where the cohort lacks an attribute."""
        given, notes = {attribute.name: attribute for attribute in cohort.attributes}, []
        for attribute in self.attributes:
            own = given.get(attribute.name)
            if own is None or (own.levels is None) != (attribute.levels is None):
                kind = "numbers" if attribute.levels is None else "words"
                raise InputError(
                    f"{cohort.name}: no attribute {attribute.name} ({kind}), which {self.path} was trained on; "
                    "name its column in cohort.yaml"
                )
            if new := sorted({*(own.levels or ())} - {*(attribute.levels or ())}):
                notes.append(f"{attribute.name}: {few(new)} did not occur in training and is taken for a missing value")
        return notes

    def _as_trained(self, cohort: Cohort) -> Cohort:
        """Return the cohort with its attributes shown as in training."""
        self.check_attributes(cohort)
        return cohort if cohort.attributes == self.attributes else replace(cohort, attributes=self.attributes)

    def predict(self, cohort: Cohort, rows: np.ndarray, allow_seen: bool = False) -> EnsemblePrediction:
        """Return the prediction for the patients in `rows` of the cohort.

        Raises InputError where the cohort lacks an attribute, or where any of these patients was seen in training,
        unless `allow_seen`.
        """
        if not allow_seen:
            self._refuse_seen(cohort, rows)
        cohort = self._as_trained(cohort)
        if tells_ages(self.shown_attributes) and (note := self.ages.difference(cohort)):
            console.say(f"{cohort.name}: {note}")
        if len(rows) == 0:
            nobody, no_sets = np.zeros(0), np.zeros((2, 0), dtype=bool)
            return EnsemblePrediction(nobody, nobody, np.zeros((len(self.members), 0)), nobody, no_sets, no_sets[0])
        from lymphtune.training.loading import predict_with

        said = []
        with console.bar("predicting", sum(len(member["weights"]) for member in self.members)) as bar:
            for path, chosen in self.fold_models():
                said.append(predict_with(path, chosen, cohort, rows))
                bar.advance()
        return self.combine([self._votes(np.array(said))])

    def _refuse_seen(self, cohort: Cohort, rows: np.ndarray) -> None:
        seen_P = self.seen(cohort)[rows]
        if seen_P.any():
            some = few([cohort.ids[row] for row in np.asarray(rows)[seen_P]])
            raise InputError(
                f"{cohort.name}: {int(seen_P.sum())} of these {len(seen_P)} patients were seen in training ({some}); "
                "leave them out, or predict them all the same with allow_seen=True"
            )

    def vote(self, block: Cohort, cells: bool = False) -> tuple[Votes, np.ndarray | None]:
        """Return the votes on every patient of a cohort, and, with `cells`, what is said of each cell [2, C].

        That is its probability, mean over the fold models that judge cells, and its weight in its bag, mean over
        those that weigh them; NaN where none does. Frozen features are computed in memory, once for all fold models
        that share them, and leave nothing in the cache: for a cohort that is read block by block.
        """
        from lymphtune.training.loading import predict_cells_with, predict_with

        block = self._as_trained(block)
        rows, kept = np.arange(len(block.patients)), dict[str, np.ndarray]()
        if not cells:
            said = [predict_with(path, chosen, block, rows, kept) for path, chosen in self.fold_models()]
            return self._votes(np.array(said)), None
        both = [predict_cells_with(path, chosen, block, rows, kept) for path, chosen in self.fold_models()]
        of_cells_F2C = np.array([of_cells for _, of_cells in both])
        of_cells_2C = np.stack([_mean_of_given(of_cells_F2C[:, kind]) for kind in (0, 1)])
        return self._votes(np.array([said for said, _ in both])), of_cells_2C

    def combine(self, votes: Sequence[Votes]) -> EnsemblePrediction:
        """Return the prediction for the patients of one block after the other."""
        members_MP, by_fold_MKP, spread_P, gate_P = (np.concatenate(part, axis=-1) for part in zip(*votes, strict=True))
        probability_P = self.fitted.probability(members_MP)
        probability_KP = np.array([self.fitted.probability(of_fold_MP) for of_fold_MP in by_fold_MKP.swapaxes(0, 1)])
        sets_2P = self.known.sets(probability_KP, self.error_rate)
        return EnsemblePrediction(
            probability_P, spread_P, members_MP, gate_P, sets_2P, self.fitted.refers(probability_P)
        )

    def table(self, ids: Sequence[str], said: EnsemblePrediction, seen_P: np.ndarray) -> pd.DataFrame:
        """Return predictions.parquet: one row a patient, a column for each member."""
        table = pd.DataFrame(
            {
                "patient": ids, "probability": said.probability_P, "spread": said.spread_P,
                "predicted": (said.probability_P >= self.threshold).astype(int), "set": set_names(said.sets_2P),
                "refer": said.refers_P,
            }
        )  # fmt: skip
        for member, probability_P in zip(self.members, said.members_MP, strict=True):
            table[member["trial"]] = probability_P
        return table.assign(gate=said.gate_P, seen=seen_P)

    def score(self, cohort: Cohort) -> dict[str, Interval]:
        """Return every metric by name on the cohort's labelled patients, with intervals.

        An external validation: raises InputError where any patient of the cohort was seen in training.
        """
        seen_P = self.seen(cohort)
        if seen_P.any():
            some = few([cohort.ids[row] for row in np.flatnonzero(seen_P)])
            raise InputError(
                f"{cohort.name}: scoring patients seen in training is refused; {int(seen_P.sum())} of its "
                f"{len(seen_P)} were ({some}); leave them out"
            )
        labels_P = cohort.labels[cohort.labelled]
        check_scorable(labels_P, cohort.name)
        return external_scores(self.predict(cohort, cohort.labelled).probability_P, labels_P, self.threshold)

    def seen(self, cohort: Cohort) -> np.ndarray:
        """Return which patients [P] were seen in training, by id or by any of their pictures."""
        return self.seen_ids(cohort.ids) | self.seen_pictures(cohort.digests_of_bags)

    def seen_ids(self, ids: Sequence[str]) -> np.ndarray:
        """Return which of these patients [P] have the id of one seen in training, whichever way its characters are
        coded."""
        spellings = [{patient, *(unicodedata.normalize(form, patient) for form in ("NFC", "NFD"))} for patient in ids]
        return np.array([any(hashed(one) in self._trained_on for one in of) for of in spellings], dtype=bool)

    def seen_pictures(self, digests: Sequence[Sequence[str]]) -> np.ndarray:
        """Return which patients [P], given by their pictures' digests, have a picture seen in training."""
        return np.array([any(cell[:16] in self._trained_on for cell in cells) for cells in digests], dtype=bool)

    @cached_property
    def _trained_on(self) -> frozenset[str]:
        path = self.path / "trained_on.txt"
        data = path.read_bytes() if path.stat().st_size <= MOST_TRAINED_ON else b""
        if not re.fullmatch(rb"([0-9a-f]{16}[ \n]){2,}", data):
            raise InputError(f"{path}: not the hashes of the patients seen in training; copy the folder again")
        return frozenset(data.decode("ascii").split())

    def fold_models(self) -> Iterator[tuple[Path, Configuration]]:
        """Yield the weights' file of every fold model, member after member, and its configuration."""
        for member in self.members:
            chosen = configuration(member["configuration"], str(self.path / "ensemble.yaml"))
            for name in member["weights"]:
                yield self.path / name, chosen

    def _votes(self, probability_F2P: np.ndarray) -> Votes:
        """Return the votes from probability and gate of every fold model."""
        ends = np.cumsum([len(member["weights"]) for member in self.members])
        members, by_fold = [], []
        for member, probability_FP in zip(self.members, np.split(probability_F2P[:, 0], ends[:-1]), strict=True):
            fold_F = np.array([fold_of(name) for name in member["weights"]])
            members.append(probability_FP.mean(axis=0))
            by_fold.append([probability_FP[fold_F == fold].mean(axis=0) for fold in np.unique(fold_F)])
        spread_P, gate_P = probability_F2P[:, 0].std(axis=0), _mean_of_given(probability_F2P[:, 1])
        return Votes(np.array(members), np.array(by_fold), spread_P, gate_P)


def _mean_of_given(values_FX: np.ndarray) -> np.ndarray:
    """Return the mean [X] over the fold models that give such values, NaN where none does."""
    given_FX = values_FX[~np.isnan(values_FX[:, 0])]
    return given_FX.mean(axis=0) if len(given_FX) else np.full(values_FX.shape[1], np.nan)


def fold_of(name: str) -> int:
    """Return the fold that a weights file's models never saw; raises InputError where its name does not say so."""
    if found := re.search(r"-fold-(\d+)", name):
        return int(found[1])
    raise InputError(f"{name}: expected a file name with its fold in it")


def _description(path: Path) -> dict[str, Any]:
    """Return ensemble.yaml; raises InputError where it is not one, or names files outside the folder or unsealed."""
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
            raise InputError(f"{where}: files: {name!r} is no file of the folder")
    weights = [name for member in given["members"] for name in member["weights"]]
    for name in (LEARNT, "oof.parquet", "trained_on.txt", *weights):
        if name not in files:
            raise InputError(f"{where}: {name} is not among its files; copy the folder again")
    return given


def _check_members(members: list[dict[str, Any]], oof: pd.DataFrame) -> None:
    """Raise ValueError unless members and out-of-fold table are each sound and fit together."""
    trials = [member["trial"] for member in members]
    named = [column for column in oof.columns if column != "patient"]  # which earlier versions do not have
    if trials != named[3:] or not trials or not all(map(TRIAL.fullmatch, trials)):
        raise ValueError("members")
    said = oof[["probability", *trials]].to_numpy(dtype=float)
    if not len(oof) or not ((said >= 0) & (said <= 1)).all() or not oof["label"].isin([0, 1]).all():
        raise ValueError("out-of-fold table")
    folds = set(oof["fold"])
    if any({fold_of(name) for name in member["weights"]} != folds for member in members):
        raise ValueError("folds")


def _procedure(path: Path, given: dict[str, Any]) -> Procedure:
    """Return what was done to make the ensemble, before anything was learnt."""
    where = str(path / "ensemble.yaml")
    recipe, calibration = parse_recipe(given["recipe"], str(given["name"]), where), given["calibration"]
    part = None if calibration is None else parse_part(calibrations, calibration, where)
    threshold, share = parse_threshold(str(given["threshold"]["rule"])), float(given["refer"]["share"])
    return Procedure(recipe, part, threshold, share, float(given["error_rate"]))


def _fitted(path: Path, description: dict[str, Any], oof: pd.DataFrame) -> Fitted:
    """Return the combiner and the calibration with all that they have learnt."""
    where = str(path / "ensemble.yaml")
    combiner = parse_recipe(description["recipe"], "recipe", f"{where}: recipe").build()
    calibration = None
    if (word := description["calibration"]) is not None:
        part = parse_part(calibrations, word, f"{where}: calibration")
        calibration = calibrations[part.word].build(part.options)
    threshold, margin = description["threshold"]["value"], description["refer"]["margin"]
    fitted = Fitted(combiner, calibration, float(threshold), float(margin))
    take_learnt(fitted, path / LEARNT, len(description["members"]), len(oof))
    return fitted


def few(ids: Sequence[str]) -> str:
    """Return at most three of the ids, for a message."""
    return ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
