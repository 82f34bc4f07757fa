"""The garbage collector around imports: off inside, on afterwards, and what comes later is collected."""

import gc
import subprocess
import sys

import pytest

from cifar_exp.compute.memory import collector_off_for_imports


def test_the_collector_is_off_inside_and_on_afterwards():
    with collector_off_for_imports():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), collector_off_for_imports():
        raise ImportError
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with collector_off_for_imports():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


PROGRAM = """
import gc, weakref
from cifar_exp.compute.memory import collector_off_for_imports
with collector_off_for_imports():
    import torch
frozen = gc.get_freeze_count()
model = torch.nn.Linear(1, 1)
model.myself = [model]  # only the collector frees it
left = weakref.ref(model)
del model
with collector_off_for_imports():  # the next job of a sweep
    pass
gc.collect()
print(frozen > 100_000, gc.get_freeze_count() <= frozen, left())
"""


def test_libraries_are_exempt_later_objects_are_collected_and_the_end_is_quiet():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120)
    assert (done.stdout, done.stderr) == ("True True None\n", "")
