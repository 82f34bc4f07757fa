"""The program as a process of its own, which does not outlive the test that started it."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

PROGRAM = [sys.executable, "-m", "cifar_exp"]


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator["subprocess.Popen[Any]"]:
    """A process, as ``subprocess.Popen`` starts it; however the test ends, it has ended, too."""
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.terminate()  # what it has started itself ends with it
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Look again and again until the condition holds.

    Raises:
        AssertionError: it does not in so many seconds.
    """
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.05)
