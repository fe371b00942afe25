"""Scores of an ensemble, compared with the best single trial, the best baseline and the other recipes.

All honest scores use the same resamples of the patients. Shapes: S resamples, P patients ever held out, M trials.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lymphtune import console
from lymphtune.config import parse_part
from lymphtune.console import SILENT, Bar
from lymphtune.ensembling.candidates import Candidates, Resamples
from lymphtune.ensembling.procedure import Procedure, ResampledProcedure
from lymphtune.ensembling.recipe import Choice, Recipe
from lymphtune.errors import InputError
from lymphtune.registry import combiners
from lymphtune.statistics.best import tied_with_best
from lymphtune.statistics.bootstrap import RESAMPLES, Interval, resample
from lymphtune.statistics.honest import Gain, HeldOutScorer
from lymphtune.statistics.metrics import METRICS

BY_THRESHOLD = ("balanced_accuracy", "recall", "specificity")
ENSEMBLE, SINGLE, BASELINE = "ensemble", "best single trial", "best baseline"


@dataclass(frozen=True)
class Entry:
    """The scores of one procedure by metric, and its output in every resample.

    naive: fitted and scored on the same patients. honest: scored on the patients that each resample holds out.
    """

    naive: dict[str, float]
    honest: dict[str, Interval]
    resampled: ResampledProcedure

    @property
    def optimism(self) -> float:
        """Return the optimism of the naive balanced accuracy."""
        return self.naive["balanced_accuracy"] - self.honest["balanced_accuracy"].value


@dataclass(frozen=True)
class Comparison:
    """A paired comparison of procedures on the same resamples of the same patients."""

    candidates: Candidates
    resamples: Resamples
    scorer: HeldOutScorer

    @classmethod
    def of(cls, candidates: Candidates) -> "Comparison":
        """Resample the patients of the candidates; raises InputError if there are too few patients."""
        group_P = candidates.group_P
        counts_SP = resample(candidates.labels_P, RESAMPLES, 0, group_P)
        try:
            scorer = HeldOutScorer(candidates.labels_P, counts_SP, group_P)
        except ValueError as error:
            raise InputError(f"{len(candidates.labels_P)} scored patients: {error}; score more patients") from error
        return cls(candidates, Resamples(candidates, counts_SP), scorer)

    @property
    def steps(self) -> int:
        """Return the number of steps of a progress bar for each procedure."""
        return len(self.resamples.counts_SP)

    def score(self, procedure: Procedure, bar: Bar = SILENT) -> Entry:
        """Return the procedure's scores; this may take seconds."""
        candidates, labels_P = self.candidates, self.candidates.labels_P
        oof_MP = candidates.oof_CP[candidates.chosen(procedure.recipe.choice)]
        fitted = procedure.fit(oof_MP, labels_P)
        probability_P = fitted.probability(oof_MP)
        called_P = np.where(probability_P >= fitted.threshold, 1.0, 0.0)
        naive = {m: float(f(called_P if m in BY_THRESHOLD else probability_P, labels_P)) for m, f in METRICS.items()}
        resampled = procedure.repeat(candidates, self.resamples, bar)
        honest = {metric: self.scorer.score(resampled.predictions, metric) for metric in METRICS}
        return Entry(naive, honest, resampled)

    def gain(self, one: Entry, other: Entry, metric: str = "balanced_accuracy") -> Gain:
        """Return the paired honest difference `one` - `other`."""
        return self.scorer.gain(one.resampled.predictions, other.resampled.predictions, metric)

    def tied(self, choice: Choice) -> np.ndarray:
        """Return the mask [M] of allowed trials that are tied with the best by class-balanced log loss."""
        every = Resamples(self.candidates, np.ones((1, len(self.candidates.labels_P)), dtype=int))
        loss_SM, loss_M = self.resamples.losses("log_loss")[0], every.losses("log_loss")[0][0]
        tied_M = self.candidates.allowed(choice)
        tied_M[tied_M] = tied_with_best(loss_SM[:, tied_M], loss_M[tied_M])
        return tied_M


