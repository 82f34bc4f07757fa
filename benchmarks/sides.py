"""Two programs in processes of their own, which take turns: each waits while the other is measured.

Separate, because the allocator and the threads of one must not be the other's.
"""

import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any


class Side:
    """A process that runs ``main(orders, *args)``; it says once that it is ready, then answers orders."""

    def __init__(self, main: Callable[..., None], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=main, args=(Orders(theirs), *args))
        self._process.start()
        theirs.close()
        self.ready = self._pipe.recv()  # what it says by itself when it is ready

    def order(self, *what: Any) -> Any:
        """Send an order and wait for its answer."""
        self._pipe.send(what)
        return self._pipe.recv()

    def __enter__(self) -> "Side":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.join()


class Orders:
    """The process's end."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def next(self) -> Any:
        """Wait for an order."""
        return self._pipe.recv()

    def tell(self, answer: Any) -> None:
        """Answer it."""
        self._pipe.send(answer)


class Clock:
    """Wall-clock and processor seconds since it was made; the latter with those of ended worker processes."""

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), processor_seconds()

    def read(self) -> tuple[float, float]:
        """(wall-clock seconds, processor seconds)."""
        return time.perf_counter() - self._wall, processor_seconds() - self._processor


class Stopwatch:
    """The figures of a training that calls it: speed, first step, GPU memory, time to an accuracy.

    Args:
        started: ``time.time()`` at the start of the process.
        cuda: whether to wait for the GPU before each reading.
        accuracy: that the time is measured to.
    """

    def __init__(self, started: float, *, cuda: bool, accuracy: float) -> None:
        self._started, self._cuda, self._wanted = started, cuda, accuracy
        self._epoch = Clock()
        self._epochs: list[tuple[int, float, float]] = []  # images, wall-clock and processor seconds of each
        self._first_step: tuple[float, float] | None = None  # wall-clock and processor seconds
        self._to_accuracy: float | None = None
        self._accuracy = 0.0

    def start_epoch(self) -> None:
        """Call this before the first batch of an epoch is loaded."""
        self._wait()
        self._epoch = Clock()

    def end_step(self) -> None:
        """Call this after an optimizer step; only the first one counts."""
        if self._first_step is None:
            self._wait()
            self._first_step = time.time() - self._started, processor_seconds()

    def end_epoch(self, images: int) -> None:
        """Call this after the last step of an epoch."""
        self._wait()
        self._epochs.append((images, *self._epoch.read()))

    def evaluated(self, accuracy: float) -> None:
        """Call this after an evaluation."""
        self._accuracy = accuracy
        if self._to_accuracy is None and accuracy >= self._wanted:
            self._to_accuracy = time.time() - self._started

    def figures(self) -> dict[str, float | None]:
        """Images/s and ms an image of all epochs but the first, seconds, MB; None if a figure was not measured."""
        images, wall, processor = map(sum, zip(*(self._epochs[1:] or self._epochs), strict=True))
        first_step, first_step_processor = self._first_step or (None, None)
        gpu_memory = None
        if self._cuda:
            import torch

            gpu_memory = torch.cuda.max_memory_allocated() / 2**20
        return {
            "images_per_second": images / wall,
            "processor_ms": 1e3 * processor / images,
            "first_step": first_step,
            "first_step_processor": first_step_processor,
            "gpu_memory": gpu_memory,
            "to_accuracy": self._to_accuracy,
            "accuracy": self._accuracy,
        }

    def _wait(self) -> None:
        if self._cuda:
            import torch

            torch.cuda.synchronize()


def processor_seconds() -> float:
    """Of this process and of its children, running ones included where the system tells."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    running = sum(map(_processor_seconds_of, [child.pid for child in multiprocessing.active_children()]))
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime + running


def _processor_seconds_of(pid: int | None) -> float:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime
