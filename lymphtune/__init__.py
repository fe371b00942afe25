"""Search many bag-of-cells classifiers, stop the weak ones early, and average the best into one steady answer.

`search` and `ensemble` do what the commands of the same names do; `Ensemble.load(folder).predict_proba(cohort)`
applies a saved ensemble; `load_cohort` reads patients and pictures.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lymphtune.cohort import Cohort, load_cohort
    from lymphtune.ensembling.bundle import Ensemble
    from lymphtune.runs.run import Run

__all__ = ["Cohort", "Ensemble", "ensemble", "load_cohort", "search"]


def search(space: str | Path = "mixed", data: str | Path | None = None, **settings: Any) -> "Run":
    """Return the finished run; `settings` are those of `lymphtune.searching.settings.Settings`.

    A date may be given as the text YYYY-MM-DD, a time as 90s, 30m or 2h, a path as text.
    Raises InputError on anything a person can mend.
    """
    from lymphtune.cli.options import brought
    from lymphtune.cluster.driver import search as run_search
    from lymphtune.searching.settings import Settings

    with brought("search", settings) as given:
        return run_search(space, data, Settings.of(given))


def ensemble(
    recipe: str | Path = "top", run: str | Path | None = None, data: str | Path | None = None, **options: Any
) -> "Ensemble":
    """Return the saved ensemble of a run (the latest in ./runs unless named).

    `options` are name (of its folder, the recipe's unless given) and those of
    `lymphtune.ensembling.procedure.asked`: top, source, include_stopped, threshold, calibration, refer,
    error_rate. Raises InputError on anything a person can mend.
    """
    from lymphtune.arguments import check_names, checked, keywords
    from lymphtune.ensembling.build import build_ensemble
    from lymphtune.ensembling.procedure import asked

    check_names(options, ["name", *(name for name in keywords(asked) if name != "recipe")], "ensemble")
    name = checked(str | None, "name", options.pop("name", None))
    return build_ensemble(asked(recipe, **options), run, data=data, name=name)


def __getattr__(name: str) -> Any:
    """Import the slow modules when they are first asked for."""
    if name in ("Cohort", "load_cohort"):
        from lymphtune import cohort

        return getattr(cohort, name)
    if name == "Ensemble":
        from lymphtune.ensembling.bundle import Ensemble

        return Ensemble
    raise AttributeError(f"module 'lymphtune' has no attribute '{name}'")
