"""Python's garbage collector while libraries are imported."""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def off_for_imports() -> Iterator[None]:
    """Import libraries without the collector, and exempt the objects they made from later collections.

    PyTorch and the others make about a million objects that live as long as the program. The collector would traverse
    all of them again and again during the imports: a quarter of the time to the first training step.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # Only once: a later freeze would also keep the garbage of an earlier run, its network included.
        if gc.get_freeze_count() == 0:
            gc.freeze()
            atexit.register(gc.unfreeze)  # some libraries complain at exit about objects that were not collected
        if enabled:
            gc.enable()
