"""Progress of an epoch for people: a live bar in a terminal, a log line every 30 seconds elsewhere."""

import logging
import sys
import time
from types import TracebackType

import torch
from tqdm.auto import tqdm

from cifar_exp.safe_io.console import labelled
from cifar_exp.training.step import StepResult

log = logging.getLogger(__name__)

_BAR_SECONDS = 0.25
_LINE_SECONDS = 30.0


class PendingMetrics:
    """Loss and accuracy copied from the GPU without synchronizing; read once the copy has finished."""

    def __init__(self, loss: torch.Tensor, correct: torch.Tensor, seen: int, learning_rate: float) -> None:
        self._seen = seen
        self.learning_rate = learning_rate
        on_gpu = loss.device.type == "cuda"
        values = torch.stack([loss.detach().float(), correct.float()])
        self._values = values.to("cpu", non_blocking=on_gpu)  # PyTorch takes page-locked memory for it
        self._copied: torch.cuda.Event | None = None
        if on_gpu:
            self._copied = torch.cuda.Event()
            self._copied.record(torch.cuda.current_stream(loss.device))

    @property
    def ready(self) -> bool:
        """Whether the copy has finished."""
        return self._copied is None or self._copied.query()

    @property
    def loss(self) -> float:
        """Nats."""
        return float(self._values[0])

    @property
    def accuracy(self) -> float:
        """In [0, 1]."""
        return float(self._values[1]) / max(self._seen, 1)


class EpochProgress:
    """Progress through the steps of one epoch; a context manager.

    ``epoch`` counts from 1; ``done`` is the number of images of the steps before.
    """

    def __init__(self, epoch: int, epochs: int, images: int, *, done: int = 0, visible: bool = True) -> None:
        self._title = f"epoch {epoch}/{epochs}"
        self._images = images
        self._done = self._done_at_start = done
        self._terminal = visible and sys.stderr.isatty() and not labelled()
        self._bar = tqdm(
            total=images,
            initial=done,
            desc=self._title,
            unit=" images",
            disable=not self._terminal,
            leave=False,
            dynamic_ncols=True,
        )
        self._pending: PendingMetrics | None = None
        self._started = self._shown = time.monotonic()

    def __enter__(self) -> "EpochProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def update(self, images: int, result: StepResult, correct: torch.Tensor, seen: int, learning_rate: float) -> None:
        """Count the images of a step, and show its metrics if the last ones were shown long enough ago."""
        self._done += images
        self._bar.update(images)
        if self.due and self._pending is None:
            loss = result.loss_sum / max(result.images, 1)
            self._pending = PendingMetrics(loss, correct, seen, learning_rate)
        if self._pending is not None and self._pending.ready:
            self.show(self._pending)
            self._pending = None

    @property
    def due(self) -> bool:
        """Whether it is time to show metrics."""
        return time.monotonic() - self._shown >= (_BAR_SECONDS if self._terminal else _LINE_SECONDS)

    def show(self, metrics: PendingMetrics) -> None:
        """Show a step's loss, the epoch's accuracy up to it and the learning rate."""
        self._shown = time.monotonic()
        loss, accuracy, learning_rate = metrics.loss, metrics.accuracy, metrics.learning_rate
        if self._terminal:
            self._bar.set_postfix_str(f"loss {loss:.3f}, accuracy {accuracy:.1%}, lr {learning_rate:.4g}")
            return
        rate = (self._done - self._done_at_start) / (self._shown - self._started)
        seconds_left = (self._images - self._done) / rate
        log.info(
            "%s: %d of %d images, loss %.3f, accuracy %.1f%%, lr %.4g, %.0f images/s, %d:%02d left",
            self._title,
            self._done,
            self._images,
            loss,
            100 * accuracy,
            learning_rate,
            rate,
            *divmod(round(seconds_left), 60),
        )
