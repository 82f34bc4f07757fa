"""``status.json`` and the lock of a run directory: who may write there, and what state its run is in.

The operating system releases a lock when its process ends, however it ends. A run whose status is ``running`` while
no process holds its lock was killed.
"""

import errno
import fcntl
import logging
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cifar_exp.errors import RequestError
from cifar_exp.safe_io.atomic import json_text, write_json
from cifar_exp.safe_io.untrusted import read_json

log = logging.getLogger(__name__)

STATES = ("running", "completed", "failed", "diverged", "interrupted", "pruned")
RESUMABLE = ("failed", "interrupted", "pruned")

_LOCK = ".lock"
_BLOCK_BYTES = 4096  # the least that common file systems allocate for a file
_MAX_ERROR_CHARACTERS = 500


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a run directory.

    Raises:
        RequestError: another process holds it.
        OSError: the directory cannot be written to.
    """
    lock = FileLock(directory / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise RequestError(f"{directory}: another process is running this run; wait for it or stop it first") from error
    except NotImplementedError:
        log.warning("%s: its file system has no locks; make sure that no other process uses it", directory)
    try:
        yield
    finally:
        lock.release()


def is_locked(directory: Path) -> bool:
    """Whether a process holds the lock now; False if that cannot be determined.

    Only reads: a run directory may belong to someone else, and its ``.lock`` may be a link or a pipe.
    """
    try:
        descriptor = os.open(directory / _LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
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


def state_of(directory: Path, status: Mapping[str, Any]) -> str:
    """Return the state of a run; ``interrupted`` if it was killed and could not record that itself.

    Returns:
        One of ``STATES``; ``unknown`` if the status has no such state.
    """
    state = status.get("state")
    if state == "running" and not is_locked(directory):
        return "interrupted"
    return state if state in STATES else "unknown"


def job_state(directory: Path) -> str | None:
    """Return the state of the run in a directory; None if there is no run, or one that failed before its first step.

    Raises:
        RequestError: its status cannot be read.
    """
    try:
        status = read_status(directory)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RequestError(f"{directory}: the status of its run cannot be read: {error}") from error
    started = any((directory / name).exists() for name in ("steps.csv", "checkpoints/last.pt"))
    return state_of(directory, status) if started or status["state"] != "failed" else None


def refuse_taken(directory: Path) -> None:
    """Refuse a directory that holds a run, other than one that failed before its first step."""
    try:
        state = job_state(directory)
    except RequestError:
        state = "its status cannot be read"
    if state is not None:
        resume = f"continue it with `cifar-exp resume {directory}`, or " if state in RESUMABLE else ""
        raise RequestError(
            f"{directory}: already contains a run ({state}); {resume}choose another directory with hydra.run.dir=..."
        )


def claim(directory: Path, config_hash: str) -> dict[str, Any]:
    """Claim a directory, whose lock the caller holds, for a new run by writing its status, which is returned.

    Raises:
        RequestError: the directory already holds a run; nothing in it was changed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    refuse_taken(directory)
    status: dict[str, Any] = {
        "state": "running",
        "error": None,
        "started_at": now(),
        "finished_at": None,
        "epochs_completed": 0,
        "config_hash": config_hash,
        "resumed_at": [],
        "max_lr_used": None,
    }
    write_json(directory / "status.json", status)
    return status


def claim_again(directory: Path) -> dict[str, Any]:
    """Claim a directory, whose lock the caller holds, to resume the run in it; returns its status.

    Raises:
        OSError, ValueError: it has no readable status.
    """
    status = read_status(directory)
    status["resumed_at"] = [*read_resumptions(status), now()]
    for leftover in directory.rglob(".*.tmp"):  # of a process that was killed while it wrote
        leftover.unlink()
    update_status(directory, status, state="running", error=None, finished_at=None)
    return status


def read_resumptions(status: Mapping[str, Any]) -> list[Any]:
    """Return the timestamps at which the run was resumed; [] if the field is malformed."""
    times = status.get("resumed_at")
    return times if isinstance(times, list) else []


def read_status(directory: Path) -> dict[str, Any]:
    """Read ``status.json``.

    Raises:
        OSError: it does not exist or cannot be read.
        ValueError: it is damaged.
    """
    status = read_json(directory / "status.json")
    if status.get("state") not in STATES:
        raise ValueError(f"its state must be one of {', '.join(STATES)}")
    return status


def update_status(directory: Path, status: dict[str, Any], **changes: Any) -> None:
    """Change ``status`` in place and in ``status.json``.

    On a full disk the old content is overwritten: a write within the block that the file has already allocated needs
    no space and cannot be torn.

    Raises:
        OSError: the file could not be written; it is unchanged.
    """
    status |= changes
    path = directory / "status.json"
    try:
        write_json(path, status)
    except OSError as full:
        if full.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        shortened = status | {"error": status["error"] and str(status["error"])[:_MAX_ERROR_CHARACTERS]}
        content = json_text(shortened).encode("utf-8", "backslashreplace")
        with path.open("r+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if max(size, len(content)) > _BLOCK_BYTES:
                raise
            file.seek(0)
            file.write(content.ljust(size))


def now() -> str:
    """Return the current time in UTC, as ISO 8601 with microseconds."""
    return datetime.now(UTC).isoformat()
