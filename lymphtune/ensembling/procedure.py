"""A procedure: every step from a run's out-of-fold probabilities to the decision on a patient.

The steps are the selection of trials, their combination, the calibration, the threshold and the referral of uncertain
patients. The honest score repeats all of them in every resample. Shapes: M members, P patients, S resamples.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import logit

from lymphtune.arguments import checked
from lymphtune.calibrations import Calibration
from lymphtune.combiners import Combiner
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
MOST = 0.9  # largest fraction of patients referred, and largest error rate


@dataclass(frozen=True)
class Fitted:
    """A fitted procedure.

    calibration: None without one. threshold: lowest probability called tumoral. margin: distance from the threshold, in
    logits, below which a patient is referred.
    """

    combiner: Combiner
    calibration: Calibration | None
    threshold: float
    margin: float

    def combined(self, members_MP: np.ndarray) -> np.ndarray:
        """Combine the members' probabilities into [P], without calibration."""
        return np.clip(self.combiner.predict_proba(members_MP), 0.0, 1.0)

    def probability(self, members_MP: np.ndarray) -> np.ndarray:
        """Return the probability of tumoral [P]."""
        return self.calibrated(self.combined(members_MP))

    def calibrated(self, combined_P: np.ndarray) -> np.ndarray:
        """Return the calibrated probabilities [P]; unchanged without a calibration."""
        return combined_P if self.calibration is None else self.calibration.apply(combined_P)

    def refers(self, probability_P: np.ndarray) -> np.ndarray:
        """Return the mask [P] of patients to refer: those too near the threshold to be called."""
        return margins(probability_P, self.threshold) < self.margin


@dataclass(frozen=True)
class Procedure:
    """An unfitted procedure.

    calibration: None for none. refer: fraction of patients to refer to another examination. error_rate: error rate of
    the prediction sets.
    """

    recipe: Recipe
    calibration: Part | None = None
    threshold: Threshold = HALF
    refer: float = 0.0
    error_rate: float = 0.1

    def fit(self, oof_MP: np.ndarray, labels_P: np.ndarray) -> Fitted:
        """Fit every step to these patients."""
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
        """Raise InputError if the patients are too few for the calibration or the threshold."""
        self.threshold.check(labels_P)
        if self.calibration is None:
            return
        least = calibrations[self.calibration.word].build(self.calibration.options).least_patients
        if len(labels_P) < least:
            raise InputError(
                f"--calibration {self.calibration.word}: needs {least} labelled patients or more; this run scored "
                f"{len(labels_P)}; leave it out"
            )

    def repeat(self, candidates: Candidates, resamples: Resamples, bar: Bar = SILENT) -> "ResampledProcedure":
        """Fit the procedure to each resample and predict all patients; the bar advances by one per resample."""
        chosen_SN, labels_P = resamples.choose(self.recipe.choice), candidates.labels_P
        resampled = ResampledProcedure.blank(resamples.counts_SP.shape)
        for s, (rows, counts_P) in enumerate(zip(chosen_SN, resamples.counts_SP, strict=True)):
            members_MP, resample = candidates.oof_CP[rows], np.repeat(np.arange(len(counts_P)), counts_P)
            fitted = self.fit(members_MP[:, resample], labels_P[resample])
            combined_P = fitted.combined(members_MP)
            probability_P = fitted.calibrated(combined_P)
            known = CrossConformal.split(probability_P[resample], labels_P[resample])
            resampled.combined_SP[s], resampled.probability_SP[s] = combined_P, probability_P
            resampled.threshold_S[s] = fitted.threshold
            resampled.refers_SP[s] = fitted.refers(probability_P)
            resampled.sets_2SP[:, s] = known.sets(probability_P[None], self.error_rate)
            bar.advance()
        return resampled


@dataclass(frozen=True)
class ResampledProcedure:
    """The output of a procedure in every resample.

    combined_SP: probabilities before calibration. probability_SP: probabilities after it. sets_2SP: whether each label
    is in the patient's prediction set.
    """

    combined_SP: np.ndarray
    probability_SP: np.ndarray
    threshold_S: np.ndarray
    refers_SP: np.ndarray
    sets_2SP: np.ndarray

    @classmethod
    def blank(cls, shape: tuple[int, int]) -> "ResampledProcedure":
        """Return uninitialised arrays for `shape`, the numbers of resamples and patients."""
        masks = (np.empty(some, dtype=bool) for some in (shape, (2, *shape)))
        return cls(np.empty(shape), np.empty(shape), np.empty(shape[0]), *masks)

    @property
    def uncalibrated(self) -> ResampledPredictions:
        """Return the predictions before calibration, with the threshold at one half."""
        return ResampledPredictions.plain(self.combined_SP)

    @property
    def predictions(self) -> ResampledPredictions:
        """Return the predictions with the procedure's thresholds."""
        return ResampledPredictions(self.probability_SP, self.threshold_S)

    @property
    def at_half(self) -> ResampledPredictions:
        """Return the predictions with the threshold at one half."""
        return ResampledPredictions.plain(self.probability_SP)

    @property
    def not_referred(self) -> ResampledPredictions:
        """Return the predictions for the patients that are not referred."""
        return ResampledPredictions(self.probability_SP, self.threshold_S, ~self.refers_SP)


def margins(probability_P: np.ndarray, threshold: float) -> np.ndarray:
    """Return the distance of each probability from the threshold, in logits."""
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
    """Return the procedure for the options of the command and of `lymphtune.ensemble`; raises InputError.

    recipe: name of a shipped recipe, or a file. include_stopped: also take trials that were stopped early. threshold: a
    number, tuned, recall=X or cost=FN:FP. calibration: none, temperature, platt or isotonic. refer: fraction of
    patients to refer to another examination.
    """
    top, source = checked(int | None, "top", top), checked(str | None, "source", source)
    refer, error_rate = checked(float, "refer", refer), checked(float, "error_rate", error_rate)
    for name, value in (("refer", refer), ("error-rate", error_rate)):
        if not 0 <= value <= MOST:
            raise InputError(f"--{name} {value:g}: expected a fraction from 0 to {MOST:g}")
    if source is not None and source not in SOURCES:
        raise InputError(f"--from has no {source!r}; there are {listed(source, SOURCES)}")
    chosen = load_recipe(recipe, top, source, checked(bool | None, "include_stopped", include_stopped))
    part = parse_calibration(checked(str | None, "calibration", calibration))
    rule = parse_threshold(str(checked(str | float, "threshold", threshold)))
    return Procedure(chosen, part, rule, refer, error_rate)


def parse_calibration(word: str | None) -> Part | None:
    """Return the calibration of that name, None for "none"; raises InputError."""
    if word is None or word == NONE:
        return None
    if word.partition(":")[0] not in (words := [NONE, *calibrations.words()]):
        raise InputError(f"--calibration has no '{word}'; there are {listed(word, words)}")
    return parse_part(calibrations, word, "--calibration")
