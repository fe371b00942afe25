"""How long a report takes and how large it is, on a run whose trials are made up: nobody trains for it.

    python benchmarks/report.py [--trials 200] [--patients 163] [--epochs 60] [--repeats 1] [--keep FOLDER]

The cohort is the simulated one, drawn anew; what trials say of patients is drawn, better with epochs and for some
choices of the space than for others; halving, folders, leaderboard and the ensemble are the search's own. The weights
of the ensemble's networks are those before training, so that cells and saliency cost what they cost.

Shapes: R repeats, P patients.
"""

import argparse
import io
import os
import sys
import tempfile
import time
from contextlib import redirect_stderr
from pathlib import Path
from unittest.mock import patch

import numpy as np
from scipy.special import expit

import lymphtune
from lymphtune.cohort import Cohort, load_cohort
from lymphtune.cohort.folds import folds_table
from lymphtune.cohort.simulation.patients import write_simulated
from lymphtune.files import hashes, write_table, write_yaml
from lymphtune.runs.run import Run
from lymphtune.searching.board import Board
from lymphtune.searching.description import describe
from lymphtune.searching.epoch_report import Report
from lymphtune.searching.plan import Plan, Trial
from lymphtune.searching.prepare import prepare
from lymphtune.searching.settings import Settings
from lymphtune.searching.trial import WEIGHTS_AT

CELLS = 80  # a patient, about


def made_up_run(folder: Path, trials: int, patients: int, epochs: int, repeats: int, space: str, cells: int) -> Run:
    """Return a finished run with an ensemble, whose trials were never trained."""
    data = folder / "cohort"
    write_simulated(data, round(patients * 1.25), cells)
    settings = Settings(trials=trials, epochs=epochs, repeats=repeats, runs=folder / "runs", name="made-up")
    cohort, plan = prepare(space, data, settings)
    run = Run(folder / "runs" / "made-up")
    run.path.mkdir(parents=True)
    description = describe(run, cohort, plan, data)
    write_yaml(run.path / "run.yaml", description.as_yaml())
    write_table(run.path / "folds.parquet", folds_table(cohort, plan.folds_RP), cohort.about)
    board = Board(run, cohort, plan)
    rng = np.random.default_rng(0)
    for trial in [*plan.baselines, *plan.trials]:
        _make_up(board, trial, cohort, plan, rng)
    board.close()
    write_yaml(run.path / "run.yaml", description.changed(status="done").as_yaml())
    with patch("lymphtune.ensembling.build.check_reproduction"):  # made-up probabilities are no network's
        lymphtune.ensemble(run=run.path, top=min(5, trials))
    return run


def _make_up(board: Board, trial: Trial, cohort: Cohort, plan: Plan, rng: np.random.Generator) -> None:
    """Report epoch after epoch of a trial until it is stopped or at its end; every twentieth fails."""
    shape, sides_P = plan.folds_RP.shape, cohort.labels - 0.5
    hard_P = np.random.default_rng(1).standard_normal(shape[1])  # a patient is hard for all trials
    noise_RP = hard_P + 0.5 * rng.standard_normal(shape[1]) + 0.3 * rng.standard_normal(shape)
    configuration = trial.configuration
    skill = rng.normal(2.2, 0.3)
    if configuration.training is not None and configuration.model is not None:
        skill -= 0.5 * abs(np.log10(configuration.training.learning_rate) + 3)
        skill += 0.8 * (configuration.model.fusion.word != "none")
    for epoch in range(1, trial.epochs + 1):
        share = epoch / trial.epochs if trial.epochs > 1 else 1.0
        probability_RP = expit(skill * share * sides_P + noise_RP + 0.2 * rng.standard_normal(shape))
        probability_RP[plan.folds_RP < 0] = np.nan
        gates_RP = np.where(plan.folds_RP < 0, np.nan, rng.uniform(0.2, 0.8, shape))
        files: dict[str, str] = {}
        if epoch in {*plan.rungs(), trial.epochs}:
            files = _weights(board.run, trial, cohort, plan, epoch)
        curve = {
            "train_loss": 0.7 - 0.5 * share + 0.02 * rng.standard_normal(),
            "train_loss_sd": 0.05 * (1 + share),
            "learning_rate": 1e-3,
            "seconds": 1.0,
            "chunk_pixels": 0,
        }
        if not trial.baseline and trial.number % 20 == 19 and epoch == 2:
            board.end(trial.number, "loss is nan in epoch 2")
            return
        if not board.report(trial.number, Report(epoch, probability_RP, gates_RP, curve, files)):
            break
    board.end(trial.number)


def _weights(run: Run, trial: Trial, cohort: Cohort, plan: Plan, epoch: int) -> dict[str, str]:
    """Write weights of networks as they begin, and of clinical models that have learnt nothing much."""
    from lymphtune.training.lockstep import Protocol, train

    folder = run.trial(trial.hash) / WEIGHTS_AT.format(epoch)
    if trial.configuration.kind == "clinical":
        next(iter(train(trial.configuration, cohort, Protocol(plan.folds_RP, 1, trial.seed)))).save(folder)
    else:
        from safetensors.torch import save_file

        from lymphtune.models.bag_classifier import BagClassifier
        from lymphtune.training.lockstep import fold_models, member_name

        folder.mkdir(parents=True)
        for r, k in fold_models(plan.folds_RP):
            state = BagClassifier(trial.configuration).state_dict()
            state = {name: value.contiguous() for name, value in state.items()}
            save_file(state, folder / f"{member_name(r, k)}.safetensors")
    return hashes(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, usual in (("trials", 200), ("patients", 163), ("epochs", 60), ("repeats", 1), ("cells", CELLS)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--space", default="mixed")
    parser.add_argument("--keep", type=Path, help="folder to make the run in, and to leave it in")
    given = vars(parser.parse_args())
    keep = given.pop("keep")
    with tempfile.TemporaryDirectory(prefix="lt-report-") as scratch:
        folder = keep or Path(scratch)
        if keep is None:
            os.environ["LYMPHTUNE_CACHE"] = f"{scratch}/cache"
        with redirect_stderr(io.StringIO()):
            run = made_up_run(folder, **given)
        load_cohort(folder / "cohort")  # its cache is there, as after any search
        began = time.monotonic()
        from lymphtune.reporting.report import write_report

        path = write_report(run)
        print(
            f"report of {given['trials']} trials, {given['patients']} patients, {given['epochs']} epochs: "
            f"{time.monotonic() - began:.1f} s, {path.stat().st_size / 1e6:.2f} MB"
        )


if __name__ == "__main__":
    sys.exit(main())
