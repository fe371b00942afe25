"""A trial on a Ray worker: the training generator, its reports, and weights at every epoch that may be its last."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lymphtune.cohort import Cohort
from lymphtune.files import write_text
from lymphtune.searching.board import WEIGHTS_AT

FAILED = "failed"
CHUNK = "chunk_pixels.txt"
CURVE = ("train_loss", "learning_rate", "seconds")


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
            read_chunk(self.run_path),
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
            if result.chunk_pixels and result.chunk_pixels < (read_chunk(shared.run_path) or result.chunk_pixels + 1):
                write_text(shared.run_path / CHUNK, f"{result.chunk_pixels}\n")
            report({
                "epoch": result.epoch, "probabilities": result.probabilities_RP, "gates": result.gates_RP,
                "train_loss": result.train_loss, "learning_rate": result.learning_rate, "seconds": result.seconds,
            })  # fmt: skip


def read_chunk(run: Path) -> int | None:
    """Return the pixels that fitted into an encoder at once after an earlier trial of the run ran out of memory."""
    try:
        return int((run / CHUNK).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
