"""What a search would cost: how its steps are timed."""

import time

import pytest
import torch

from lymphtune.cluster import cost as measuring


def test_what_a_gpu_still_has_to_do_is_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call returns before the GPU has done its work; the next one that waits would be taken for slow."""
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: time.sleep(0.2))
    assert measuring._timed(lambda: None, torch.device("cuda")) >= 0.2
    assert measuring._timed(lambda: None, torch.device("cpu")) < 0.2
