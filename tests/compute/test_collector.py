"""The garbage collector around imports: off inside, on afterwards, and what comes later is collected."""

import gc
import subprocess
import sys
import weakref

import pytest

from cifar_exp.compute.collector import off_for_imports


@pytest.fixture(autouse=True)
def unfrozen():
    gc.unfreeze()
    yield
    gc.unfreeze()


class Cycle:
    """Refers to itself, so that only the collector frees it."""

    def __init__(self) -> None:
        self.myself = self


def test_the_collector_is_off_inside_and_on_afterwards():
    with off_for_imports():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), off_for_imports():
        raise ImportError
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with off_for_imports():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_comes_after_the_first_time_is_collected():
    with off_for_imports():
        imported = Cycle()
    frozen = gc.get_freeze_count()
    assert frozen > 0
    left = weakref.ref(Cycle())
    with off_for_imports():  # the next job of a sweep
        pass
    assert gc.get_freeze_count() <= frozen
    gc.collect()
    assert left() is None
    assert imported.myself is imported


def test_a_program_that_ends_is_quiet():
    program = "from cifar_exp.compute.collector import off_for_imports\nwith off_for_imports():\n    import torch"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout + done.stderr == ""