@dataclass(frozen=True)
class Scores:
    """All scores of an ensemble.

    tied_M: the trials tied with the best. threshold_gain, calibration_gains: effect of a chosen threshold and of the
    calibration, if used. not_referred: honest balanced accuracy of the patients that are not referred, and their
    fraction. covered, both: fraction of prediction sets that hold the true label, and that hold both labels.
    reliability: the curve before and after calibration.
    """

    entries: dict[str, Entry]
    over_baseline: dict[str, Gain]
    over_single: dict[str, Gain]
    tied_M: np.ndarray
    threshold_gain: Gain | None
    calibration_gains: dict[str, Gain]
    not_referred: tuple[Interval, float] | None
    covered: Interval
    both: Interval
    reliability: pd.DataFrame

    def table(self) -> pd.DataFrame:
        """Return one row per procedure and metric, with columns naive, honest, low, high, optimism."""
        rows = []
        for name, entry in self.entries.items():
            for metric, honest in entry.honest.items():
                naive = entry.naive[metric]
                rows.append((name, metric, naive, honest.value, honest.low, honest.high, naive - honest.value))
        return pd.DataFrame(rows, columns=["procedure", "metric", "naive", "honest", "low", "high", "optimism"])


def score(comparison: Comparison, procedure: Procedure) -> Scores:
    """Return the scores of a procedure, compared with the same procedure on the best trial and on the best baseline."""
    choice, labels_P = procedure.recipe.choice, comparison.candidates.labels_P
    procedures = {
        ENSEMBLE: procedure,
        SINGLE: replace(procedure, recipe=one_of(choice.source, choice.by, choice.include_stopped)),
        BASELINE: replace(procedure, recipe=one_of("clinical", choice.by)),
    }
    with console.bar("scoring", len(procedures) * comparison.steps) as bar:
        entries = {name: comparison.score(one, bar) for name, one in procedures.items()}
    scorer, mine = comparison.scorer, entries[ENSEMBLE].resampled
    over = {
        name: {
            metric: comparison.gain(entries[ENSEMBLE], entries[name], metric) for metric in ("balanced_accuracy", "auc")
        }
        for name in (BASELINE, SINGLE)
    }
    compared = ("log_loss", "brier") if procedure.calibration else ()
    kept_share = float(1 - mine.refers_SP[scorer.held_out_SP].mean())
    covers_SP = np.where(labels_P == 1, mine.sets_2SP[1], mine.sets_2SP[0]).astype(float)
    return Scores(
        entries,
        over[BASELINE],
        over[SINGLE],
        comparison.tied(choice),
        scorer.gain(mine.predictions, mine.at_half, "balanced_accuracy") if procedure.threshold.is_chosen else None,
        {metric: scorer.gain(mine.at_half, mine.uncalibrated, metric) for metric in compared},
        (scorer.score(mine.not_referred, "balanced_accuracy"), kept_share) if procedure.refer else None,
        scorer.share(covers_SP),
        scorer.share(mine.sets_2SP.all(axis=0).astype(float)),
        _reliability(scorer, mine),
    )


def one_of(source: str, by: str, include_stopped: bool = False) -> Recipe:
    """Return the recipe of the single best trial of a kind."""
    choice = Choice(source, (("any", 1),), by, include_stopped=include_stopped)
    return Recipe("one", "", parse_part(combiners, "top", "one"), choice)


def compare(comparison: Comparison, procedure: Procedure, recipes: list[Recipe]) -> dict[str, Entry]:
    """Score `procedure` with each of the recipes for which the run has trials."""
    possible = [recipe for recipe in recipes if _is_possible(comparison, recipe)]
    with console.bar("comparing recipes", len(possible) * comparison.steps) as bar:
        return {recipe.name: comparison.score(replace(procedure, recipe=recipe), bar) for recipe in possible}


def _is_possible(comparison: Comparison, recipe: Recipe) -> bool:
    try:
        comparison.candidates.available(recipe.choice)
    except InputError:  # the run has no trial of a kind
        return False
    return True


def _reliability(scorer: HeldOutScorer, resampled: ResampledProcedure) -> pd.DataFrame:
    """Return the reliability of held-out patients by probability bin, class-balanced.

    Columns: stage (before or after calibration), patients, said (mean probability), true (fraction of tumoral).
    """
    tables = []
    for stage, predictions in (("before", resampled.uncalibrated), ("after", resampled.at_half)):
        patients_B, probability_B, true_B = scorer.reliability(predictions)
        tables.append(pd.DataFrame({"stage": stage, "patients": patients_B, "said": probability_B, "true": true_B}))
    return pd.concat(tables, ignore_index=True).query("patients > 0")
