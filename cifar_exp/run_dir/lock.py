"""The lock of a run directory: one process at a time.

The operating system releases the lock when its process ends, however it ends. A run whose status is `running` while
nobody holds its lock was killed.
"""

import fcntl
import logging
import os
import stat
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
        log.warning("%s: its file system has no locks; make sure that no other process uses it", directory)
    try:
        yield
    finally:
        lock.release()


def is_held(directory: Path) -> bool:
    """Whether a process holds the lock now; False if that cannot be determined.

    Only reads: a run directory may belong to someone else, and its ``.lock`` may be a link or a pipe.
    """
    try:
        descriptor = os.open(directory / _NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
