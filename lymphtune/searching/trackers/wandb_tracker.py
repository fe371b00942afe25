"""Weights & Biases: one run a trial, in a project, grouped by search; its files lie in the search's folder."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lymphtune.runs.ledger import Ledger
from lymphtune.searching.trackers.tracker import Delivered, Ending, TrackedTrial, Undelivered

FOLDER, SENT = "wandb", "sent.jsonl"  # of a run; what has been handed over is written down there
SETTINGS = {  # as far as the installed version knows them
    "silent": True,
    "console": "off",
    "init_timeout": 15.0,
    "finish_timeout": 10.0,
    "finish_timeout_raises": True,
    "x_disable_stats": True,
    "disable_git": True,
    "disable_code": True,
}


class WandbTracker:
    """See Tracker. A run's identifier follows from search and trial, so that it is continued, never made twice."""

    def __init__(self, project: str, search: str, folder: Path) -> None:
        self.place = f"Weights & Biases, project {project}"
        self.project, self.search, self.folder = project, search, folder
        self._open: dict[str, Any] = {}
        self._ledger = Ledger(folder / FOLDER / SENT)
        self._sent = {
            fact["trial"]: Delivered(fact["epochs"], fact["status"])
            for fact in self._ledger.read()
            if fact.keys() >= {"trial", "epochs", "status"}
        }

    def delivered(self, trial: TrackedTrial) -> Delivered:
        return self._sent.get(trial.hash, Delivered())

    def trial_started(self, trial: TrackedTrial, at_s: float) -> None:
        self._run(trial)

    def epoch(self, trial: TrackedTrial, metrics: Mapping[str, float], at_s: float) -> None:
        run, epoch = self._run(trial), int(metrics["epoch"])
        if epoch >= run.step:  # where it is continued, the steps before are there
            run.log(dict(metrics), step=epoch)
            self._sent[trial.hash] = Delivered(epoch)

    def trial_ended(self, trial: TrackedTrial, ending: Ending, at_s: float) -> None:
        run = self._run(trial)
        run.summary.update({"status": ending.status, "reason": ending.reason})
        del self._open[trial.hash]
        try:
            run.finish(exit_code=int(ending.status == "failed"))
        except TimeoutError as error:
            where = self.folder / FOLDER
            raise Undelivered(f"no answer in time; the data are in {where}, and `wandb sync` sends them") from error
        self._sent[trial.hash] = Delivered(ending.epochs, ending.status)
        self._ledger.append({"trial": trial.hash, "epochs": ending.epochs, "status": ending.status})

    def close(self) -> None:
        for run in self._open.values():
            run.finish()

    def _run(self, trial: TrackedTrial) -> Any:
        if trial.hash not in self._open:
            import wandb

            known = wandb.Settings.model_fields
            identifier = hashlib.sha256(f"{trial.search} {trial.hash}".encode()).hexdigest()[:16]
            self.folder.joinpath(FOLDER).mkdir(exist_ok=True)
            self._open[trial.hash] = wandb.init(
                project=self.project,
                group=self.search,
                name=trial.name,
                id=identifier,
                resume="allow",
                reinit="create_new",
                dir=str(self.folder),
                config=dict(trial.parameters) | {"trial": trial.hash, **trial.tags},
                settings=wandb.Settings(**{name: value for name, value in SETTINGS.items() if name in known}),
            )
        return self._open[trial.hash]
