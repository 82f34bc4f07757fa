"""Python's garbage collector while libraries are imported."""

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def off_for_imports() -> Iterator[None]:
    """Import libraries without the collector, and exempt the objects they made from later collections.

    PyTorch and the others make about a million objects that live as long as the program. The collector would traverse
    all of them again and again during the imports: a quarter of the time to the first training step.

    Nothing is exempted if PyTorch was imported before: the garbage of an earlier run, and in a notebook the networks of
    the user's own, would never be collected.
    """
    enabled, had_torch = gc.isenabled(), "torch" in sys.modules
    gc.disable()
    try:
        yield
    finally:
        if not had_torch:
            gc.freeze()
            atexit.register(gc.unfreeze)  # some libraries complain at exit about objects that were not collected
        if enabled:
            gc.enable()
