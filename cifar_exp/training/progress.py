"""Progress of an epoch for people: a live bar in a terminal or notebook, a log line every 30 seconds elsewhere."""

import logging
import time
from typing import Any

import torch
from tqdm.auto import tqdm

from cifar_exp.safe_io.console import shows_bars
from cifar_exp.safe_io.plural import duration
from cifar_exp.training.step import StepResult
from cifar_exp.training.time_left import RunClock

log = logging.getLogger(__name__)

_BAR_SECONDS, _LINE_SECONDS = 1.0, 30.0  # reading metrics waits for a GPU, so not after every step


class EpochProgress:
    """Progress through the steps of one epoch.

    Args:
        epoch: the epoch, from 1.
        epochs: epochs of the run.
        images: training images of the epoch.
        done: images of the steps before.
        visible: whether there may be a bar.
        clock: estimates the time left for all epochs; None for no estimate.
    """

    def __init__(
        self, epoch: int, epochs: int, images: int, *, done: int, visible: bool, clock: RunClock | None
    ) -> None:
        self._epoch, self._clock, self._images = epoch, clock, images
        self._title = f"epoch {epoch}/{epochs}"
        self._done = self._done_at_start = done
        self._has_bar = visible and shows_bars()
        bar: dict[str, Any] = {"desc": self._title, "unit": " images", "leave": False, "dynamic_ncols": True}
        self._bar = tqdm(total=images, initial=done, disable=not self._has_bar, **bar)
        self._started = self._shown = time.monotonic()

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()

    def update(self, images: int, result: StepResult, correct: torch.Tensor, seen: int, learning_rate: float) -> None:
        """Count the images of a step, and show its metrics if the last ones were shown long enough ago."""
        self._done += images
        self._bar.update(images)
        if self._clock is not None:
            self._clock.update(self._epoch, self._done / self._images)
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
        rate = (self._done - self._done_at_start) / (self._shown - self._started)
        log.info(
            f"{self._title}: {self._done} of {self._images} images, {metrics}, {rate:.0f} images/s, "
            f"{duration(round((self._images - self._done) / rate))} left{all_left}"
        )
