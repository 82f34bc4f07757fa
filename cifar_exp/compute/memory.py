"""The C library's allocator, told to keep the memory of one training step for the next."""

import ctypes
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `compare` uses this module without the seconds that PyTorch takes to import
    import torch

# From glibc's malloc.h; see mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_NEVER_TRIM = -1
_TOP_PAD_BYTES = 64 * 2**20
# A training batch of 128 takes ResNet-18 blocks of up to 32 MiB. An evaluation batch of 512 takes four times that:
# kept, such blocks leave holes that raised the peak of a default run by 0.3 GB, so they still come from the system.
_MMAP_THRESHOLD_BYTES = 64 * 2**20


def keep_freed_memory() -> bool:
    """Keep freed memory in the process instead of giving it back to the system; returns whether that was done.

    A training step on a CPU allocates and frees a gigabyte of activations. By default glibc takes each large block from
    the system and gives it back at once, and the system fills it with zeros, page by page, every time. Blocks of up to
    64 MiB are kept from that. This changes no result.

    Nothing is done where the C library is another one, or where the user has set glibc's allocator up by the
    environment (``MALLOC_TRIM_THRESHOLD_``, ``MALLOC_MMAP_THRESHOLD_``, ``MALLOC_TOP_PAD_`` or ``GLIBC_TUNABLES``).
    """
    libc = _glibc()
    if libc is None:
        return False
    settings = (
        (_M_TRIM_THRESHOLD, _NEVER_TRIM),
        (_M_TOP_PAD, _TOP_PAD_BYTES),
        (_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES),
    )
    taken = [libc.mallopt(option, value) for option, value in settings]
    return all(taken)


def release_free_memory() -> None:
    """Give what is free at the moment back to the system, where ``keep_freed_memory`` works.

    For the seams of a run: training and evaluation use blocks of different sizes, and each would keep its own memory.
    """
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    """The C library, if it is a glibc that the user has not set up already."""
    if any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return None
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return None
    # macOS and musl have no such function.
    return libc if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt") else None


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


def reset_peak_memory() -> None:
    """Measure peak memory from here on, where the system can: the jobs of a sweep share one process."""
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        for index in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(index)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_bytes(device: "torch.device") -> int | None:
    """Most memory held since ``reset_peak_memory``: allocated on the GPU, or else resident (None where unknown)."""
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
