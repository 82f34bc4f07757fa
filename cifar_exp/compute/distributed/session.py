"""How several processes begin and end a run together: the first one leads, the others wait to be called in.

The first process (rank 0) does all that a single one does. Each other one waits for a run to begin, builds the same
parts, takes part in training and evaluation, and writes nothing. An error in one of them ends the run in all.
"""

import json
import logging
import os
import re
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from cifar_exp.compute.distributed import collectives
from cifar_exp.compute.distributed.collectives import Group
from cifar_exp.errors import FAILED, WRONG_REQUEST, DivergedError, RequestError

# How long one process may wait for another that still lives: a machine may have a data set to download first.
_TIMEOUT = timedelta(hours=1)
_POLL_SECONDS = 0.02
_PATIENCE_SECONDS = 3.0
_OVER = "over"


class RankError(RuntimeError):
    """Another process of the run failed, or ended without a word."""


@dataclass
class _Session:
    """The life of this program as one of the processes.

    Attributes:
        store: what all processes can read and write; lives in torchrun's own process.
        group: this process among them.
        runs: how many runs the processes have begun together.
        ending: the run is about to end; a further signal changes nothing.
        broken: a process has left a collective operation, so that the group cannot be taken down in order.
        handlers: of the signals, as they were before the first run.
    """

    store: Store
    group: Group
    runs: int = 0
    ending: bool = False
    broken: bool = False
    handlers: dict[int, Any] = field(default_factory=dict)


_session: _Session | None = None


def together(lead: Callable[[], int], follow: Callable[[], int]) -> int:
    """Be one of the processes that torchrun started; returns the exit code, the first process's for all.

    Args:
        lead: the whole program, for the first process.
        follow: for the others; calls ``take_part_in_runs``.
    """
    global _session
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    store, rank, world_size = next(rendezvous("env://"))
    dist.init_process_group(
        backend,
        store=PrefixStore("group", store),
        rank=rank,
        world_size=world_size,
        timeout=_TIMEOUT,
    )
    collectives.group = Group(rank, world_size)
    _session = _Session(store, collectives.group)
    code = FAILED
    try:
        code = lead() if rank == 0 else follow()
    finally:
        if rank == 0:
            store.set(_OVER, str(code))
    if _session.broken:
        # A process that others wait for, or that waits for others, cannot take its group down: NCCL would hang.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    dist.destroy_process_group()
    _session = collectives.group = None
    return code


class CommonPart:
    """The common part of a run, seen by the first process; a context manager that calls the others in.

    An error of another process is raised here: its ``RequestError`` as one, anything else as a ``RankError``.

    Args:
        config: of the run, as plain containers.
        resume: whether it goes on.
    """

    def __init__(self, config: dict[str, Any], *, resume: bool) -> None:
        self._task = json.dumps({"config": config, "resume": resume})

    def __enter__(self) -> "CommonPart":
        if _session is not None:
            _heed_others()
            _session.group.joined = True
            _session.store.set(f"run {_session.runs}", self._task)
            _session.runs += 1
        return self

    def leave(self) -> None:
        """From here on there is one process."""
        if _session is not None:
            _session.group.joined = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if _session is None or not _session.group.joined:
            return
        _session.group.joined = False
        if error is None or isinstance(error, DivergedError) or _session.group.agreed:
            return
        _session.broken = _session.ending = True
        if isinstance(error, Exception) and not isinstance(error, RequestError | RankError):
            _raise_what_another_said(error)


def take_part_in_runs(take_part: Callable[[dict[str, Any], bool], None]) -> int:
    """Wait for the first process's runs and take part in each; returns its exit code when it is done.

    Args:
        take_part: does the common part of a run, given its config and whether it is resumed.
    """
    assert _session is not None
    logging.getLogger("cifar_exp").setLevel(logging.ERROR)  # the first process says the rest
    while (code := _next_run(_session)) is None:
        task = json.loads(_session.store.get(f"run {_session.runs}"))
        _session.runs += 1
        _session.group.joined = True
        try:
            take_part(task["config"], task["resume"])
        except DivergedError:
            pass  # in all processes at the same step; the first one tells
        except BaseException as error:
            if not (_session.group.agreed and isinstance(error, KeyboardInterrupt)):
                return _fail(_session, error)
        _session.group.joined = False
    return code


def _next_run(session: _Session) -> int | None:
    """Wait until there is another run; the exit code where there will be none."""
    while not session.store.check([f"run {session.runs}"]):
        if session.store.check([_OVER]):
            return int(session.store.get(_OVER))
        time.sleep(_POLL_SECONDS)  # and not in the store, which heeds no signal
    return None


def _fail(session: _Session, error: BaseException) -> int:
    """Leave word of an error and go; the end of this process is what wakes the others where they wait for it."""
    session.broken = True
    expected = isinstance(error, RequestError)
    # What is wrong with a request is mostly wrong in all processes, and the first one tells it best.
    until = time.monotonic() + (_PATIENCE_SECONDS if expected else 0)
    while not (over := session.store.check([_OVER])) and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
    if over:  # also where the first process has ended, and with it what this one was waiting for
        return int(session.store.get(_OVER))
    said = {
        "kind": "request" if expected else "error" if isinstance(error, Exception) else "signal",
        "message": str(error) if expected else f"{type(error).__name__}: {error}",
        "traceback": "".join(traceback.format_exception(error)),
        "who": f"process {session.group.rank} ({socket.gethostname()})",
    }
    session.store.set(f"failure of {session.group.rank}", json.dumps(said))
    return WRONG_REQUEST if expected else FAILED


def _raise_what_another_said(cause: BaseException | None) -> None:
    """Raise the error that another process left word of, if one did.

    Raises:
        RequestError: the other process's.
        RankError: it was something else.
        KeyboardInterrupt: it was sent a signal.
    """
    assert _session is not None
    for other in range(1, _session.group.world_size):
        if not _session.store.check([f"failure of {other}"]):
            continue
        said = json.loads(_session.store.get(f"failure of {other}"))
        _session.broken = _session.ending = True
        if said["kind"] == "signal":
            raise KeyboardInterrupt from cause
        error = (RequestError if said["kind"] == "request" else RankError)(f"{said['who']}: {said['message']}")
        error.add_note(f"There:\n{said['traceback']}")
        raise error from cause
    if isinstance(cause, dist.DistError) or re.search("gloo|nccl", str(cause), re.IGNORECASE):
        raise RankError("another process of the run ended without a word: was it killed, or out of memory?") from cause


def _heed_others() -> None:
    """From now on, let a signal raise what another process failed with: torchrun ends all when one has failed."""
    assert _session is not None
    session = _session

    def handle(number: int, frame: FrameType | None) -> None:
        if session.ending:
            return  # what there is to record is being recorded
        session.ending = True
        _raise_what_another_said(None)
        session.handlers[number](number, frame)

    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        if callable(handler) and number not in session.handlers:
            session.handlers[number] = handler
            signal.signal(number, handle)
