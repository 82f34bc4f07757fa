"""``status.json``: who may use a run directory, and what state its run is in."""

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cifar_exp.run_dir import lock
from cifar_exp.safe_io.atomic import create, json_bytes, read_json, write_json

STATES = ("running", "completed", "failed", "diverged", "interrupted")

_BLOCK = 4096  # bytes; the least that common file systems give a file
_MOST_OF_AN_ERROR = 500  # characters


def state_of(directory: Path, status: Mapping[str, Any]) -> str:
    """The state of a run; one that was killed could not record it itself and is ``interrupted``.

    Args:
        directory: of the run.
        status: content of its ``status.json``; {} if there is none.

    Returns:
        One of ``STATES``; ``unknown`` if the status has no such state.
    """
    state = status.get("state")
    if state == "running" and not lock.is_held(directory):
        return "interrupted"
    return state if state in STATES else "unknown"


def is_taken(directory: Path) -> bool:
    """Whether a directory holds a run; one that failed before its first step leaves nothing to keep."""
    try:
        status = read_status(directory)
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True
    started = any((directory / name).exists() for name in ("steps.csv", "checkpoints/last.pt"))
    return status["state"] != "failed" or started


def claim(directory: Path, config_hash: str) -> dict[str, Any]:
    """Take a directory for a new run by making its ``status.json``; two runs never share one.

    Returns:
        The status, for ``update_status``.

    Raises:
        FileExistsError: the directory holds a run already; nothing in it was touched.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if not is_taken(directory):
        (directory / "status.json").unlink(missing_ok=True)
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
    create(directory / "status.json", json_bytes(status))
    return status


def resumptions(status: Mapping[str, Any]) -> list[Any]:
    """Timestamps at which the run was resumed; [] if the field is malformed."""
    times = status.get("resumed_at")
    return times if isinstance(times, list) else []


def claim_again(directory: Path) -> dict[str, Any]:
    """Take a directory to go on with the run in it.

    Returns:
        The status, for ``update_status``.

    Raises:
        OSError, ValueError: it has no readable status.
    """
    status = read_status(directory)
    status["resumed_at"] = [*resumptions(status), now()]
    for leftover in directory.rglob(".*.tmp"):  # of a process that was killed while it wrote
        leftover.unlink()
    update_status(directory, status, state="running", error=None, finished_at=None)
    return status


def read_status(directory: Path) -> dict[str, Any]:
    """The content of ``status.json``.

    Raises:
        OSError: there is none.
        ValueError: it is damaged.
    """
    status = read_json(directory / "status.json")
    if status.get("state") not in STATES:
        raise ValueError(f"{directory / 'status.json'}: not the status of a run")
    return status


def update_status(directory: Path, status: dict[str, Any], **changes: Any) -> None:
    """Change ``status`` in place and in ``status.json``.

    Raises:
        OSError: the file could not be written; it is as it was.
    """
    status |= changes
    path = directory / "status.json"
    try:
        write_json(path, status)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not _overwrite(path, status):
            raise


def _overwrite(path: Path, status: dict[str, Any]) -> bool:
    """Write a status over the old one where there is no room for a second file; returns whether that was possible.

    Within the block that the old one takes, a write needs no room and cannot be torn.
    """
    status = status | {"error": None if status["error"] is None else str(status["error"])[:_MOST_OF_AN_ERROR]}
    content = json_bytes(status)
    with suppress(OSError), path.open("r+b", buffering=0) as file:
        room = file.seek(0, os.SEEK_END)
        if max(room, len(content)) <= _BLOCK:
            file.seek(0)
            file.write(content.ljust(room))
            return True
    return False


def now() -> str:
    """The present, in UTC, as ISO 8601 with microseconds."""
    return datetime.now(UTC).isoformat()
