"""One process at a time in a run directory, and whether there is one now.

The operating system drops the lock when its process ends, however it ends: a run that says `running` and holds no
lock was killed.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cifar_exp.errors import RequestError

log = logging.getLogger(__name__)

_NAME = ".lock"


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold the lock of a run directory.

    Raises:
        RequestError: another process holds it.
        OSError: the directory cannot be written to.
    """
    lock = FileLock(directory / _NAME, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise RequestError(f"{directory}: a run is going on there; wait for it or stop it first") from error
    except NotImplementedError:
        log.warning("%s: its file system has no locks; see to it that no other process uses it", directory)
    try:
        yield
    finally:
        lock.release()


def is_held(directory: Path) -> bool:
    """Whether a process holds the lock now; where there is no telling, False."""
    if not (directory / _NAME).exists():
        return False
    lock = FileLock(directory / _NAME, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return False
    lock.release()
    return False
