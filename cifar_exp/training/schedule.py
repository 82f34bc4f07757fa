"""Learning-rate schedules over a number of optimizer steps, and how much of its schedule a run used.

Every schedule peaks at ``max_lr``. ``scheduler.interval`` is ``step`` or ``epoch``: when the schedule advances by one
step. With ``epoch`` most of it stays unused, as in the published run, which did not report that.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from cifar_exp.config.groups.scheduler import SchedulerConfig
from cifar_exp.config.targets import call
from cifar_exp.errors import RequestError


def build_scheduler(
    node: SchedulerConfig, optimizer: torch.optim.Optimizer, *, max_lr: float, total_steps: int
) -> LRScheduler:
    """Build the scheduler of a resolved ``scheduler`` node for a plan of ``total_steps``."""
    scheduler = call(node, optimizer, without=("interval",), max_lr=max_lr, total_steps=total_steps)
    assert isinstance(scheduler, LRScheduler)
    return scheduler


def one_cycle(optimizer: torch.optim.Optimizer, *, max_lr: float, total_steps: int, **options: Any) -> LRScheduler:
    """One-cycle policy (Smith & Topin 2018, arXiv 1708.07120); options as in PyTorch's ``OneCycleLR``."""
    if total_steps < 2:
        raise RequestError("scheduler=one_cycle needs at least 2 steps; use more epochs or a smaller batch_size")
    if options.get("pct_start", 0.3) * total_steps == 1:
        # PyTorch divides by the length of the first phase minus 1, which would be 0: make pct_start slightly smaller.
        options["pct_start"] = math.nextafter(options["pct_start"], 0.0)
    # Groups can have different learning rates, for example the biases.
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, max_lr=peaks, total_steps=total_steps, **options)


def relative_to_max_lr(factor: Callable[..., float]) -> Callable[..., LRScheduler]:
    """Make a schedule of a function of the step (from 0), the number of steps and options.

    It returns the learning rate relative to ``max_lr``.
    """

    def schedule(optimizer: torch.optim.Optimizer, *, max_lr: float, total_steps: int, **options: Any) -> LRScheduler:
        return LambdaLR(optimizer, lambda step: factor(step, total_steps, **options))

    return schedule


@relative_to_max_lr
def cosine(step: int, total: int, *, warmup_fraction: float = 0.0) -> float:
    """Linear warm-up, then half a cosine to zero (Loshchilov & Hutter 2017, arXiv 1608.03983)."""
    warmup = round(warmup_fraction * total)
    if step < warmup:
        return (step + 1) / warmup
    # Ends one step before zero: a last step with learning rate 0 would have no effect.
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


@relative_to_max_lr
def multistep(
    step: int, total: int, *, milestones: Sequence[float] = (), gamma: float = 1.0, warmup_fraction: float = 0.0
) -> float:
    """``max_lr``, multiplied by ``gamma`` at each milestone, a fraction of the steps; after an optional warm-up."""
    passed = sum(step >= milestone * total for milestone in milestones)
    return min(1.0, (step + 1) / max(1, round(warmup_fraction * total))) * gamma**passed


constant = multistep  # without milestones


@relative_to_max_lr
def triangle(step: int, total: int, *, peak_at: float, start_factor: float, end_factor: float) -> float:
    """Straight up to ``max_lr`` and straight down (Jordan 2024, arXiv 2404.00498).

    ``peak_at`` is a fraction of the steps; 0 starts at the peak. ``end_factor`` is one step after the last: a last step
    at 0 would have no effect.
    """
    peak = math.floor(peak_at * total)
    if step < peak:
        return start_factor + (1 - start_factor) * step / peak
    return 1 + (end_factor - 1) * (step - peak) / (total - peak)


def plateau(
    optimizer: torch.optim.Optimizer, *, max_lr: float, total_steps: int, factor: float, patience: int, threshold: float
) -> LRScheduler:
    """``max_lr``, multiplied by ``factor`` when the selection metric has stopped improving.

    ``patience`` counts epochs.
    """
    # eps: by default PyTorch ignores reductions of tiny learning rates.
    return ReduceLROnPlateau(optimizer, "max", factor, patience, threshold, threshold_mode="abs", eps=0.0)


def planned_learning_rates(node: SchedulerConfig, *, max_lr: float, total_steps: int) -> NDArray[np.float64]:
    """Compute the learning rate of each planned step, (total_steps,), by the scheduler itself.

    For a plateau schedule it is ``max_lr`` throughout: its reductions are not known beforehand.
    """
    # Any optimizer serves, as schedules do not use gradients; this one has a momentum to cycle.
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=max_lr, momentum=0.9)
    scheduler = build_scheduler(node, optimizer, max_lr=max_lr, total_steps=total_steps)
    if isinstance(scheduler, ReduceLROnPlateau):
        return np.full(total_steps, max_lr)
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(total_steps - 1):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return np.array(rates)


@dataclass(frozen=True)
class ScheduleUse:
    """How much of its planned schedule a run used."""

    planned: int  # steps in the schedule
    used: int  # steps of the schedule that the optimizer used
    planned_peak: float  # largest learning rate of the schedule
    used_peak: float  # largest learning rate that the optimizer used

    @property
    def complete(self) -> bool:
        """Whether the run used the whole schedule."""
        return self.used == self.planned

    def __str__(self) -> str:
        if self.complete:
            return f"complete: all {self.planned:,} planned steps used, peak learning rate {self.used_peak:g}"
        return (
            f"incomplete: {self.used:,} of {self.planned:,} planned steps used; the learning rate peaked at "
            f"{self.used_peak:.6g} instead of the planned {self.planned_peak:g}"
        )


def measure_use(interval: str, planned: NDArray[np.float64], used: NDArray[np.float64], epochs: int) -> ScheduleUse:
    """Compare the planned schedule with the learning rates that the optimizer used.

    ``planned`` are (total_steps,) and ``used`` (steps taken,) learning rates; ``epochs`` were started.
    """
    positions = len(used) if interval == "step" else epochs
    return ScheduleUse(len(planned), positions, float(planned.max()), float(used.max()))
