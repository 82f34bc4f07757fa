"""Python's garbage collector, kept from looking through what stays."""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def off_for_imports() -> Iterator[None]:
    """Import libraries without the collector, and leave what they made out of its later rounds.

    PyTorch and the others make about a million objects that live as long as the program. The collector starts again
    and again while they come, and looks through all of them each time: a quarter of the time to the first training
    step. Afterwards it would do so in each of its full rounds.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # Only once: later, this would also keep what an earlier run left to be collected, its network included.
        if gc.get_freeze_count() == 0:
            gc.freeze()
            atexit.register(gc.unfreeze)  # some libraries complain at the end about what was not collected
        if enabled:
            gc.enable()
