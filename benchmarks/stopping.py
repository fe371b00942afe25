"""What early stopping saves and what it loses: every rule replayed on trials that were all trained to their end.

    python benchmarks/stopping.py --space frozen --seeds 5 --records DIR [--weights DIR]

For each seed (of folds, configurations and training) all networks of a space are trained once without stopping, on one
thread; out-of-fold probabilities and seconds of every epoch are kept in DIR, and what is there is not trained again.
Then each rule decides on the recorded scores, one trial after the other, as a search with one worker would (several
workers also train epochs that a late decision throws away).

The honest log loss is that of choosing the best trial, or the mean of the best five, by out-of-fold log loss among all
that was trained, stopped trials at the epoch of their stop; the choice is redone in resamples of the patients, and
scored on those left out. The stops are not redone: they are given, for every rule alike.

Shapes: T trials, E epochs, P patients, S resamples.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lymphtune.cohort import Cohort
from lymphtune.registry import stopping_rules
from lymphtune.searching.plan import Plan, Trial
from lymphtune.searching.prepare import prepare
from lymphtune.searching.racing import Racing
from lymphtune.searching.rungs import Rungs, standing
from lymphtune.searching.settings import Settings
from lymphtune.searching.stopping import Options, Rule
from lymphtune.statistics.bootstrap import resample
from lymphtune.statistics.honest import HeldOutScorer, ResampledPredictions
from lymphtune.statistics.metrics import balanced_log_loss, class_weights, log_losses

RULES = ("none", "asha", "median", "racing", "asha+racing", "median+racing")
RESAMPLES = 500
TOP = 5
CLOSE = 0.01  # the target: so near to the honest log loss of having trained everything


class Recorded(NamedTuple):
    """All trials of one seed, trained to their end."""

    oof_TEP: np.ndarray
    seconds_TE: np.ndarray
    labels_P: np.ndarray
    folds_P: np.ndarray

    @property
    def losses_TE(self) -> np.ndarray:
        return balanced_log_loss(self.oof_TEP, self.labels_P)


class Replayed(NamedTuple):
    """What a rule makes of a search, as shares of training everything."""

    epochs: float
    seconds: float
    one: float  # honest log loss of the best trial
    five: float  # of the mean of the best five
    one_alike: float  # the same of training everything for as many epochs: of the first trials alone
    five_alike: float
    loses_best: bool
    one_reaches: float  # share of all epochs until it is within CLOSE of training everything; infinite: never
    five_reaches: float


def record(space: str, data: str, settings: Settings, path: Path) -> Recorded:
    """Return every trial of a search trained to its end; each is kept as it ends, and not trained again."""
    cohort, plan = prepare(space, data, settings)
    if len(plan.networks) < len(plan.trials):
        raise SystemExit(f"{space}: has clinical models, which have one epoch; take a space of networks")
    judged = plan.folds_RP[0] >= 0
    shape = (len(plan.trials), plan.epochs, int(judged.sum()))
    found = Recorded(
        np.full(shape, np.nan), np.full(shape[:2], np.nan), cohort.labels[judged], plan.folds_RP[0, judged]
    )
    if path.exists():
        with np.load(path) as kept:
            ended = min(len(kept["seconds_TE"]), shape[0])
            found.oof_TEP[:ended], found.seconds_TE[:ended] = kept["oof_TEP"][:ended], kept["seconds_TE"][:ended]
    left = [trial for trial in plan.networks if np.isnan(found.seconds_TE[trial.number, -1])]
    if left:
        _train(left, plan, cohort, found, path)
    return found


def _train(left: Sequence[Trial], plan: Plan, cohort: Cohort, found: Recorded, path: Path) -> None:
    import torch

    from lymphtune.training.frozen import distinct_frozen, features
    from lymphtune.training.lockstep import Protocol, train

    torch.set_num_threads(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    judged = plan.folds_RP[0] >= 0
    for chosen in distinct_frozen([trial.configuration for trial in left]):
        features(chosen, cohort, torch.device("cpu"))  # outside the clock, as in a search
    for trial in left:
        for result in train(trial.configuration, cohort, Protocol(plan.folds_RP, plan.epochs, trial.seed)):
            found.oof_TEP[trial.number, result.epoch - 1] = result.probabilities_RP[:, judged].mean(axis=0)
            found.seconds_TE[trial.number, result.epoch - 1] = result.seconds
        print(f"{path.stem}, trial {trial.number}: {found.seconds_TE[trial.number].sum():.1f} s", flush=True)
        np.savez(path, **found._asdict())


def rules_of(words: str, options: Options) -> list[Rule]:
    """Return fresh rules; `asha+racing` is both."""
    return [Racing(options) if word == "racing" else stopping_rules[word].build(options) for word in words.split("+")]


def ends(found: Recorded, rules: Sequence[Rule]) -> np.ndarray:
    """Return the epochs [T] that each trial is trained under the rules."""
    n_trials, last = found.seconds_TE.shape
    rungs, losses_TE = Rungs(rules, last, n_trials), found.losses_TE
    trained_T = np.full(n_trials, last)
    for trial in range(n_trials):
        for epoch in range(1, last + 1):
            said_ERP = found.oof_TEP[trial, max(epoch - 3, 0) : epoch, None]
            said = (list(losses_TE[trial, :epoch]), list(said_ERP), found.labels_P, found.folds_P[None])
            rungs.reach(trial, epoch, standing(str(trial), *said))
            if trial in rungs.stopped_at:
                trained_T[trial] = epoch
                break
        rungs.end(trial)
    return trained_T


def honest(oof_TP: np.ndarray, labels_P: np.ndarray, counts_SP: np.ndarray, top: int) -> float:
    """Return the log loss of the mean of the best trials on patients that did not choose them."""
    scores_ST = class_weights(labels_P, counts_SP) @ log_losses(oof_TP, labels_P).T
    chosen_ST = np.argsort(scores_ST, axis=1, kind="stable")[:, :top]
    return (
        HeldOutScorer(labels_P, counts_SP)
        .score(ResampledPredictions.plain(oof_TP[chosen_ST].mean(axis=1)), "log_loss")
        .value
    )


def replay(found: Recorded, rules: Sequence[Rule]) -> Replayed:
    """Return what the rules save and lose."""
    n_trials, last = found.seconds_TE.shape
    counts_SP = resample(found.labels_P, RESAMPLES, seed=0)
    trained_T = ends(found, rules)
    shown_TP = found.oof_TEP[np.arange(n_trials), trained_T - 1]
    seconds = np.where(np.arange(last) < trained_T[:, None], found.seconds_TE, 0)
    alike = max(round(trained_T.mean() / last * n_trials), 1)
    losses, losses_alike, reached = [], [], []
    for top in (1, TOP):
        target = honest(found.oof_TEP[:, -1], found.labels_P, counts_SP, top) + CLOSE
        losses_T = [honest(shown_TP[: trial + 1], found.labels_P, counts_SP, top) for trial in range(n_trials)]
        first = next((trial for trial, loss in enumerate(losses_T) if loss <= target), None)
        losses.append(losses_T[-1])
        losses_alike.append(honest(found.oof_TEP[:alike, -1], found.labels_P, counts_SP, top))
        reached.append(np.inf if first is None else trained_T[: first + 1].sum() / trained_T.size / last)
    loses_best = bool(trained_T[found.losses_TE[:, -1].argmin()] < last)
    spent = (trained_T.mean() / last, seconds.sum() / found.seconds_TE.sum())
    return Replayed(*map(float, spent), *losses, *losses_alike, loses_best, *reached)


def table(records: Sequence[Recorded], options: Options) -> str:
    """Return one line a rule: means over the seeds, and the sd of paired differences to training everything."""
    replays = {words: [replay(found, rules_of(words, options)) for found in records] for words in RULES}
    n_trials, last, n_patients = records[0].oof_TEP.shape
    lines = [
        f"{len(records)} seeds, {n_trials} trials x {last} epochs, {n_patients} patients, grace {options.grace}, "
        f"reduction {options.reduction}. Alike: `none` for as many epochs. Reached: within {CLOSE} of `none`; median "
        "share of all epochs until then.",
        "| rule | epochs | seconds | honest log loss, best | - none (sd) | alike | reached | mean of 5 | - none (sd) "
        "| alike | reached | loses the best |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for words, each in replays.items():
        mean = Replayed(*np.mean(np.array(each, dtype=float), axis=0))
        cells = [words, f"{100 * mean.epochs:.0f} %", f"{100 * mean.seconds:.0f} %"]
        for name in ("one", "five"):
            mine, theirs = (np.array([getattr(one, name) for one in some]) for some in (each, replays["none"]))
            apart = mine - theirs
            reached = np.array([getattr(one, f"{name}_reaches") for one in each])
            middle = f", {100 * np.median(reached):.0f} %" if np.isfinite(np.median(reached)) else ""
            cells += [f"{mine.mean():.3f}", f"{apart.mean():+.3f} ({apart.std(ddof=1):.3f})"]
            cells += [f"{getattr(mean, f'{name}_alike'):.3f}"]
            cells += [f"{np.isfinite(reached).sum()} of {len(each)}{middle}"]
        cells += [f"{sum(one.loses_best for one in each)} of {len(each)}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="frozen")
    parser.add_argument("--data", default="simulated")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=27)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--grace", type=int, default=3)
    parser.add_argument("--reduction", type=int, default=3)
    given = parser.parse_args()
    records = []
    for seed in range(given.seeds):
        settings = Settings(
            trials=given.trials, epochs=given.epochs, folds=given.folds, seed=seed, weights=given.weights
        )
        path = given.records / f"{Path(given.space).stem}-{given.folds}x{given.epochs}-{seed}.npz"
        records.append(record(given.space, given.data, settings, path))
    print(table(records, Options(grace=given.grace, reduction=given.reduction)))


if __name__ == "__main__":
    main()
