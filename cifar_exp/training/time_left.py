"""The time that is left of a run, estimated from its own steps."""

import logging
import time

import numpy as np
import torch
from numpy.typing import NDArray

from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.data.augment.policy import LowResolution
from cifar_exp.data.dataset import Splits
from cifar_exp.safe_io.plural import duration, plural

log = logging.getLogger(__name__)

_FORWARD_ONLY = 1 / 3  # of the arithmetic of a forward and a backward pass
_WARM_UP_STEPS = 2
_SECONDS_UNTIL_LOGGED = 10.0
_LONG_SECONDS = 3600.0  # from which on the log names shorter ways to train


class RunClock:
    """Estimates the time left for all epochs. The unit of work is a training image of full size.

    Args:
        training: (epochs,) work of each epoch's steps.
        evaluation: (epochs,) work of the evaluation after each epoch.
        shorter: what would shorten a long run.
    """

    def __init__(self, training: NDArray[np.float64], evaluation: NDArray[np.float64], shorter: str = "") -> None:
        self._training, self._shorter = training, shorter
        self._work_before = np.concatenate([[0.0], np.cumsum(training + evaluation)])
        self._steps = 0
        self._start = self._now = (0.0, 0.0)  # time, work
        self._is_logged = False

    @classmethod
    def of(
        cls, config: ExperimentConfig, splits: Splits, low_resolution: LowResolution | None, device: torch.device
    ) -> "RunClock":
        """The clock of a run. Smaller images cost in proportion to their pixels."""
        scale = np.ones(config.epochs)
        if low_resolution is not None:
            scale[: low_resolution.epochs] = (low_resolution.size / config.data.image_size) ** 2
        tests = np.full(config.epochs, float(config.evaluate_test_each_epoch))
        tests[-1] = 1.0
        validation = 0 if splits.validation is None else len(splits.validation)
        shorter = "experiment=speedrun or data.limit_train=5000" + (" or a GPU" if device.type != "cuda" else "")
        return cls(len(splits.train) * scale, _FORWARD_ONLY * (validation + tests * len(splits.test)), shorter)

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
            hint = f" Shorter: {self._shorter}." if left > _LONG_SECONDS else ""
            log.info("About %s left for %s.%s", duration(round(left)), plural(len(self._training), "epoch"), hint)
