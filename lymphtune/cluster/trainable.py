"""A trial on a Ray worker: what Ray Tune calls, and by which names it reports."""

from typing import Any

from lymphtune.errors import InputError
from lymphtune.masking import masked
from lymphtune.searching.plan import Trial
from lymphtune.searching.trial import Shared, train_on

SAID = "said"
FAILED = "failed"
NO_ROOM = "no_room"


def run_trial(config: dict[str, Any], shared: Shared) -> None:
    """Train the trial that `config` describes, reporting every epoch; a failure we expect is reported by name."""
    import torch
    from ray import tune

    from lymphtune.training.lockstep import Diverged

    torch.set_num_threads(shared.plan.settings.cpus_per_trial)
    try:
        # in a list, or Tune would flatten it
        trial = Trial.of_config(config)
        with shared.at_hand(trial) as (here, push):
            train_on(trial, here, lambda fact: tune.report({SAID: [fact]}), config["heard"], push)
    except Diverged as error:
        tune.report({FAILED: f"diverged: {error}"})
    except (MemoryError, torch.OutOfMemoryError) as error:
        tune.report({FAILED: f"out of memory: {error or 'on this machine'}"})
    except InputError as error:  # all that was handed in has been read: a disk or a storage that takes no more
        tune.report({NO_ROOM: masked(str(error))})
