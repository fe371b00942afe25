"""What part of a GPU a trial gets: as many at once as its memory holds and its time has room for, by measured steps."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lymphtune.cluster.cost import MEASURED, both_classes, kinds
from lymphtune.cohort import Cohort
from lymphtune.searching.plan import Plan, Trial

MOST = 8  # trials on one GPU: beyond, their processes are in each other's way
ROOM = 0.85  # of a GPU's memory; the rest is for fragments, and for bags larger than those that were measured
STEPS = 4


def fraction(memory_share: float, busy_share: float) -> float:
    """Return 1/n for the n trials that fit: each takes such a share of the memory, and keeps the GPU busy so much."""
    by_memory, by_time = ROOM / max(memory_share, 1e-9), 1 / max(busy_share, 1e-9)
    return 1 / max(1, min(MOST, int(by_memory + 1e-9), int(by_time + 1e-9)))


def measured_fraction(cohort: Cohort, plan: Plan, device_name: str, precision: Any) -> float:
    """Return the fraction that fits the most demanding of a few kinds of trials; run it where a whole GPU is free."""
    import torch

    device = torch.device(device_name)
    shares = [demand(cohort, plan, trial, device, precision) for trial in list(kinds(plan).values())[:MEASURED]]
    return min((fraction(*share) for share in shares), default=1.0)


def demand(cohort: Cohort, plan: Plan, trial: Trial, device: Any, precision: Any) -> tuple[float, float]:
    """Return the shares of the device's memory and time that a trial takes, measured on all its fold models."""
    import gc

    import torch

    from lymphtune.training.batches import Bags
    from lymphtune.training.frozen import placeholder_features
    from lymphtune.training.lockstep import fold_models
    from lymphtune.training.network import NetworkMember

    assert trial.configuration.training is not None
    cuda = device.type == "cuda"
    if cuda:
        gc.collect()
        torch.cuda.empty_cache()  # of what was measured before
        torch.cuda.reset_peak_memory_stats(device)
    bags = Bags(cohort, trial.configuration.data, device, placeholder_features(trial.configuration, cohort))
    rows = both_classes(cohort, STEPS * trial.configuration.training.patients_per_step)
    members = [
        NetworkMember(trial.configuration, bags, rows, max(trial.epochs, 2), [trial.seed, *which], precision)
        for which in fold_models(plan.folds_RP)
    ]

    def train_epoch() -> list[float]:
        return [member.train_epoch(1) for member in members]

    train_epoch()  # warms up
    members[0].predict(rows)
    busy = busy_share(train_epoch, cuda)
    if not cuda:
        return 0.0, busy
    free, total = torch.cuda.mem_get_info(device)
    others = total - free - torch.cuda.memory_reserved(device)  # the process's own context: every trial has one
    return (torch.cuda.max_memory_reserved(device) + others) / total, busy


def busy_share(work: Callable[[], object], cuda: bool) -> float:
    """Return the share of the work's time in which the device computes; of the CPU's own where there is no GPU.

    The work is done twice: its time is taken without the profiler, which takes its own to start and to end.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile

    def wait() -> None:
        if cuda:
            torch.cuda.synchronize()

    wait()
    started = time.perf_counter()
    work()
    wait()
    wall_us = 1e6 * (time.perf_counter() - started)
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiled:
        work()
        wait()
    name = "self_device_time_total" if cuda else "self_cpu_time_total"
    return min(1.0, sum(getattr(event, name) for event in profiled.key_averages()) / wall_us)


def slim(plan: Plan) -> Plan:
    """Return the plan with no more trials than are measured, to be sent to where they are."""
    return replace(plan, trials=list(kinds(plan).values())[:MEASURED])
