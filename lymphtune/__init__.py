"""Search many bag-of-cells classifiers, stop the weak ones early, and average the best into one steady answer.

`search` and `ensemble` do what the commands of the same names do; `Ensemble.load(folder).predict_proba(cohort)`
applies a saved ensemble; `load_cohort` reads patients and pictures.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lymphtune.cohort import Cohort, load_cohort
    from lymphtune.ensembling.bundle import Ensemble
    from lymphtune.runs import Run

__all__ = ["Cohort", "Ensemble", "ensemble", "load_cohort", "search"]


def search(space: str = "mixed", data: str | Path | None = None, **settings: Any) -> "Run":
    """Return the finished run; `settings` are those of `lymphtune.searching.plan.Settings`.

    Raises InputError on anything a person can mend.
    """
    from lymphtune.searching.plan import Settings
    from lymphtune.searching.search import search as run_search

    return run_search(space, data, Settings(**settings))


def ensemble(
    recipe: str = "top", run: str | Path | None = None, data: str | Path | None = None, **options: Any
) -> "Ensemble":
    """Return the saved ensemble of a run (the latest in ./runs unless named).

    `options` are those of `lymphtune.ensembling.procedure.asked`: top, source, threshold, calibration, refer,
    error_rate. Raises InputError on anything a person can mend.
    """
    from lymphtune.ensembling.build import build_ensemble
    from lymphtune.ensembling.procedure import asked

    return build_ensemble(asked(recipe, **options), run, data=data)


def __getattr__(name: str) -> Any:
    """Import the slow modules when they are first asked for."""
    if name in ("Cohort", "load_cohort"):
        from lymphtune import cohort

        return getattr(cohort, name)
    if name == "Ensemble":
        from lymphtune.ensembling.bundle import Ensemble

        return Ensemble
    raise AttributeError(f"module 'lymphtune' has no attribute '{name}'")
