"""The main job at the study's size: 163 labelled patients, 42 to predict, about 80 cells each.

    python benchmarks/study_size.py OUT [--patients 205] [--cells 80] [--trials 8] [--budget 300] [--weights DIR]

Draws a cohort, then runs the commands that a user would run on it, each as a process of its own: `doctor`, `search` of
the spaces `frozen` and `everything` (with a time budget), `ensemble` by every shipped recipe, `predict` on patients
drawn anew, `report`. Before the ensembles, the logits of the best plain network are multiplied by 50, so that one
member is saturated: its probabilities are exactly 0 and 1 in float32. Prints a row for each command, and writes the
rows to OUT/study_size.json. Without --weights the frozen backbone has random weights.

Shapes: P patients.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from lymphtune.cohort import Cohort, load_cohort
from lymphtune.ensembling.recipe import all_recipes
from lymphtune.files import hashes, read_yaml, write_json, write_table, write_yaml
from lymphtune.models.fusions.concat import Concat
from lymphtune.models.fusions.none import PicturesOnly
from lymphtune.runs.run import Run, read_table
from lymphtune.statistics.metrics import METRICS
from lymphtune.training.loading import load_network, predict_with

NEW_PATIENTS, SEED = 42, 11
BACKBONE = "tf_efficientnet_lite0"
LOGIT_FACTOR = 50.0
EXPECTED_CODES = {"doctor": (0, 3)}  # 3: warnings


@dataclass(frozen=True)
class Size:
    """How much is drawn and searched; the defaults are the study's size."""

    patients: int = 205
    cells: int = 80  # a patient, about
    trials: int = 8  # of the frozen space
    budget_s: int = 300  # for the space `everything`


@dataclass(frozen=True)
class Step:
    """One command: its exit code, its wall time, and the file that holds what it printed."""

    name: str
    command: str
    code: int
    seconds: float
    log: str

    @property
    def as_expected(self) -> bool:
        return self.code in EXPECTED_CODES.get(self.name.split()[0], (0,))


