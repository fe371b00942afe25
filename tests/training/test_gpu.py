"""What only a GPU can show: that it learns what a CPU learns, makes room, and gives its memory back.

Left out where there is none. What the CPU can show of the same code is tested beside it.
"""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lymphtune.cluster.fractions import demand
from lymphtune.cohort import Cohort
from lymphtune.config import Configuration
from lymphtune.searching.prepare import prepare
from lymphtune.searching.settings import Settings
from lymphtune.training import network
from lymphtune.training.batches import Bags
from lymphtune.training.loading import predict_with
from lymphtune.training.lockstep import Diverged, EpochResult, Start, train
from lymphtune.training.network import NetworkMember
from lymphtune.training.precision import Precision, full_float32
from tests.training.networks import CPU, probabilities, protocol, small

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

GPU = torch.device("cuda")
PLAIN = {"mlp": {"hidden": [8], "dropout": 0.0}}
NORMS = [{"resnet": {"filters": 16, "norm": norm}} for norm in ("batch", "group")]
ARITHMETICS = [Precision("float32", False), Precision("float32", True), Precision("bfloat16", True)]
CONTEXT = 150e6  # bytes that cuBLAS keeps for itself


@pytest.fixture(autouse=True)
def _room() -> Iterator[None]:
    gc.collect()
    torch.cuda.empty_cache()
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def allow(n_bytes: float) -> None:
    """Let this process take so much of the GPU."""
    torch.cuda.set_per_process_memory_fraction(n_bytes / torch.cuda.get_device_properties(GPU).total_memory)


def members(chosen: Configuration, cohort: Cohort, device: torch.device, precision: Precision) -> list[NetworkMember]:
    bags = Bags(cohort, chosen.data, device)
    return [NetworkMember(chosen, bags, cohort.labelled, 2, [0, 0, k], precision) for k in range(3)]


def gradient(member: NetworkMember) -> torch.Tensor:
    return torch.cat([p.grad.float().cpu().ravel() for p in member.live.parameters() if p.grad is not None])


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def trained(chosen: Configuration, cohort: Cohort, **wanted: Any) -> list[EpochResult]:
    return list(train(chosen, cohort, protocol(cohort, **wanted), "cuda"))


@pytest.mark.parametrize("encoder", NORMS, ids=["batch", "group"])
def test_it_learns_from_the_same_cells_what_a_cpu_learns(tiny_cohort: Cohort, encoder: Any) -> None:
    chosen = small(encoder=encoder, head=PLAIN)
    there, here = (members(chosen, tiny_cohort, device, ARITHMETICS[0])[0] for device in (GPU, CPU))
    assert there.bags.resident_CSS3 is not None
    batches = [next(member.batches(1)) for member in (there, here)]
    assert batches[0].cells.cpu().equal(batches[1].cells)
    with full_float32():
        losses = [float(member.backward(batch)) for member, batch in zip((there, here), batches, strict=True)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert apart(gradient(there), gradient(here)) < 1e-2


def test_training_goes_on_as_if_there_had_been_no_break(tiny_cohort: Cohort, tmp_path: Path) -> None:
    chosen = small(encoder=NORMS[0], precision="auto")
    wanted = protocol(tiny_cohort, epochs=4)
    unbroken = []
    for result in train(chosen, tiny_cohort, wanted, "cuda"):
        assert result.checkpoint is not None
        result.checkpoint(tmp_path / str(result.epoch))
        unbroken.append(result)
    rest = list(train(chosen, tiny_cohort, wanted, "cuda", Start(2, tmp_path / "2")))
    np.testing.assert_allclose(probabilities(rest), probabilities(unbroken)[2:], rtol=0, atol=0.05)


def test_where_memory_runs_out_chunks_are_halved(tiny_cohort: Cohort) -> None:
    chosen = small(encoder={"resnet": {"filters": 64}}, data={"crop_px": 224, "bag_size": None}, patients_per_step=12)
    (plenty,) = trained(chosen, tiny_cohort, epochs=1)
    most = torch.cuda.max_memory_reserved()
    assert plenty.chunk_pixels == 0
    gc.collect()
    torch.cuda.empty_cache()
    allow(0.5 * most)
    (tight,) = trained(chosen, tiny_cohort, epochs=1)
    assert 0 < tight.chunk_pixels < len(tiny_cohort.pictures_CSS3) * 224**2
    assert np.isfinite(tight.train_loss)


def test_pictures_leave_a_gpu_that_is_full(tiny_cohort: Cohort) -> None:
    bags = Bags(tiny_cohort, small(data={"crop_px": 224}).data, GPU)
    assert bags.resident_CSS3 is not None
    expected = next(bags.evaluation(tiny_cohort.labelled, orientation=3)).cells.cpu()
    allow(torch.cuda.memory_reserved(GPU))
    others: list[torch.Tensor] = []
    with pytest.raises(torch.OutOfMemoryError):
        while True:
            others.append(torch.empty(1_000_000, dtype=torch.uint8, device=GPU))
    found = next(bags.evaluation(tiny_cohort.labelled, orientation=3)).cells.cpu()
    assert bags.resident_CSS3 is None and found.equal(expected)


def left() -> float:
    """Return the bytes that this process still holds of the GPU for its tensors, used or not."""
    return torch.cuda.memory_reserved(GPU)


def test_memory_is_given_back_however_a_trial_ends(tiny_cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = small(encoder={"resnet": {"filters": 32}}, data={"crop_px": 224})
    trained(chosen, tiny_cohort, epochs=1)
    assert left() < CONTEXT
    results = train(chosen, tiny_cohort, protocol(tiny_cohort), "cuda")
    last = next(results)
    assert left() > CONTEXT
    results.close()
    assert left() < CONTEXT and last.epoch == 1
    monkeypatch.setattr(network, "bag_loss", lambda probability_B, *_: probability_B.sum() * torch.nan)
    with pytest.raises(Diverged) as caught:
        trained(chosen, tiny_cohort, epochs=1)
    assert left() < CONTEXT and "epoch 1" in str(caught.value)  # and all that led to it


def test_a_saved_network_says_the_same_on_both(tiny_cohort: Cohort, tmp_path: Path) -> None:
    chosen = small(encoder=NORMS[0], precision="auto")
    (result,) = trained(chosen, tiny_cohort, epochs=1)
    result.save(tmp_path)
    rows = np.arange(len(tiny_cohort.labels))
    for path in sorted(tmp_path.glob("*.safetensors")):
        there, here = (
            predict_with(path, chosen, tiny_cohort, rows, device_name=device_name).probability_P
            for device_name in ("cuda", "cpu")
        )
        np.testing.assert_allclose(there, here, rtol=0, atol=1e-5)


def test_a_trial_s_demand_is_measured(tiny_cohort_folder: Path) -> None:
    cohort, plan = prepare("tiny", tiny_cohort_folder, Settings(trials=4, folds=3))
    memory, busy = demand(cohort, plan, plan.trials[0], GPU, Precision())
    assert 0 < memory < 0.5 and 0.001 < busy <= 1
