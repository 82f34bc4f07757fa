"""LR range test (Smith 2017, arXiv 1506.01186): train on a rising learning rate, and suggest a ``max_lr``.

PyTorch is imported where it is needed: ``compare`` reads results, and ``lr-find --help`` the defaults.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cifar_exp.run_dir import tables

if TYPE_CHECKING:
    import torch

    from cifar_exp.config.schema import ExperimentConfig
    from cifar_exp.data.batches import TrainingBatches
    from cifar_exp.training.step import TrainingStep

FILE, FIGURE = "lr_find.csv", "lr_find.png"

FIRST_STEPS = 10  # their learning rates change nothing yet: they show the initial loss and its noise
_SMOOTHING = 0.9  # weight of the past: a value is about the mean of the last ten batches
_DIVERGED_AT_ONCE = 1.5  # times the untrained network's loss
# In units of the noise of single batches; without a fall, 100 smoothed losses stay within about 1.5 of it.
_LEAST_FALL, _LEAST_RISE = 2.0, 3.0
_DIGITS = 2  # of a suggestion; noise of the batches moves it by more than a third digit


@dataclass(frozen=True)
class LRRange:
    """``steps`` learning rates from ``low`` to ``high``, in equal ratios."""

    low: float = 1e-5
    high: float = 10.0
    steps: int = 100


@dataclass(frozen=True)
class Suggestion:
    """A peak learning rate for the schedule, and why."""

    max_lr: float | None  # to two digits; None if the result allows no suggestion
    reason: str  # a sentence
    cautions: tuple[str, ...] = ()  # why the suggestion is doubtful, and what to do
    lowest: float | None = None  # learning rate with the lowest smoothed loss; None if the loss did not fall


@dataclass
class LRRangeTest:
    """The losses of an LR range test, by step."""

    learning_rates: list[float] = field(default_factory=list)  # rising
    # Of each step's batch, before the update; the last one can be infinite or NaN.
    losses: list[float] = field(default_factory=list)
    # Exponentially weighted means of the losses, corrected for their start at zero (as Adam's moments are; Gugger
    # 2018, "How do you find a good learning rate").
    smoothed: list[float] = field(default_factory=list)
    _average: float = 0.0
    _lowest: float = np.inf

    def add(self, learning_rate: float, loss: float) -> None:
        """Append a step."""
        self.learning_rates.append(learning_rate)
        self.losses.append(loss)
        self._average = _SMOOTHING * self._average + (1 - _SMOOTHING) * loss
        self.smoothed.append(self._average / (1 - _SMOOTHING ** len(self.losses)))
        if len(self.losses) >= FIRST_STEPS:
            self._lowest = min(self._lowest, self.smoothed[-1])

    @property
    def initial_loss(self) -> float:
        """Mean loss of the first steps."""
        return float(np.mean(self.losses[:FIRST_STEPS]))

    @property
    def noise(self) -> float:
        """Standard deviation of the first steps' losses: the difference between batches."""
        return float(np.std(self.losses[:FIRST_STEPS]))

    @property
    def diverged(self) -> bool:
        """Whether the test can stop.

        The loss is not finite, or it has lost half of its fall, by more than noise. (Networks with batch normalization
        never reach the usual limit, a multiple of the lowest loss: they recover and show a second, false minimum.)
        """
        if not np.isfinite(self.losses[-1]):
            return True
        if len(self.losses) <= FIRST_STEPS:
            return False
        fall = self.initial_loss - self._lowest
        return self.smoothed[-1] - self._lowest > max(0.5 * fall, _LEAST_RISE * self.noise)

    def suggest(self) -> Suggestion:
        """Suggest the learning rate at which the loss has completed half of its fall.

        There the network learns fast, at a safe distance from the lowest loss, where training becomes unstable. The
        half-way point varies less between seeds than the steepest slope or a tenth of the minimum's learning rate.
        """
        smoothed = np.array(self.smoothed)
        finite = np.isfinite(smoothed)
        if not finite.any():
            return Suggestion(None, f"The loss is {self.losses[0]} at the first step: the network cannot be trained.")
        rates = np.array(self.learning_rates)
        if not finite[:FIRST_STEPS].all() or self.initial_loss > _DIVERGED_AT_ONCE * self.losses[0]:
            reason = f"The loss diverged at once, at learning rates from {rates[0]:.2g} on: start lower (--min-lr)."
            return Suggestion(None, reason)
        smoothed = np.where(finite, smoothed, np.inf)
        begin = FIRST_STEPS - 1  # the values before are means of few batches
        lowest = begin + int(smoothed[begin:].argmin())
        fall = self.initial_loss - smoothed[lowest]
        if not fall > _LEAST_FALL * self.noise:
            reason = f"The loss did not fall at any learning rate from {rates[0]:.2g} to {rates[-1]:.2g}"
            return Suggestion(None, f"{reason}: take more steps (--steps) or another range (--min-lr, --max-lr).")
        half = begin + int(np.argmax(smoothed[begin:] <= self.initial_loss - fall / 2))
        reason = (
            f"Half of the loss's fall from {self.initial_loss:.3g} to {smoothed[lowest]:.3g} is done at "
            f"{rates[half]:.2g}; it is lowest at {rates[lowest]:.2g}, {rates[lowest] / rates[half]:.1f} times that."
        )
        cautions = []
        if half < 2 * FIRST_STEPS:
            cautions.append("The loss fell from the first steps on: try smaller learning rates, too (--min-lr).")
        if lowest == len(smoothed) - 1 and not self.diverged:
            cautions.append("The loss was still falling at the largest learning rate: try larger ones (--max-lr).")
        return Suggestion(rounded(rates[half]), reason, tuple(cautions), float(rates[lowest]))

    def rows(self) -> list[Mapping[str, Any]]:
        """The rows of ``lr_find.csv``."""
        columns = zip(self.learning_rates, self.losses, self.smoothed, strict=True)
        return [dict(zip(tables.LR_FIND_COLUMNS, (step, *row), strict=True)) for step, row in enumerate(columns, 1)]


