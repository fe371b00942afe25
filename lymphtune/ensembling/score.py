"""What an ensemble is worth: beside its members and the best baseline, flattered and honest.

Shapes: P patients ever held out.
"""

from dataclasses import dataclass

import numpy as np

from lymphtune.ensembling.candidates import Candidates
from lymphtune.ensembling.recipe import Recipe
from lymphtune.statistics.bootstrap import Interval, interval, spread
from lymphtune.statistics.honest import left_out_scores
from lymphtune.statistics.metrics import METRICS


@dataclass(frozen=True)
class Scores:
    """Naive metrics by row of the summary; honest balanced accuracy of whole procedures, on left-out patients."""

    naive: dict[str, dict[str, Interval]]
    honest: dict[str, Interval]
    against_baseline: Interval
    better_than_baseline: float  # share of resamples


def score(candidates: Candidates, baselines: Candidates, recipe: Recipe, said_P: np.ndarray) -> Scores:
    """Return the scores; said_P are the ensemble's out-of-fold probabilities."""
    labels_P = candidates.labels_P
    best = baselines.choose(1)[0]
    naive = {"ensemble": _metrics(said_P, labels_P)}
    for row in candidates.choose(recipe.trials):
        naive[str(candidates.table["trial"].iloc[candidates.trial_C[row]])] = _metrics(candidates.oof_CP[row], labels_P)
    naive["baseline"] = _metrics(baselines.oof_CP[best], labels_P)

    def ensemble(counts_P: np.ndarray) -> np.ndarray:
        chosen_MP = candidates.oof_CP[candidates.choose(recipe.trials, counts_P)]
        drawn = np.repeat(np.arange(len(counts_P)), counts_P)
        combiner = recipe.build().fit(chosen_MP[:, drawn], labels_P[drawn])
        return combiner.predict_proba(chosen_MP)

    drawn = left_out_scores(
        labels_P,
        {
            "ensemble": ensemble,
            "best single trial": lambda counts_P: candidates.oof_CP[candidates.choose(1, counts_P)[0]],
            "best baseline": lambda counts_P: baselines.oof_CP[baselines.choose(1, counts_P)[0]],
        },
    )
    gain = drawn["ensemble"] - drawn["best baseline"]
    return Scores(
        naive=naive,
        honest={name: spread(float(values.mean()), values) for name, values in drawn.items()},
        against_baseline=spread(float(gain.mean()), gain),
        better_than_baseline=float((gain > 0).mean() + 0.5 * (gain == 0).mean()),
    )


def _metrics(probabilities_P: np.ndarray, labels_P: np.ndarray) -> dict[str, Interval]:
    return {name: interval(metric, probabilities_P, labels_P) for name, metric in METRICS.items()}


def summary(scores: Scores, titles: dict[str, str], simulated: bool) -> str:
    """Return the scores as lines of at most 80 columns; `titles` name the rows of `naive`."""
    lines = [f"{'out-of-fold, flattered by choosing':43} {'BA (95 %)':17} rec. spec. AUC"]
    for name, metrics in scores.naive.items():
        ba = metrics["balanced_accuracy"]
        lines.append(
            f"{titles[name][:43]:43} {ba.value:.3f} ({ba.low:.2f}-{ba.high:.2f}) "
            f"{metrics['recall'].value:.2f} {metrics['specificity'].value:.2f}  {metrics['auc'].value:.3f}"
        )
    ensemble = scores.naive["ensemble"]
    intervals = ", ".join(f"{m} {ensemble[m].low:.2f}-{ensemble[m].high:.2f}" for m in ("recall", "specificity", "auc"))
    lines += [f"  95 % intervals of the ensemble: {intervals}", ""]
    lines.append("honest: all choosing repeated in 1000 resamples, scored on patients left out")
    for name, honest in scores.honest.items():
        lines.append(f"  {name:34} {honest.value:.3f} ({honest.low:.2f}-{honest.high:.2f})")
    optimism = scores.naive["ensemble"]["balanced_accuracy"].value - scores.honest["ensemble"].value
    gain = scores.against_baseline
    lines += [
        f"  optimism of the ensemble's {ensemble['balanced_accuracy'].value:.3f}: {optimism:+.3f}",
        f"  ensemble minus best baseline: {gain.value:+.3f} ({gain.low:+.2f} to {gain.high:+.2f}), "
        f"better in {100 * scores.better_than_baseline:.0f} %",
    ]
    if gain.low <= 0:
        lines.append("  The networks are not shown to beat age and lymphocyte count alone.")
    if simulated:
        lines.append("SIMULATED cohort: these numbers say nothing about people.")
    return "\n".join(lines)
