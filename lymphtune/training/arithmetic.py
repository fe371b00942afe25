"""Precision and memory layout: found by a short trial on the machine at hand, and remembered for it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from lymphtune import console
from lymphtune.cohort.pictures import cache_dir
from lymphtune.config import configuration, digest
from lymphtune.errors import InputError
from lymphtune.files import write_json
from lymphtune.models.bag_classifier import BagClassifier
from lymphtune.platforms import processor

TRIED = {"model": {"encoder": "resnet"}, "data": {"crop_px": 112}}  # the network that is timed
CELLS = {"cpu": 8, "cuda": 384}  # a GPU's time with fewer is that of the calls, whatever the arithmetic
ROUNDS = 4
HOPELESS_S = 0.7  # no first step of plain float32 takes so long on a machine of today
NO_ROOM_S = 1e9  # stands for the time of a step that the memory does not suffice for
WORTH = 0.9  # another arithmetic than plain float32 has to take less than this share of its time


class Arithmetic(NamedTuple):
    """precision: bfloat16 (autocast) or float32; channels_last: the pictures' layout in memory."""

    precision: str = "float32"
    channels_last: bool = True

    def autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16")


@contextmanager
def exact() -> Iterator[None]:
    """Let GPUs multiply float32 as such within the block: convolutions would round to 10 bits first (TF32)."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def usual(device: torch.device) -> Arithmetic:
    """Return what is known to be faster where the processor multiplies bfloat16; nothing is measured."""
    if device.type == "cuda":
        fits = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fits = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return Arithmetic("bfloat16" if fits else "float32")


def measured(device: torch.device, threads: int) -> Arithmetic:
    """Return the fastest arithmetic of training steps on this machine.

    Kept in the cache folder: another search on the same machine takes the same, whatever else runs meanwhile.
    """
    torch.set_num_threads(threads)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    measured_on = [name, processor(), torch.__version__, threads, CELLS[device.type]]
    kept = cache_dir() / f"arithmetic-{digest(measured_on)}.json"
    try:
        precision, channels_last = json.loads(kept.read_text(encoding="utf-8"))["fastest"]
        found = Arithmetic(precision, channels_last)
        if found in _candidates(device):
            return found
    except (OSError, ValueError, KeyError, TypeError):
        console.say("Measuring precision and layout, once on this machine ...")
    took_s = {tried: _seconds(tried, device) for tried in _candidates(device)}
    fastest, plain = min(took_s, key=lambda tried: took_s[tried]), Arithmetic("float32", channels_last=False)
    chosen = fastest if took_s[fastest] < WORTH * took_s[plain] else plain
    if device.type == "cuda":
        torch.cuda.empty_cache()  # the trials are other processes
    try:
        write_json(kept, {"fastest": chosen, "tried": list(took_s), "seconds": list(took_s.values())})
    except InputError as error:
        console.say(f"What was measured is not kept: {error}")
    return chosen


def _candidates(device: torch.device) -> list[Arithmetic]:
    precisions = ["float32", "bfloat16"] if device.type == "cpu" or torch.cuda.is_bf16_supported() else ["float32"]
    return [Arithmetic(precision, last) for precision in precisions for last in (False, True)]


def _seconds(tried: Arithmetic, device: torch.device) -> float:
    """Return the least time of a step of a small network, the first one left out."""
    torch.manual_seed(0)
    model = BagClassifier(configuration(TRIED, "arithmetic")).to(device)
    model.lay_out(tried.channels_last)
    attributes_BA = torch.zeros(2, 2, device=device)
    try:
        cells = torch.randint(0, 256, (CELLS[device.type], 112, 112, 3), dtype=torch.uint8, device=device)
        first = _step(model, tried, cells, attributes_BA)
        if device.type == "cpu" and first > HOPELESS_S:  # bfloat16 where the processor has to imitate it
            return first
        return min(_step(model, tried, cells, attributes_BA) for _ in range(ROUNDS))
    except torch.OutOfMemoryError:
        return NO_ROOM_S


def _step(model: BagClassifier, tried: Arithmetic, cells: Tensor, attributes_BA: Tensor) -> float:
    started = time.perf_counter()
    with tried.autocast(cells.device):
        said = model(cells, (len(cells) // 2,) * 2, attributes_BA)
    said.probability_B.float().sum().backward()
    if cells.device.type == "cuda":
        torch.cuda.synchronize(cells.device)
    return time.perf_counter() - started
