"""All facts of a run that its report shows, read and computed once.

Shapes: S resamples, P patients scored, M eligible trials, N members.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from lymphtune import console
from lymphtune.cohort import Cohort
from lymphtune.cohort.folds import check_roles
from lymphtune.ensembling.build import trained_cohort
from lymphtune.ensembling.bundle import Ensemble
from lymphtune.ensembling.candidates import Candidates, read_candidates, read_oof, run_folds
from lymphtune.ensembling.procedure import Fitted, Procedure, asked
from lymphtune.ensembling.recipe import Choice
from lymphtune.ensembling.score import Comparison, Scores, score
from lymphtune.errors import InputError, one_line
from lymphtune.runs.description import RunDescription
from lymphtune.runs.run import Run, read_table

TOP = 5  # trials of the ensemble that is scored where none is saved


@dataclass(frozen=True)
class Facts:
    """A run with its cohort and the scores of its ensemble.

    leaderboard: includes failed trials. bundle: the saved ensemble; None where there is none, then the procedure is
    that of `ensemble --top 5`. pictures: whether the report may show cells. live: whether the search is still running.
    data: the source of the cohort.
    """

    run: Run
    description: RunDescription
    leaderboard: pd.DataFrame
    cohort: Cohort
    recipe_scores: Comparison
    procedure: Procedure
    scores: Scores
    bundle: Ensemble | None
    pictures: bool = True
    live: bool = False
    data: str | Path | None = None

    @property
    def stale(self) -> bool:
        """Whether the saved ensemble would have other members if it were made now."""
        members = [] if self.bundle is None else [member["trial"] for member in self.bundle.members]
        return self.bundle is not None and members != self.members["trial"].tolist()

    @property
    def candidates(self) -> Candidates:
        return self.recipe_scores.candidates

    @property
    def labels_P(self) -> np.ndarray:
        return self.candidates.labels_P

    @cached_property
    def folds_RP(self) -> np.ndarray:
        """The fold [R, P] that holds each of the cohort's patients out, -1 where none does."""
        return run_folds(self.run, self.cohort.ids)

    def oof(self, trial: str) -> np.ndarray:
        """Return a trial's out-of-fold probabilities of all the cohort's patients, by epoch and repeat [E, R, P]."""
        if trial not in self._oofs:
            path = self.run.trial(trial) / "oof.parquet"
            cohort_hash = self.description.cohort.hash
            self._oofs[trial] = read_oof(path, self.cohort.ids, self.folds_RP, cohort_hash)
        return self._oofs[trial]

    def curves(self, trial: str) -> pd.DataFrame | None:
        """Return a trial's curves, one row per epoch; None where their file is damaged or missing."""
        if trial not in self._curves:
            try:
                self._curves[trial] = read_table(self.run.trial(trial) / "curves.parquet")
            except InputError:
                self._curves[trial] = None
        return self._curves[trial]

    @cached_property
    def _oofs(self) -> dict[str, np.ndarray]:
        return {}

    @cached_property
    def _curves(self) -> dict[str, pd.DataFrame | None]:
        return {}

    @cached_property
    def rows(self) -> np.ndarray:
        """The members' rows [N] in the candidates' out-of-fold table."""
        return self.candidates.chosen(self.procedure.recipe.choice)

    @cached_property
    def members(self) -> pd.DataFrame:
        """The members' rows of the leaderboard, best first."""
        return self.candidates.trials(self.rows).reset_index(drop=True)

    @cached_property
    def fitted(self) -> Fitted:
        """The procedure, fitted to all scored patients."""
        return self.procedure.fit(self.members_NP, self.labels_P)

    @cached_property
    def members_NP(self) -> np.ndarray:
        """Each member's out-of-fold probability of every scored patient."""
        return self.candidates.oof_CP[self.rows]

    @cached_property
    def probability_P(self) -> np.ndarray:
        """The ensemble's probability of every scored patient: members out of fold, the combiner fitted to all."""
        return self.fitted.probability(self.members_NP)

    @cached_property
    def p_best_M(self) -> np.ndarray:
        """The fraction of resamples in which each eligible trial has the lowest log loss."""
        loss_SM = self.recipe_scores.resamples.losses("log_loss")[0]
        return np.bincount(loss_SM.argmin(axis=1), minlength=loss_SM.shape[1]) / len(loss_SM)

    @property
    def n_folds(self) -> int:
        return self.description.protocol.folds

    @property
    def simulated(self) -> bool:
        return bool(self.cohort.simulated)


def gather(run: Run, data: str | Path | None, ensemble: str | None, pictures: bool) -> Facts:
    """Return the facts of a run; ensemble: the name of a saved ensemble (default: the newest).

    Raises InputError where the cohort is not available, or too few trials have ended.
    """
    description, live = run.description, run.status == "running"
    leaderboard = run.leaderboard
    cohort = trained_cohort(run, data)
    check_roles(cohort)
    recipe_scores = Comparison.of(read_candidates(run, cohort))
    bundle = saved_ensemble(run, ensemble)
    procedure = procedure_of(bundle, recipe_scores.candidates)
    scores = score(recipe_scores, procedure)
    source = data or description.cohort.data
    return Facts(
        run, description, leaderboard, cohort, recipe_scores, procedure, scores, bundle, pictures, live, source
    )


def saved_ensemble(run: Run, name: str | None) -> Ensemble | None:
    """Return the saved ensemble of that name, or the newest that is undamaged; None where there is none."""
    saved = sorted(run.path.glob("ensembles/[!.]*/ensemble.yaml"), key=lambda path: path.stat().st_mtime_ns)
    if name is None:
        return next(filter(None, map(_load_or_warn, reversed(saved))), None)
    for path in saved:
        if path.parent.name == name:
            return Ensemble.load(path.parent)
    available = ", ".join(sorted(path.parent.name for path in saved)) or "none"
    raise InputError(f"{run.path / 'ensembles' / name}: no such ensemble; there are: {available}")


def _load_or_warn(path: Path) -> Ensemble | None:
    """Return a saved ensemble; if it is damaged, warn on stderr and return None."""
    try:
        return Ensemble.load(path.parent)
    except InputError as error:
        console.say(f"skipped a damaged ensemble: {one_line(str(error))}")
        return None


def procedure_of(bundle: Ensemble | None, candidates: Candidates) -> Procedure:
    """Return the ensemble's procedure; without one, the mean of the best trials, networks where there are any."""
    if bundle is None:
        source = "networks" if candidates.allowed(Choice("networks")).any() else "all"
        return asked("top", top=min(TOP, int(candidates.allowed(Choice(source)).sum())), source=source)
    return bundle.procedure
