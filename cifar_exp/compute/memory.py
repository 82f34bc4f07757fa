"""Memory: what the machine has, what the process peaked at, and how the C library and Python reuse it.

Importing this module does not import PyTorch: `compare` does without it, and other commands import it later.
"""

import atexit
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

    import torch

# From glibc's malloc.h; see mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_TOP_PAD_BYTES = 64 * 2**20
# A training batch of 128 takes blocks of up to 32 MiB with ResNet-18, an evaluation batch of 512 four times as large.
# Keeping the latter fragmented the memory (0.3 GB more at the peak of a default run), so they go back to the system.
_MMAP_THRESHOLD_BYTES = 64 * 2**20


def keep_freed_memory() -> bool:
    """Keep freed memory in the process instead of returning it to the system; returns whether that was done.

    A training step on a CPU allocates and frees a gigabyte of activations. By default glibc maps each large block anew
    and unmaps it at once, and the system zeroes its pages every time. Keeping it changes no result.

    Does nothing with another C library, or if the user has configured glibc's allocator by the environment
    (``MALLOC_TRIM_THRESHOLD_``, ``MALLOC_MMAP_THRESHOLD_``, ``MALLOC_TOP_PAD_`` or ``GLIBC_TUNABLES``).
    """
    if (libc := _glibc()) is None:
        return False
    settings = {_M_TRIM_THRESHOLD: -1, _M_TOP_PAD: _TOP_PAD_BYTES, _M_MMAP_THRESHOLD: _MMAP_THRESHOLD_BYTES}
    accepted = [libc.mallopt(option, value) for option, value in settings.items()]
    return all(accepted)


def release_free_memory() -> None:
    """Return free memory to the system where ``keep_freed_memory`` works.

    Called between training and evaluation, whose blocks differ in size: otherwise the memory kept for both adds up.
    """
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> "ctypes.CDLL | None":
    """The C library if it is a glibc that the user has not configured."""
    import ctypes

    if any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return None
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return None
    # macOS and musl have no such function.
    return libc if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt") else None


@contextmanager
def collector_off_for_imports() -> Iterator[None]:
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


_NEGLIGIBLE_LOAD = 0.7  # of other programs, in CPUs


def memory_bytes() -> int | None:
    """The machine's memory; None if unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def other_load(threads: int) -> float | None:
    """CPUs that other programs use, if they and this program's ``threads`` exceed the machine's CPUs; else None."""
    if not hasattr(os, "getloadavg"):  # Windows
        return None
    others = os.getloadavg()[0] - threads
    return others if others > _NEGLIGIBLE_LOAD and threads + others > (os.cpu_count() or 1) else None


def reset_peak_memory() -> None:
    """Start measuring peak memory anew, if the system can: the jobs of a sweep share one process."""
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        for index in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(index)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_bytes(device: "torch.device") -> int | None:
    """Peak memory since ``reset_peak_memory``: allocated on the GPU, or else resident; None if unknown."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError, StopIteration):  # Linux
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes elsewhere
