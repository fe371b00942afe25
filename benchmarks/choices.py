"""What each choice of a search was worth: trials with a word against trials without it.

    python benchmarks/choices.py runs/NAME

For every word, and for each half of every range, the mean over the trials that have it minus the mean over those that
could have had it and do not: balanced log loss at the first rung, where no trial has been stopped yet, and balanced
accuracy at the last epoch, which also tells who was allowed to go on. Intervals are bootstraps over trials. Nothing but
the drawing of the space balances the other choices, and all trials are judged by the same patients: a hint where to
look, not a finding.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from lymphtune.runs.run import Run, read_table

RESAMPLES = 2000
FEWEST = 4  # trials on either side


def flat(given: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return every choice by its path: words of parts, and their options below them."""
    choices: dict[str, Any] = {}
    for key, value in given.items():
        here = f"{path}.{key}".lstrip(".")
        if here in PARTS and isinstance(value, dict):
            ((word, options),) = value.items()
            choices[here] = word
            choices |= flat(options, f"{here}.{word}")
        elif isinstance(value, dict):
            choices |= flat(value, here)
        else:
            choices[here] = tuple(value) if isinstance(value, list) else value
    return choices


PARTS = ("model.encoder", "model.aggregator", "model.fusion", "model.head", "training.schedule", "clinical")


def worth(scores_T: np.ndarray, having_T: np.ndarray, rng: np.random.Generator) -> tuple[float, float, float]:
    """Return the difference of means, and its 95 % interval over resampled trials of either side."""
    ours, theirs = scores_T[having_T], scores_T[~having_T]
    sampled = [rng.choice(side, (RESAMPLES, len(side))).mean(axis=1) for side in (ours, theirs)]
    low, high = np.quantile(sampled[0] - sampled[1], [0.025, 0.975])
    return float(ours.mean() - theirs.mean()), float(low), float(high)


def sides(values: list[Any]) -> dict[str, np.ndarray]:
    """Return which trials have each value, or the upper half of many numbers."""
    different = sorted(set(values), key=str)
    if len(different) > 5 and all(isinstance(value, int | float) for value in different):
        middle = float(np.median(np.array(values, dtype=float)))
        return {f"above {middle:.3g}": np.array(values, dtype=float) > middle}
    if len(different) == 2:
        different = different[1:]
    return {str(value): np.array([other == value for other in values]) for value in different}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    run = Run(parser.parse_args().run)
    table = run.leaderboard
    table = table[~table["baseline"] & (table["status"] != "failed") & (table["kind"] == "network")]
    rung = min([*run.description.protocol.rungs, int(table["epochs"].min())])
    early = [
        read_table(run.trial(str(trial)) / "curves.parquet")["log_loss"].iloc[rung - 1] for trial in table["trial"]
    ]
    scores = [np.array(early), table["balanced_accuracy"].to_numpy()]
    chosen = [flat(run.configuration(str(trial)).as_yaml()) for trial in table["trial"]]
    print(f"{run.name}: {len(table)} networks; with the choice minus without it (95 % over trials)")
    print(f"{'choice':52} {'with':>4} {'of':>4}  {f'log loss, epoch {rung}':24}  balanced accuracy")
    rng = np.random.default_rng(0)
    for path in sorted({path for choices in chosen for path in choices}):
        could = np.array([path in choices for choices in chosen])
        for name, having_T in sides([choices[path] for choices in chosen if path in choices]).items():
            if min(having_T.sum(), (~having_T).sum()) < FEWEST:
                continue
            cells = [worth(score_T[could], having_T, rng) for score_T in scores]
            shown = "  ".join(f"{mean:+.3f} ({low:+.3f} to {high:+.3f})" for mean, low, high in cells)
            label = f"{path.removeprefix('model.').removeprefix('training.')} = {name}"
            print(f"{label[:52]:52} {having_T.sum():4} {len(having_T):4}  {shown}")


if __name__ == "__main__":
    main()
