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
