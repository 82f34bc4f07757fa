"""What the machine has. Needs no PyTorch, so that reading data does not either."""

import os

_A_PROGRAM = 0.7  # load that is more than a moment of something else


def memory_bytes() -> int | None:
    """The machine's memory; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def other_load(threads: int) -> float | None:
    """How many CPUs other programs would take beside ``threads`` busy ones of this one, by the last minute's load.

    None where the CPUs are enough for all, or where the system does not tell.
    """
    if not hasattr(os, "getloadavg"):  # Windows
        return None
    others = os.getloadavg()[0] - threads
    return others if others > _A_PROGRAM and threads + others > (os.cpu_count() or 1) else None
