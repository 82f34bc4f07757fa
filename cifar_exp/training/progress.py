"""What a person watching sees of an epoch: a live bar in a terminal, a plain line now and then elsewhere."""

import logging
import sys
import time
from types import TracebackType

import torch
from tqdm import tqdm

from cifar_exp.compute.distributed import collectives
from cifar_exp.safe_io.console import labelled

log = logging.getLogger(__name__)

_BAR_SECONDS = 0.25
_LINE_SECONDS = 30.0


class Figures:
    """A step's loss and the epoch's accuracy up to it, on their way from the device.

    To read them off a GPU at once would be to wait until it has done all that was asked of it so far. It is asked to
    send them when it comes to it, and they are shown when they have arrived, some steps later.

    Args:
        loss: of the step; a tensor without dimensions.
        correct: right predictions in the epoch, likewise.
        seen: images in the epoch.
        learning_rate: of the step.
    """

    def __init__(self, loss: torch.Tensor, correct: torch.Tensor, seen: int, learning_rate: float) -> None:
        self._seen = seen
        self.learning_rate = learning_rate
        on_gpu = loss.device.type == "cuda"
        values = torch.stack([loss.detach().float(), correct.float()])
        self._values = values.to("cpu", non_blocking=on_gpu)  # page-locked then, which PyTorch sees to
        self._arrival: torch.cuda.Event | None = None
        if on_gpu:
            self._arrival = torch.cuda.Event()
            self._arrival.record(torch.cuda.current_stream(loss.device))

    @property
    def arrived(self) -> bool:
        """Whether they can be read without waiting."""
        return self._arrival is None or self._arrival.query()

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

    ``due`` says when figures would be shown at all: they have to be brought from the device (see ``Figures``).
    """

    def __init__(self, epoch: int, epochs: int, images: int, *, done: int = 0) -> None:
        self._title = f"epoch {epoch}/{epochs}"
        self._images = images
        self._done = self._before = done
        self._terminal = sys.stderr.isatty() and collectives.is_first() and not labelled()
        self._bar = tqdm(
            total=images,
            initial=done,
            desc=self._title,
            unit=" images",
            disable=not self._terminal,
            leave=False,
            dynamic_ncols=True,
        )
        self._started = self._shown = time.monotonic()

    def __enter__(self) -> "EpochProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def advance(self, images: int) -> None:
        """Count the images of a step."""
        self._done += images
        self._bar.update(images)

    @property
    def due(self) -> bool:
        """Whether it is time to show figures."""
        return time.monotonic() - self._shown >= (_BAR_SECONDS if self._terminal else _LINE_SECONDS)

    def show(self, figures: Figures) -> None:
        """Show a step's loss, the epoch's accuracy up to it and the learning rate."""
        self._shown = time.monotonic()
        loss, accuracy, learning_rate = figures.loss, figures.accuracy, figures.learning_rate
        if self._terminal:
            self._bar.set_postfix_str(f"loss {loss:.3f}, accuracy {accuracy:.1%}, lr {learning_rate:.4g}")
            return
        rate = (self._done - self._before) / (self._shown - self._started)
        left = (self._images - self._done) / rate
        log.info(
            "%s: %d of %d images, loss %.3f, accuracy %.1f%%, lr %.4g, %.0f images/s, %d:%02d left",
            self._title,
            self._done,
            self._images,
            loss,
            100 * accuracy,
            learning_rate,
            rate,
            *divmod(round(left), 60),
        )
