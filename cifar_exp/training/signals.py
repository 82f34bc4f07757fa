"""Signals (Ctrl-C, SIGTERM, a cluster's SIGUSR2) that are held back until the run can be saved."""

import signal
import threading
from types import FrameType
from typing import Any

from cifar_exp.compute.distributed import torchrun

# submitit makes Slurm send SIGUSR2 before the time limit.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class Interruption:
    """Context in which the first signal is only recorded; a second Ctrl-C takes effect at once.

    The program checks ``received`` where it can stop, saves its state, and calls ``deliver``.

    A signal without a handler stays as it is. Outside the main thread all of them do, because Python cannot set
    handlers there.
    """

    def __init__(self) -> None:
        self.received = 0  # number of the signal; 0 if none
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in _SIGNALS}
            self._handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
            for number in self._handlers:
                signal.signal(number, self._record)
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._restore()
        if error is None and self.received:
            self.deliver()

    def deliver(self, number: int = 0) -> None:
        """Call the handler that the signal would have had; ``number`` is of one that only another rank received.

        Raises:
            KeyboardInterrupt: or the exception that the handler raises.
        """
        self._restore()
        signal.raise_signal(self.received or number)
        raise KeyboardInterrupt

    def _record(self, number: int, _frame: FrameType | None) -> None:
        if self.received:
            # A second Ctrl-C comes from a person. Schedulers and torchrun repeat their signals, and kill in the end.
            if number == signal.SIGINT and torchrun.world_size() == 1:
                self.deliver()
            return
        self.received = number

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
