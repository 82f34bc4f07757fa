"""The C library's allocator, told to keep the memory of one training step for the next."""

import ctypes
import os
from functools import cache

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
