"""The time that a whole run takes: estimated before training, and from its own steps during training."""

import copy
import logging
import math
import time
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cifar_exp.compute import memory
from cifar_exp.compute.seeding import generators_kept
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.data.augment.policy import LowResolution
from cifar_exp.data.batches import TrainingBatches
from cifar_exp.data.dataset import Splits
from cifar_exp.safe_io.plural import duration, plural
from cifar_exp.training.step import TrainingStep

log = logging.getLogger(__name__)

_FORWARD_ONLY = 1 / 3  # of the arithmetic of a forward and a backward pass
_WARM_UP_STEPS = 2
_SECONDS_UNTIL_LOGGED = 10.0
# Of the estimate before training.
_LONG_SECONDS = 3600.0
_SLOWEST_STEP_SECONDS = 60.0
_FEW_IMAGES = 5000
_TIMED_STEPS, _TIMED_SECONDS = 3, 5.0


class RunClock:
    """Estimates the time left for all epochs. The unit of work is a training image of full size.

    Args:
        training: (epochs,) work of each epoch's steps.
        evaluation: (epochs,) work of the evaluation after each epoch.
    """

    def __init__(self, training: NDArray[np.float64], evaluation: NDArray[np.float64]) -> None:
        self._training = training
        self._work_before = np.concatenate([[0.0], np.cumsum(training + evaluation)])
        self._steps = 0
        self._start = self._now = (0.0, 0.0)  # time, work
        self._is_logged = False

    @classmethod
    def of(cls, config: ExperimentConfig, splits: Splits, low_resolution: LowResolution | None) -> "RunClock":
        """The clock of a run. Smaller images cost in proportion to their pixels."""
        scale = np.ones(config.epochs)
        if low_resolution is not None:
            scale[: low_resolution.epochs] = (low_resolution.size / config.data.image_size) ** 2
        tests = np.full(config.epochs, float(config.evaluate_test_each_epoch))
        tests[-1] = 1.0
        validation = 0 if splits.validation is None else len(splits.validation)
        return cls(len(splits.train) * scale, _FORWARD_ONLY * (validation + tests * len(splits.test)))

    @property
    def work(self) -> float:
        """Work of the whole run."""
        return float(self._work_before[-1])

    @property
    def seconds_left(self) -> float | None:
        """For all epochs; None in the first steps, which are slower."""
        seconds, work = (now - start for now, start in zip(self._now, self._start, strict=True))
        return (self.work - self._now[1]) * seconds / work if self._steps > _WARM_UP_STEPS else None

    def update(self, epoch: int, fraction: float) -> None:
        """Measure after a step. Soon after the first steps, the time left is logged.

        Args:
            epoch: the step's epoch, from 1.
            fraction: part of the epoch's images processed up to this step.
        """
        self._steps += 1
        self._now = time.monotonic(), float(self._work_before[epoch - 1] + fraction * self._training[epoch - 1])
        if self._steps == _WARM_UP_STEPS:
            self._start = self._now
        left = self.seconds_left
        if left is not None and not self._is_logged and self._now[0] - self._start[0] >= _SECONDS_UNTIL_LOGGED:
            self._is_logged = True
            log.info("About %s left for %s.", duration(left), plural(len(self._training), "epoch"))


def log_shorter_ways(model: nn.Module, training_step: TrainingStep, batches: TrainingBatches, clock: RunClock) -> None:
    """Before training: log how to train for a shorter time, if the estimate is over an hour."""
    if clock.work / batches.batch_size * _SLOWEST_STEP_SECONDS < _LONG_SECONDS:
        return
    try:
        seconds = clock.work * _seconds_per_image(model, training_step, batches, _LONG_SECONDS / clock.work)
    except Exception as error:  # a user's network that cannot be copied, or that runs out of memory
        log.debug("The time of a step cannot be estimated: %s", error)
        return
    if seconds <= _LONG_SECONDS:
        return
    device = training_step.compute.device
    ways = ["experiment=speedrun"]
    ways += [f"data.limit_train={_FEW_IMAGES}"] * (len(batches.split) > _FEW_IMAGES)
    ways += ["a GPU"] * (device.type != "cuda")
    log.info("Training will take about %s on %s. Shorter: %s.", duration(seconds), device, " or ".join(ways))


def _seconds_per_image(model: nn.Module, training_step: TrainingStep, batches: TrainingBatches, enough: float) -> float:
    """The shortest time of some steps, for an image; stops at ``enough``. The steps train a copy of the network."""
    compute, shortest, low = training_step.compute, math.inf, batches.low_resolution
    full_size = 1 if low is None else low.epochs + 1  # an epoch of such images
    with generators_kept(compute.device):
        trained = copy.deepcopy(model).train()
        optimizer = torch.optim.SGD(trained.parameters(), lr=0.0)
        start = last = time.perf_counter()
        for batch in islice(batches.epoch(full_size), _TIMED_STEPS):
            training_step(trained, optimizer, [batch])
            if compute.device.type == "cuda":
                torch.cuda.synchronize()
            now = time.perf_counter()
            shortest, last = min(shortest, (now - last) / len(batch[1])), now
            if shortest < enough or now - start > _TIMED_SECONDS:
                break
    memory.release_free_memory()
    return shortest