class Session:
    """Runs commands of lymphtune in a folder, and keeps a Step of each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.steps = folder, list[Step]()
        (folder / "logs").mkdir(parents=True)

    def run(self, name: str, *words: object) -> Step:
        """Run `lymphtune` with these words; the step is printed when it ends."""
        log = self.folder / "logs" / f"{len(self.steps):02d}-{name.replace(' ', '-')}.txt"
        command = [str(word) for word in words]
        started = time.monotonic()
        with log.open("w") as output:
            ended = subprocess.run(
                [sys.executable, "-m", "lymphtune", *command], cwd=self.folder, stdout=output, stderr=subprocess.STDOUT
            )
        step = Step(name, " ".join(command), ended.returncode, round(time.monotonic() - started, 1), str(log))
        self.steps.append(step)
        print(f"{step.name:34} {step.seconds:8.1f} s  exit code {step.code}", flush=True)
        return step


def whole_job(folder: Path, size: Size, weights: Path | None = None) -> list[Step]:
    """Run every command on a cohort of that size below `folder`, a new folder, and return a step for each."""
    session = Session(folder)
    weights = (weights or random_backbone(folder / "backbones")).resolve()
    drawn = ("--patients", size.patients, "--cells", size.cells, "--seed", SEED)
    session.run("simulate", "simulate", "cohort", *drawn)
    new = ("--patients", NEW_PATIENTS, "--cells", size.cells, "--seed", SEED + 1, "--prefix", "NEW")
    session.run("simulate new patients", "simulate", "new", *new)
    session.run("doctor", "doctor", "--data", "cohort")
    search = ("search", "--data", "cohort", "--weights", weights)
    session.run("search frozen", *search, "--space", "frozen", "--name", "frozen", "--trials", size.trials)
    saturate_best(Run(folder / "runs" / "frozen"), load_cohort(folder / "cohort"))
    for recipe in all_recipes():
        session.run(f"ensemble {recipe.name}", "ensemble", "--run", "frozen", "--recipe", recipe.name)
    calibrated = ("--calibration", "isotonic", "--threshold", "tuned", "--name", "calibrated")
    session.run("ensemble calibrated", "ensemble", "--run", "frozen", "--top", 5, *calibrated)
    session.run("predict", "predict", "--ensemble", "runs/frozen/ensembles/top", "--data", "new")
    session.run("report", "report", "--run", "frozen")
    everything = ("--space", "everything", "--name", "everything", "--time-budget", size.budget_s)
    session.run("search everything", *search, *everything)
    session.run("ensemble of everything", "ensemble", "--run", "everything", "--recipe", "blend")
    session.run("report of everything", "report", "--run", "everything")
    write_json(folder / "study_size.json", [asdict(step) for step in session.steps])
    return session.steps


def random_backbone(folder: Path) -> Path:
    """Return a folder with random weights of the backbone that the spaces name."""
    import timm

    folder.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(timm.create_model(BACKBONE, pretrained=False).state_dict(), folder / f"{BACKBONE}.safetensors")
    return folder


def saturate_best(run: Run, cohort: Cohort, factor: float = LOGIT_FACTOR) -> str:
    """Multiply the logits of the best plain network of the run by `factor`, and return its trial.

    Weights, their hashes, and the out-of-fold probabilities of the last epoch become those of the changed network.
    """
    board = run.leaderboard.query("kind == 'network' and status == 'done'")
    trial = next(trial for trial in board["trial"] if _is_plain(run, trial))
    folder, configuration = run.trial(trial), run.configuration(trial)
    oof = read_table(folder / "oof.parquet")
    last, row_of = oof["epoch"] == oof["epoch"].max(), {patient: row for row, patient in enumerate(cohort.ids)}
    for path in sorted((folder / "weights").glob("repeat-*.safetensors")):
        state = load_file(path)
        for key in _last_layer(load_network(path, configuration)):
            state[key] = state[key] * factor
        save_file(state, path)
        _, repeat, _, fold = path.stem.split("-")
        held_out = last & (oof["repeat"] == int(repeat)) & (oof["fold"] == int(fold))
        rows_P = np.array([row_of[patient] for patient in oof.loc[held_out, "patient"]])
        oof.loc[held_out, "probability"] = predict_with(path, configuration, cohort, rows_P).probability_P
    write_table(folder / "oof.parquet", oof, cohort.about)
    described = read_yaml(folder / "config.yaml")
    write_yaml(folder / "config.yaml", described | {"weights": hashes(folder / "weights")})
    saturated = oof.loc[last, "probability"].isin([0.0, 1.0]).mean()
    print(f"{trial}: logits x {factor:.0f}, {100 * saturated:.0f} % of its probabilities are exactly 0 or 1")
    return trial


def _is_plain(run: Run, trial: str) -> bool:
    """Return whether one head makes the trial's logits."""
    model = run.configuration(trial).model
    return model is not None and model.fusion.word in ("none", "concat")


def _last_layer(model: torch.nn.Module) -> list[str]:
    """Return the names of the weights of the head's last layer."""
    assert isinstance(model.fusion, Concat | PicturesOnly)
    names = [name for name, _ in model.fusion.head.named_parameters(prefix="fusion.head")]
    return names[-2:]


def truth(folder: Path, predictions: Path) -> dict[str, float]:
    """Return the metrics of predictions.parquet against the labels that the simulation kept aside."""
    predicted = pd.read_parquet(predictions).set_index("patient")["probability"]
    labels = pd.read_csv(next(folder.glob("truth_of_*.csv"))).set_index("ID").iloc[:, -1]
    of_P = labels.loc[predicted.index].to_numpy()
    return {name: round(float(metric(predicted.to_numpy(), of_P)), 3) for name, metric in METRICS.items()}


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("out", type=Path, metavar="OUT", help="new folder for the cohorts, runs and logs")
    for name, default in asdict(Size()).items():
        option = name.replace("_s", "").replace("_", "-")
        asked.add_argument(
            f"--{option}", dest=name, type=int, default=default, metavar="N", help=f"(default: {default})"
        )
    asked.add_argument(
        "--weights", type=Path, metavar="DIR", help=f"folder of {BACKBONE}.safetensors (default: random)"
    )
    given = asked.parse_args()
    size = Size(**{name: getattr(given, name) for name in asdict(Size())})
    steps = whole_job(given.out.resolve(), size, given.weights)
    for recipe in ("top", "blend"):
        path = given.out / "runs" / "frozen" / "ensembles" / recipe / "predictions.parquet"
        print(f"{recipe} on the patients to predict: {json.dumps(truth(given.out / 'cohort', path))}")
    return 0 if all(step.as_expected for step in steps) else 1


if __name__ == "__main__":
    sys.exit(main())
