"""Precision and memory format of training: the fastest pair is measured once on each machine and cached."""

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

TIMED_MODEL = {"model": {"encoder": "resnet"}, "data": {"crop_px": 112}}
CELLS_PER_STEP = {"cpu": 8, "cuda": 384}  # with fewer, a GPU's time is that of kernel launches
REPETITIONS = 4
TOO_SLOW_S = 0.7  # a first step longer than this is not repeated; plain float32 is faster on current machines
OUT_OF_MEMORY_S = 1e9  # the time recorded for a step that ran out of memory
WORTHWHILE_RATIO = 0.9  # a candidate replaces plain float32 if it takes less than this fraction of its time


class Precision(NamedTuple):
    """precision: bfloat16 (autocast) or float32; channels_last: memory format of pictures and weights."""

    precision: str = "float32"
    channels_last: bool = True

    def autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16")


@contextmanager
def full_float32() -> Iterator[None]:
    """Disable TF32 within the block: with it a GPU rounds the inputs of float32 convolutions to 10 bits."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def default_precision(device: torch.device) -> Precision:
    """Return bfloat16 where the device supports it in hardware, else float32; nothing is measured."""
    if device.type == "cuda":
        fits = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fits = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return Precision("bfloat16" if fits else "float32")


def fastest_precision(device: torch.device, threads: int) -> Precision:
    """Return the precision and memory format with the fastest training step on this machine.

    The result is cached on disk, so that later searches on the machine use the same, whatever its load.
    """
    torch.set_num_threads(threads)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    measured_on = [name, processor(), torch.__version__, threads, CELLS_PER_STEP[device.type]]
    cache_file = cache_dir() / f"arithmetic-{digest(measured_on)}.json"
    try:
        precision, channels_last = json.loads(cache_file.read_text(encoding="utf-8"))["fastest"]
        cached = Precision(precision, channels_last)
        if cached in _candidates(device):
            return cached
    except (OSError, ValueError, KeyError, TypeError):
        console.say("Measuring the fastest precision and memory format, once on this machine ...")
    seconds = {candidate: _step_seconds(candidate, device) for candidate in _candidates(device)}
    fastest, plain = min(seconds, key=lambda candidate: seconds[candidate]), Precision("float32", channels_last=False)
    chosen = fastest if seconds[fastest] < WORTHWHILE_RATIO * seconds[plain] else plain
    if device.type == "cuda":
        torch.cuda.empty_cache()  # trials run in other processes
    try:
        write_json(cache_file, {"fastest": chosen, "tried": list(seconds), "seconds": list(seconds.values())})
    except InputError as error:
        console.say(f"The measured precision is not cached: {error}")
    return chosen


def _candidates(device: torch.device) -> list[Precision]:
    precisions = ["float32", "bfloat16"] if device.type == "cpu" or torch.cuda.is_bf16_supported() else ["float32"]
    return [Precision(precision, last) for precision in precisions for last in (False, True)]


def _step_seconds(candidate: Precision, device: torch.device) -> float:
    """Return the shortest time of a training step of a small network; the first step only warms up."""
    torch.manual_seed(0)
    model = BagClassifier(configuration(TIMED_MODEL, "arithmetic")).to(device)
    model.set_memory_format(candidate.channels_last)
    attributes_BA = torch.zeros(2, 2, device=device)
    try:
        cells = torch.randint(0, 256, (CELLS_PER_STEP[device.type], 112, 112, 3), dtype=torch.uint8, device=device)
        first = _timed_step(model, candidate, cells, attributes_BA)
        if device.type == "cpu" and first > TOO_SLOW_S:  # bfloat16 emulated by the processor
            return first
        return min(_timed_step(model, candidate, cells, attributes_BA) for _ in range(REPETITIONS))
    except torch.OutOfMemoryError:
        return OUT_OF_MEMORY_S


def _timed_step(model: BagClassifier, candidate: Precision, cells: Tensor, attributes_BA: Tensor) -> float:
    started = time.perf_counter()
    with candidate.autocast(cells.device):
        output = model(cells, (len(cells) // 2,) * 2, attributes_BA)
    output.probability_B.float().sum().backward()
    if cells.device.type == "cuda":
        torch.cuda.synchronize(cells.device)
    return time.perf_counter() - started
