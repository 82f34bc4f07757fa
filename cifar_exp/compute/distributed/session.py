"""Start and end of distributed runs: rank 0 runs the program, the other ranks wait for its runs and join them.

Rank 0 does all that a single process does. The other ranks build the same parts, train and evaluate their shards, and
write nothing. An error on one rank ends the run on all ranks.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from cifar_exp.compute.distributed.ranks import SINGLE, Ranks, current_ranks, set_current_ranks
from cifar_exp.errors import FAILED, WRONG_REQUEST, DivergedError, RequestError

# How long a rank waits for another one that is alive: a machine may have to download a data set first.
_TIMEOUT = timedelta(hours=1)
_POLL_SECONDS = 0.02
_RANK_0_REPORTS_WITHIN_SECONDS = 3.0
_EXIT_CODE = "exit code"  # key in the store; set when rank 0 ends


class RankError(RuntimeError):
    """Another rank failed or ended unexpectedly."""


@dataclass
class _Session:
    """The distributed session of this process."""

    store: Store  # shared by all ranks; lives in torchrun's own process
    ranks: Ranks  # this process among the ranks
    runs: int = 0  # number of runs that the ranks have started together
    ending: bool = False  # the run is about to end; further signals are ignored
    broken: bool = False  # a rank has left a collective operation, so the process group cannot be destroyed in order
    handlers: dict[int, Any] = field(default_factory=dict)  # of the signals, as they were before the first run


_session: _Session | None = None


def run_distributed(program: Callable[[], int], follow: Callable[[], int]) -> int:
    """Run this process as one of the ranks; returns rank 0's exit code on every rank.

    Rank 0 runs ``program``; the others run ``follow``, which calls ``follow_runs``.
    """
    global _session
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    store, rank, world_size = next(rendezvous("env://"))
    group = PrefixStore("group", store)
    dist.init_process_group(backend, store=group, rank=rank, world_size=world_size, timeout=_TIMEOUT)
    _session = _Session(store, Ranks(rank, world_size))
    code = FAILED
    try:
        code = program() if rank == 0 else follow()
    finally:
        if rank == 0:
            store.set(_EXIT_CODE, str(code))
    if _session.broken:
        # Destroying the group would hang under NCCL if this rank waits for others, or they for this one.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    dist.destroy_process_group()
    _session = None
    return code


@contextmanager
def distributed_part(config: dict[str, Any], *, resume: bool) -> Iterator[Callable[[], None]]:
    """The part of a run that all ranks execute; used by rank 0, with the config as plain containers.

    Yields:
        A function that ends this part: rank 0 then continues alone.

    Raises:
        RequestError: another rank's.
        RankError: any other error of another rank.
    """
    session = _session
    if session is None:
        yield lambda: None
        return
    _install_signal_handlers(session)
    set_current_ranks(session.ranks)
    session.store.set(f"run {session.runs}", json.dumps({"config": config, "resume": resume}))
    session.runs += 1
    try:
        yield lambda: set_current_ranks(SINGLE)
    except BaseException as error:
        is_shared = current_ranks() is not SINGLE and not isinstance(error, DivergedError)
        if is_shared and not session.ranks.stopping:
            session.broken = session.ending = True
            if isinstance(error, Exception) and not isinstance(error, RequestError | RankError):
                _raise_failure_of_other_rank(session, error)
        raise
    finally:
        set_current_ranks(SINGLE)


def follow_runs(run_on_rank: Callable[[dict[str, Any], bool], None]) -> int:
    """Join each of rank 0's runs until rank 0 ends; returns its exit code.

    ``run_on_rank`` gets the run's config, as plain containers, and whether it is resumed.
    """
    assert _session is not None
    logging.getLogger("cifar_exp").setLevel(logging.ERROR)  # rank 0 logs the rest
    while True:
        while not _session.store.check([f"run {_session.runs}"]):
            if _session.store.check([_EXIT_CODE]):
                return int(_session.store.get(_EXIT_CODE))
            time.sleep(_POLL_SECONDS)  # not inside the store, which ignores signals
        task = json.loads(_session.store.get(f"run {_session.runs}"))
        _session.runs += 1
        set_current_ranks(_session.ranks)
        try:
            run_on_rank(task["config"], task["resume"])
        except DivergedError:
            pass  # raised on all ranks at the same step; rank 0 reports it
        except BaseException as error:
            if not (_session.ranks.stopping and isinstance(error, KeyboardInterrupt)):
                return _report_failure(_session, error)
        set_current_ranks(SINGLE)


def _report_failure(session: _Session, error: BaseException) -> int:
    """Store this rank's error and return its exit code; the end of this process wakes ranks that wait for it."""
    session.broken = True
    expected = isinstance(error, RequestError)
    # A wrong request mostly fails on all ranks, and rank 0 reports it best.
    until = time.monotonic() + (_RANK_0_REPORTS_WITHIN_SECONDS if expected else 0)
    while not (ended := session.store.check([_EXIT_CODE])) and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
    if ended:  # the error here may only be that rank 0 has ended
        return int(session.store.get(_EXIT_CODE))
    failure = {
        "kind": "request" if expected else "error" if isinstance(error, Exception) else "signal",
        "message": str(error) if expected else f"{type(error).__name__}: {error}",
        "traceback": "".join(traceback.format_exception(error)),
        "rank": f"rank {session.ranks.rank} ({socket.gethostname()})",
    }
    session.store.set(f"failure of {session.ranks.rank}", json.dumps(failure))
    return WRONG_REQUEST if expected else FAILED


def _raise_failure_of_other_rank(session: _Session, cause: BaseException | None) -> None:
    """Raise the error that another rank has stored, if any.

    Raises:
        RequestError: the other rank's.
        RankError: any other error.
        KeyboardInterrupt: the other rank received a signal.
    """
    for other in range(1, session.ranks.world_size):
        if not session.store.check([f"failure of {other}"]):
            continue
        failure = json.loads(session.store.get(f"failure of {other}"))
        session.broken = session.ending = True
        if failure["kind"] == "signal":
            raise KeyboardInterrupt from cause
        error = (RequestError if failure["kind"] == "request" else RankError)(
            f"{failure['rank']}: {failure['message']}"
        )
        error.add_note(f"Traceback of that rank:\n{failure['traceback']}")
        raise error from cause
    if isinstance(cause, dist.DistError) or re.search("gloo|nccl", str(cause), re.IGNORECASE):
        raise RankError("another rank ended without an error message: was it killed, or out of memory?") from cause


def _install_signal_handlers(session: _Session) -> None:
    """Let a signal raise the error of another rank: torchrun ends all ranks when one has failed."""

    def handle(number: int, frame: FrameType | None) -> None:
        if session.ending:
            return  # the records of the run are being written
        session.ending = True
        _raise_failure_of_other_rank(session, None)
        session.handlers[number](number, frame)

    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        if callable(handler) and number not in session.handlers:
            session.handlers[number] = handler
            signal.signal(number, handle)