def run_lr_range_test(
    config: "ExperimentConfig",
    model: "torch.nn.Module",
    batches: "TrainingBatches",
    training_step: "TrainingStep",
    lr_range: LRRange,
) -> LRRangeTest:
    """Train a copy of ``model`` on a learning rate that rises from step to step, until the loss diverges.

    It has the config's optimizer, and the schedule's momentum at the peak. The network, its buffers and all random
    generators stay as they were. The result depends neither on ``max_lr`` nor on ``epochs``, so all jobs of a sweep
    over those get the same one. An epoch's smaller last batch is left out, because its loss is noisier.
    """
    from tqdm.auto import tqdm

    from cifar_exp.compute.seeding import derived_seed, generators_kept
    from cifar_exp.config.groups.scheduler import OneCycleConfig
    from cifar_exp.safe_io.console import shows_bars
    from cifar_exp.training.optimizer import build_optimizer, set_max_lr, set_momentum

    compute, result = training_step.compute, LRRangeTest()
    with generators_kept(compute.device, seed=derived_seed(config.seed, "lr_find")):  # dropout draws from them
        trained = copy.deepcopy(model)
        trained.train()
        optimizer = build_optimizer(config.optimizer, trained, lr_range.low, compute.precision)
        if isinstance(config.scheduler, OneCycleConfig) and config.scheduler.cycle_momentum:
            set_momentum(optimizer, config.scheduler.base_momentum)  # the momentum at the peak learning rate
        rates = np.geomspace(lr_range.low, lr_range.high, lr_range.steps).tolist()
        shown = tqdm(rates, desc="LR range test", unit=" steps", disable=not shows_bars(), leave=False)
        full = min(batches.batch_size, len(batches.split))
        endless = (batch for epoch in count(1) for batch in batches.epoch(epoch) if len(batch[1]) == full)
        for number, rate in enumerate(shown, start=1):
            set_max_lr(optimizer, config.optimizer, trained, rate)
            step_batches = list(islice(endless, training_step.accumulate))
            result.add(rate, training_step(trained, optimizer, step_batches, number=number).loss.item())
            if result.diverged:
                break
        shown.close()
    return result


def rounded(learning_rate: float) -> float:
    """A learning rate to the digits of a suggestion.

    >>> rounded(0.051234)
    0.051
    """
    return float(f"{learning_rate:.{_DIGITS - 1}e}")


def read_lr_range_test(path: Path) -> LRRangeTest:
    """Read a ``lr_find.csv``; the smoothed losses are computed again.

    Raises:
        OSError: the file is missing.
        ValueError: the file is damaged.
    """
    table, result = tables.read_table(path, tables.LR_FIND_COLUMNS), LRRangeTest()
    rates, losses = (table[name].astype(float).tolist() for name in ("learning_rate", "loss"))
    if not rates or not all(0 < rate < np.inf for rate in rates):
        raise ValueError("it has no steps, or one without a learning rate")
    for rate, loss in zip(rates, losses, strict=True):
        result.add(rate, loss)
    return result


def neighbours(max_lr: float) -> NDArray[np.float64]:
    """(3,) a third of a suggestion, the suggestion and three times it: what a sweep should try."""
    return np.array([rounded(max_lr / 3), max_lr, rounded(3 * max_lr)])
