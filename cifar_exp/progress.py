"""What a person watching sees of an epoch: a live bar in a terminal, a plain line now and then elsewhere."""

import logging
import sys
import time
from types import TracebackType

from tqdm import tqdm

from cifar_exp import parallel
from cifar_exp.logs import labelled

log = logging.getLogger(__name__)

_BAR_SECONDS = 0.25
_LINE_SECONDS = 30.0


class EpochProgress:
    """Progress through the steps of one epoch; a context manager.

    Reading a loss off a GPU makes the program wait for it, so ``due`` says when figures would be shown at all.
    """

    def __init__(self, epoch: int, epochs: int, images: int, *, done: int = 0) -> None:
        self._title = f"epoch {epoch}/{epochs}"
        self._images = images
        self._done = self._before = done
        self._terminal = sys.stderr.isatty() and parallel.is_first() and not labelled()
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

    def show(self, *, loss: float, accuracy: float, learning_rate: float) -> None:
        """Show the batch's loss, the epoch's accuracy so far and the learning rate."""
        self._shown = time.monotonic()
        if self._terminal:
            self._bar.set_postfix_str(f"loss {loss:.3f}, accuracy {accuracy:.1%}, lr {learning_rate:.4g}")
            return
        rate = (self._done - self._before) / (self._shown - self._started)
        left = (self._images - self._done) / rate
        log.info(
            "%s: %d of %d images, loss %.3f, accuracy %.1f %%, lr %.4g, %.0f images/s, %d:%02d left",
            self._title,
            self._done,
            self._images,
            loss,
            100 * accuracy,
            learning_rate,
            rate,
            *divmod(round(left), 60),
        )
