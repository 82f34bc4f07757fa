"""The allocator's setting, seen by what the system counts: page faults and resident memory."""

import ctypes
import os
import subprocess
import sys

import pytest

from cifar_exp.compute import memory

glibc_only = pytest.mark.skipif(
    memory._glibc() is None, reason="what is set up is glibc's allocator: needs Linux with glibc"
)
# Page faults of allocating, filling and freeing 32 MiB ten times, then resident MiB before and after releasing.
PROGRAM = """
import resource, sys
import numpy as np
from cifar_exp.compute import memory

def resident():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024

kept = sys.argv[1] == "keep" and memory.keep_freed_memory()
np.empty(2**25, np.uint8).fill(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.empty(2**25, np.uint8).fill(1)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
held = resident()
memory.release_free_memory()
print(kept, faults, held - resident())
"""


def measured(how: str, **environment: str) -> tuple[bool, int, float]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        check=True,
        capture_output=True,
        text=True,
        # NumPy would ask for huge pages, of which there are few to count.
        env=os.environ | {"NUMPY_MADVISE_HUGEPAGE": "0"} | environment,
    )
    kept, faults, released = done.stdout.split()
    return kept == "True", int(faults), float(released)


@glibc_only
def test_freed_memory_is_kept_until_it_is_released():
    kept, faults, released = measured("keep")
    assert kept
    assert faults < 1_000  # ten times 8,192 pages otherwise
    assert released > 30
    assert measured("leave alone")[1] > 50_000


@glibc_only
@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_a_setting_of_the_user_is_kept(name):
    value = "glibc.malloc.trim_threshold=131072" if name == "GLIBC_TUNABLES" else "131072"
    kept, _, _ = measured("keep", **{name: value})
    assert not kept


def test_nothing_happens_with_another_c_library(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    memory._glibc.cache_clear()
    assert not memory.keep_freed_memory()
    memory.release_free_memory()
    monkeypatch.undo()
    memory._glibc.cache_clear()
