"""Ctrl-C and a cluster's signals, kept until the run has come to a point where it can be saved."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from cifar_exp.compute.distributed import torchrun

# SIGUSR2 is what submitit asks Slurm for ahead of a time limit.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class Interruption:
    """While this context lasts, the first signal is only noted; a second Ctrl-C acts at once.

    The program asks ``requested`` where it can stop, saves what it has, and calls ``deliver``.

    A signal that nobody handles stays as it is, and so do all of them outside the main thread, where Python
    cannot set handlers.
    """

    def __init__(self) -> None:
        self.received = 0  # the signal's number; 0: none has come
        self._handlers: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.received != 0

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in _SIGNALS}
            self._handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
            for number in self._handlers:
                signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        if error is None and self.requested:
            self.deliver()

    def deliver(self, number: int = 0) -> None:
        """Let the signal do what it would have done when it came.

        Args:
            number: of a signal that only another process of the run was sent.

        Raises:
            KeyboardInterrupt: or whatever else the handler raises; this, where the handler raises nothing.
        """
        self._restore()
        signal.raise_signal(self.received or number)
        raise KeyboardInterrupt

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:
            # A second Ctrl-C is a person's. Schedulers, and torchrun, repeat their signals, and kill in the end.
            if number == signal.SIGINT and torchrun.processes() == 1:
                self.deliver()
            return
        self.received = number

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
