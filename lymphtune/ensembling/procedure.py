"""A procedure: all that leads from a run's out-of-fold probabilities to a decision on a patient.

Choosing trials, joining them, calibrating, setting the threshold, referring the doubtful. Whatever is done here on all
patients is done again in every resample by the honest score. Shapes: M members, P patients, S resamples.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logit

from lymphtune.arguments import checked
from lymphtune.config import Part, parse_part
from lymphtune.console import SILENT, Bar
from lymphtune.ensembling.candidates import Candidates, Resamples
from lymphtune.ensembling.recipe import SOURCES, Recipe, load_recipe
from lymphtune.ensembling.threshold import Threshold, parse_threshold
from lymphtune.errors import InputError, listed
from lymphtune.registry import calibrations
from lymphtune.statistics.conformal import CrossConformal
from lymphtune.statistics.honest import ResampledPredictions
from lymphtune.statistics.metrics import SMALLEST

NONE = "none"
HALF = Threshold()
MOST = 0.9  # share of patients referred, or of sets in error


@dataclass(frozen=True)
class Fitted:
    """What a procedure has learnt: a combiner, maybe a calibration, the threshold, and the margin under which a
    patient is referred (a distance of logits from the threshold)."""

    combiner: Any
    calibration: Any
    threshold: float
    margin: float

    def combined(self, members_MP: np.ndarray) -> np.ndarray:
        """Return the members' probabilities as one [P], not calibrated."""
        return np.clip(self.combiner.predict_proba(members_MP), 0.0, 1.0)

    def probability(self, members_MP: np.ndarray) -> np.ndarray:
        """Return the probability of tumoral [P]."""
        return self.calibrated(self.combined(members_MP))

    def calibrated(self, combined_P: np.ndarray) -> np.ndarray:
        return combined_P if self.calibration is None else self.calibration.apply(combined_P)

    def refers(self, probability_P: np.ndarray) -> np.ndarray:
        """Return which patients [P] are too near the threshold to be called."""
        return margins(probability_P, self.threshold) < self.margin


@dataclass(frozen=True)
class Procedure:
    """What is done, before anything is learnt.

    calibration: None is none. refer: the share of patients that is sent to another examination. error_rate: of the
    prediction sets.
    """

    recipe: Recipe
    calibration: Part | None = None
    threshold: Threshold = HALF
    refer: float = 0.0
    error_rate: float = 0.1

    def fit(self, oof_MP: np.ndarray, labels_P: np.ndarray) -> Fitted:
        """Return what these patients teach; every step sees them and no others."""
        combiner = self.recipe.build().fit(oof_MP, labels_P)
        probability_P, calibration = np.clip(combiner.predict_proba(oof_MP), 0.0, 1.0), None
        if self.calibration is not None:
            built = calibrations[self.calibration.word].build(self.calibration.options)
            calibration = built.fit(probability_P, labels_P)
            probability_P = calibration.apply(probability_P)
        threshold = self.threshold.choose(probability_P, labels_P)
        margin = float(np.quantile(margins(probability_P, threshold), self.refer)) if self.refer else 0.0
        return Fitted(combiner, calibration, threshold, margin)

    def check(self, labels_P: np.ndarray) -> None:
        """Raise InputError where the patients are too few for the calibration or the threshold."""
        self.threshold.check(labels_P)
        if self.calibration is None:
            return
        least = calibrations[self.calibration.word].build(self.calibration.options).least_patients
        if len(labels_P) < least:
            raise InputError(
                f"--calibration {self.calibration.word}: fitted to {least} labelled patients or more; this run "
                f"judged {len(labels_P)}; leave it out"
            )

    def repeat(self, candidates: Candidates, resamples: Resamples, bar: Bar = SILENT) -> "ResampledProcedure":
        """Return what the procedure says after learning from each resample's drawn patients alone; the bar goes on by
        one a resample."""
        chosen_SN, labels_P = resamples.choose(self.recipe.choice), candidates.labels_P
        resampled = ResampledProcedure.blank(resamples.counts_SP.shape)
        for s, (rows, counts_P) in enumerate(zip(chosen_SN, resamples.counts_SP, strict=True)):
            members_MP, learnt = candidates.oof_CP[rows], np.repeat(np.arange(len(counts_P)), counts_P)
            fitted = self.fit(members_MP[:, learnt], labels_P[learnt])
            combined_P = fitted.combined(members_MP)
            probability_P = fitted.calibrated(combined_P)
            known = CrossConformal.split(probability_P[learnt], labels_P[learnt])
            resampled.combined_SP[s], resampled.probability_SP[s], resampled.threshold_S[s] = (
                combined_P,
                probability_P,
                fitted.threshold,
            )
            resampled.refers_SP[s] = fitted.refers(probability_P)
            resampled.sets_2SP[:, s] = known.sets(probability_P[None], self.error_rate)
            bar.advance()
        return resampled


