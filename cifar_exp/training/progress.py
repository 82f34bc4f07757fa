"""Progress of training for people: a live bar in a terminal or notebook, log lines elsewhere, and the time left."""

import logging
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.data.augment.pipeline import LowResolution
from cifar_exp.data.dataset import Splits
from cifar_exp.safe_io.console import shows_bars
from cifar_exp.safe_io.plural import duration, plural
from cifar_exp.training.step import StepResult

log = logging.getLogger(__name__)

_BAR_SECONDS, _LINE_SECONDS = 1.0, 30.0  # reading metrics waits for a GPU, so not after every step
_FORWARD_ONLY = 1 / 3  # of the arithmetic of a forward and a backward pass
_WARM_UP_STEPS = 2
_SECONDS_UNTIL_LOGGED = 10.0
_LONG_SECONDS, _SHORTER = 3600.0, " Shorter: experiment=speedrun, data.limit_train=5000 or a faster device."


class RunClock:
    """Estimates the time left for all epochs, from the run's own steps.

    ``training`` and ``evaluation`` are the (epochs,) work of each epoch, in training images of full size.
    """

    def __init__(self, training: NDArray[np.float64], evaluation: NDArray[np.float64]) -> None:
        self._training = training
        self._work_before = np.concatenate([[0.0], np.cumsum(training + evaluation)])
        self._steps = 0
        self._start = self._now = (0.0, 0.0)  # time, work
        self._is_logged = False

    @classmethod
    def for_run(cls, config: ExperimentConfig, splits: Splits, low_resolution: LowResolution | None) -> "RunClock":
        """Make the clock of a run. Smaller images cost in proportion to their pixels."""
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
        """Estimated seconds for all remaining epochs; None in the first steps, which are slower."""
        seconds, work = (now - start for now, start in zip(self._now, self._start, strict=True))
        return (self.work - self._now[1]) * seconds / work if self._steps > _WARM_UP_STEPS else None

    def update(self, epoch: int, fraction: float) -> None:
        """Measure after a step of an epoch (from 1) that has processed a fraction of its images.

        Soon after the first steps, the time left is logged.
        """
        self._steps += 1
        self._now = time.monotonic(), float(self._work_before[epoch - 1] + fraction * self._training[epoch - 1])
        if self._steps == _WARM_UP_STEPS:
            self._start = self._now
        left = self.seconds_left
        if left is not None and not self._is_logged and self._now[0] - self._start[0] >= _SECONDS_UNTIL_LOGGED:
            self._is_logged = True
            hint = _SHORTER if left > _LONG_SECONDS else ""
            log.info("About %s left for %s.%s", duration(round(left)), plural(len(self._training), "epoch"), hint)


class EpochProgress:
    """Progress through the steps of one epoch (from 1), which has ``images``, ``images_before`` of them processed.

    There is a bar only if ``visible``, and no estimate for all epochs if ``clock`` is None.
    """

    def __init__(
        self, epoch: int, epochs: int, images: int, *, images_before: int, visible: bool, clock: RunClock | None
    ) -> None:
        self._epoch, self._clock, self._images = epoch, clock, images
        self._title = f"epoch {epoch}/{epochs}"
        self._processed = self._processed_at_start = images_before
        self._has_bar = visible and shows_bars()
        bar: dict[str, Any] = {"desc": self._title, "unit": " images", "leave": False, "dynamic_ncols": True}
        self._bar = tqdm(total=images, initial=images_before, disable=not self._has_bar, **bar)
        self._started = self._shown = time.monotonic()

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()

    def update(self, images: int, result: StepResult, correct: torch.Tensor, seen: int, learning_rate: float) -> None:
        """Count the images of a step, and show its metrics if the last ones were shown long enough ago."""
        self._processed += images
        self._bar.update(images)
        if self._clock is not None:
            self._clock.update(self._epoch, self._processed / self._images)
        if time.monotonic() - self._shown >= (_BAR_SECONDS if self._has_bar else _LINE_SECONDS):
            loss, accuracy = float(result.loss_sum) / max(result.images, 1), float(correct) / max(seen, 1)
            self._shown = time.monotonic()
            self.show(loss, accuracy, learning_rate)

    def show(self, loss: float, accuracy: float, learning_rate: float) -> None:
        """Show a step's loss, the epoch's accuracy up to it and the learning rate."""
        left = None if self._clock is None else self._clock.seconds_left
        all_left = "" if left is None else f", {duration(round(left))} for all epochs"
        metrics = f"loss {loss:.3f}, accuracy {accuracy:.1%}, lr {learning_rate:.4g}"
        if self._has_bar:
            self._bar.set_postfix_str(metrics + all_left)
            return
        rate = (self._processed - self._processed_at_start) / (self._shown - self._started)
        log.info(
            f"{self._title}: {self._processed} of {self._images} images, {metrics}, {rate:.0f} images/s, "
            f"{duration(round((self._images - self._processed) / rate))} left{all_left}"
        )
