"""A trial on a Ray worker: the training generator, its reports, and weights at every epoch that may be its last."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lymphtune.cohort import Cohort
from lymphtune.config import Configuration, digest
from lymphtune.files import write_text
from lymphtune.searching.board import WEIGHTS_AT

FAILED = "failed"
CHUNKS = "chunk_pixels"  # folder of one small file an encoder
CURVE = ("train_loss", "learning_rate", "seconds", "chunk_pixels", "fused")


@dataclass(frozen=True)
class Shared:
    """What every trial of a run reads: put into Ray's object store once."""

    cohort: Cohort
    plan: Any  # searching.plan.Plan
    run_path: Path
    device: str
    arithmetic: Any  # training.arithmetic.Arithmetic

    def train(self, number: int) -> Any:
        """Return the generator of epoch results of one trial."""
        from lymphtune.training.lockstep import Protocol, train

        trial = self.plan.trials[number]
        protocol = Protocol(
            self.plan.folds_RP, trial.epochs, trial.seed, self.arithmetic, self.plan.settings.fused,
            read_chunk(chunk_file(self.run_path, trial.configuration)),
        )  # fmt: skip
        return train(trial.configuration, self.cohort, protocol, self.device)


def run_trial(config: dict[str, int], shared: Shared) -> None:
    """Train trial `config["number"]`, reporting every epoch; a failure we expect is reported by name."""
    import torch
    from ray import tune

    from lymphtune.training.lockstep import Diverged

    torch.set_num_threads(shared.plan.settings.cpus_per_trial)
    try:
        _train(config["number"], shared, tune.report)
    except Diverged as error:
        tune.report({FAILED: f"diverged: {error}"})
    except (MemoryError, torch.OutOfMemoryError) as error:
        tune.report({FAILED: f"out of memory: {error or 'on this machine'}"})


def _train(number: int, shared: Shared, report: Any) -> None:
    trial = shared.plan.trials[number]
    keep = {*shared.plan.rungs(), trial.epochs}
    with closing(shared.train(number)) as results:
        for result in results:
            if result.epoch in keep:
                weights = shared.run_path / "trials" / trial.hash / WEIGHTS_AT.format(result.epoch)
                result.save(weights)
            known = chunk_file(shared.run_path, trial.configuration)
            if result.chunk_pixels and result.chunk_pixels < (read_chunk(known) or result.chunk_pixels + 1):
                write_text(known, f"{result.chunk_pixels}\n")
            curve = {name: getattr(result, name) for name in CURVE}
            said = {"epoch": result.epoch, "probabilities": result.probabilities_RP, "gates": result.gates_RP}
            report(said | curve)


def chunk_file(run: Path, configuration: Configuration) -> Path:
    """Return the file that remembers for the run's later trials how much of such an encoder's input fitted."""
    model = configuration.model
    return run / CHUNKS / ("none" if model is None else f"{digest(model.encoder.as_yaml())}.txt")


def read_chunk(path: Path) -> int | None:
    """Return the pixels that fitted into an encoder at once after an earlier trial of the run ran out of memory."""
    try:
        return int(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