@dataclass(frozen=True)
class ResampledProcedure:
    """What a procedure said in every resample: joined, then calibrated; its thresholds, referrals and sets."""

    combined_SP: np.ndarray
    probability_SP: np.ndarray
    threshold_S: np.ndarray
    refers_SP: np.ndarray
    sets_2SP: np.ndarray  # whether either label is in the patient's set

    @classmethod
    def blank(cls, shape: tuple[int, int]) -> "ResampledProcedure":
        """Return room for what is said in so many resamples of so many patients."""
        truths = (np.empty(some, dtype=bool) for some in (shape, (2, *shape)))
        return cls(np.empty(shape), np.empty(shape), np.empty(shape[0]), *truths)

    @property
    def uncalibrated(self) -> ResampledPredictions:
        """Return what was said before calibration, at one half."""
        return ResampledPredictions.plain(self.combined_SP)

    @property
    def predictions(self) -> ResampledPredictions:
        return ResampledPredictions(self.probability_SP, self.threshold_S)

    @property
    def at_half(self) -> ResampledPredictions:
        return ResampledPredictions.plain(self.probability_SP)

    @property
    def not_referred(self) -> ResampledPredictions:
        """Return the judgement of those that are not referred."""
        return ResampledPredictions(self.probability_SP, self.threshold_S, ~self.refers_SP)


def margins(probability_P: np.ndarray, threshold: float) -> np.ndarray:
    """Return how far each probability is from the threshold, in logits."""
    probability_P, at = (np.clip(value, SMALLEST, 1 - SMALLEST) for value in (probability_P, threshold))
    return np.abs(logit(probability_P) - logit(at))


def asked(
    recipe: str | Path = "top",
    *,
    top: int | None = None,
    source: str | None = None,
    include_stopped: bool | None = None,
    threshold: str | float = "0.5",
    calibration: str | None = NONE,
    refer: float = 0.0,
    error_rate: float = 0.1,
) -> Procedure:
    """Return the procedure that a person asked for; raises InputError where it is none.

    recipe: a shipped one or a file. include_stopped: take trials that were stopped early, too. threshold: a number,
    tuned, recall=X or cost=FN:FP. calibration: none, temperature, platt or isotonic. refer: the fraction of patients
    to send to another examination.
    """
    top, source = checked(int | None, "top", top), checked(str | None, "source", source)
    refer, error_rate = checked(float, "refer", refer), checked(float, "error_rate", error_rate)
    for name, value in (("refer", refer), ("error-rate", error_rate)):
        if not 0 <= value <= MOST:
            raise InputError(f"--{name} {value:g}: expected a share from 0 to {MOST:g}")
    if source is not None and source not in SOURCES:
        raise InputError(f"--from has no {source!r}; there are {listed(source, SOURCES)}")
    chosen = load_recipe(recipe, top, source, checked(bool | None, "include_stopped", include_stopped))
    part = parse_calibration(checked(str | None, "calibration", calibration))
    asked_for = checked(str | float, "threshold", threshold)
    return Procedure(chosen, part, parse_threshold(str(asked_for)), refer, error_rate)


def parse_calibration(word: str | None) -> Part | None:
    """Return the calibration that a word names, None for none; raises InputError."""
    if word is None or word == NONE:
        return None
    if word.partition(":")[0] not in (words := [NONE, *calibrations.words()]):
        raise InputError(f"--calibration has no '{word}'; there are {listed(word, words)}")
    return parse_part(calibrations, word, "--calibration")
