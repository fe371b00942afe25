"""All that a report says of a run, read and computed once.

Shapes: S resamples, P patients judged, M trials that may enter, N members.
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

TOP = 5  # trials of the ensemble that is judged where none was made


@dataclass(frozen=True)
class Facts:
    """A run with its cohort, and what its ensemble is worth.

    bundle: the saved ensemble, None where none was made: then the procedure is that of `ensemble --top 5`. pictures:
    whether cells may be shown. live: whether the search goes on. data: what the cohort was read from.
    """

    run: Run
    description: RunDescription
    board: pd.DataFrame  # the leaderboard, failed trials included
    cohort: Cohort
    comparison: Comparison
    procedure: Procedure
    scores: Scores
    bundle: Ensemble | None
    pictures: bool = True
    live: bool = False
    data: str | Path | None = None

    @property
    def stale(self) -> bool:
        """Return whether the saved ensemble would have other members now."""
        members = [] if self.bundle is None else [member["trial"] for member in self.bundle.members]
        return self.bundle is not None and members != self.members["trial"].tolist()

    @property
    def candidates(self) -> Candidates:
        return self.comparison.candidates

    @property
    def labels_P(self) -> np.ndarray:
        return self.candidates.labels_P

    @cached_property
    def folds_RP(self) -> np.ndarray:
        """Return the fold [R, P] that holds each of the cohort's patients out, -1 where none ever does."""
        return run_folds(self.run, self.cohort.ids)

    def oof(self, trial: str) -> np.ndarray:
        """Return what a trial said in each epoch and repeat of all the cohort's patients [E, R, P], out of fold."""
        if trial not in self._oofs:
            path = self.run.trial(trial) / "oof.parquet"
            cohort_hash = self.description.cohort.hash
            self._oofs[trial] = read_oof(path, self.cohort.ids, self.folds_RP, cohort_hash)
        return self._oofs[trial]

    def curves(self, trial: str) -> pd.DataFrame | None:
        """Return a trial's curves, a row an epoch; None where their file is damaged or was never written."""
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
        """Return the members' rows of the candidates' out-of-fold table [N]."""
        return self.candidates.chosen(self.procedure.recipe.choice)

    @cached_property
    def members(self) -> pd.DataFrame:
        """Return the members' rows of the leaderboard, best first."""
        return self.candidates.trials(self.rows).reset_index(drop=True)

    @cached_property
    def fitted(self) -> Fitted:
        """Return the procedure, fitted to all patients judged."""
        return self.procedure.fit(self.members_NP, self.labels_P)

    @cached_property
    def members_NP(self) -> np.ndarray:
        """Return what each member said of every patient judged, out of fold."""
        return self.candidates.oof_CP[self.rows]

    @cached_property
    def probability_P(self) -> np.ndarray:
        """Return what the ensemble says of every patient judged: members out of fold, combiner fitted to all."""
        return self.fitted.probability(self.members_NP)

    @cached_property
    def p_best_M(self) -> np.ndarray:
        """Return in which share of the resamples each trial that may enter has the lowest log loss."""
        loss_SM = self.comparison.resamples.losses("log_loss")[0]
        return np.bincount(loss_SM.argmin(axis=1), minlength=loss_SM.shape[1]) / len(loss_SM)

    @property
    def n_folds(self) -> int:
        return self.description.protocol.folds

    @property
    def simulated(self) -> bool:
        return bool(self.cohort.simulated)


def gather(run: Run, data: str | Path | None, ensemble: str | None, pictures: bool) -> Facts:
    """Return the facts of a run; ensemble: name of a saved one, the newest unless named.

    Raises InputError where its cohort is not at hand, or too few trials have ended.
    """
    description, live = run.description, run.status == "running"
    board = run.leaderboard
    cohort = trained_cohort(run, data)
    check_roles(cohort)
    comparison = Comparison.of(read_candidates(run, cohort))
    bundle = saved_ensemble(run, ensemble)
    procedure = procedure_of(bundle, comparison.candidates)
    scores = score(comparison, procedure)
    source = data or description.cohort.data
    return Facts(run, description, board, cohort, comparison, procedure, scores, bundle, pictures, live, source)


def saved_ensemble(run: Run, name: str | None) -> Ensemble | None:
    """Return the saved ensemble of that name, or the newest that is whole; None where there is none."""
    saved = sorted(run.path.glob("ensembles/[!.]*/ensemble.yaml"), key=lambda path: path.stat().st_mtime_ns)
    if name is None:
        return next(filter(None, map(_load_or_say, reversed(saved))), None)
    for path in saved:
        if path.parent.name == name:
            return Ensemble.load(path.parent)
    there = ", ".join(sorted(path.parent.name for path in saved)) or "none"
    raise InputError(f"{run.path / 'ensembles' / name}: no such ensemble; there are: {there}")


def _load_or_say(path: Path) -> Ensemble | None:
    """Return a saved ensemble; None, and a line on stderr, where it is damaged."""
    try:
        return Ensemble.load(path.parent)
    except InputError as error:
        console.say(f"left out, damaged: {one_line(str(error))}")
        return None


def procedure_of(bundle: Ensemble | None, candidates: Candidates) -> Procedure:
    """Return what the ensemble was made by; without one the mean of the best trials, networks where there are any."""
    if bundle is None:
        source = "networks" if candidates.allowed(Choice("networks")).any() else "all"
        return asked("top", top=min(TOP, int(candidates.allowed(Choice(source)).sum())), source=source)
    return bundle.procedure
