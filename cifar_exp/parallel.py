"""One run in several processes, as ``torchrun`` starts them: each trains and evaluates on a share of every batch.

The first process (rank 0) does all that a single one does. Each other one waits for a run to begin, builds the same
parts, takes part in training and evaluation, and writes nothing. Outside of a run's common part, and in a program that
torchrun did not start, there is one process, and every function here returns what it was given.
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from cifar_exp.errors import FAILED, WRONG_REQUEST, DivergedError, RequestError

T = TypeVar("T")

# How long one process may wait for another that still lives: a machine may have a data set to download first.
_TIMEOUT = timedelta(hours=1)
_POLL_SECONDS = 0.02
_PATIENCE_SECONDS = 3.0
_OVER = "over"


class RankError(RuntimeError):
    """Another process of the run failed, or ended without a word."""


@dataclass
class _Session:
    """This process among the others.

    Attributes:
        store: what all processes can read and write; lives in torchrun's own process.
        runs: how many runs the processes have begun together.
        joined: whether the common part of a run is going on.
        agreed: the processes have agreed to end the run, as after a signal: each of them raises the same.
        ending: the run is about to end; a further signal changes nothing.
        broken: a process has left a collective operation, so that the group cannot be taken down in order.
    """

    store: Store
    rank: int
    world_size: int
    runs: int = 0
    joined: bool = False
    agreed: bool = False
    ending: bool = False
    broken: bool = False
    handlers: dict[int, Any] = field(default_factory=dict)


_session: _Session | None = None


# --- who takes part ------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Share:
    """Which rows of a batch are a process's own: the batch is cut into consecutive parts of nearly equal length."""

    rank: int = 0
    world_size: int = 1

    def rows(self, start: int, stop: int) -> tuple[slice, int]:
        """This process's rows of a batch that lies at ``start`` to ``stop``, and how many of them count.

        A batch can have fewer images than there are processes. A process that gets none takes the batch's first one,
        which does not count: it has to take part in what all processes do together.
        """
        count = stop - start
        first, last = (start - -count * rank // self.world_size for rank in (self.rank, self.rank + 1))  # rounded up
        return (slice(first, last), last - first) if last > first else (slice(start, start + 1), 0)


ALONE = Share()


def share() -> Share:
    """This process's share of every batch."""
    return Share(rank(), world_size())


def world_size() -> int:
    """How many processes work on the run together."""
    return _session.world_size if _session is not None and _session.joined else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return _session.rank if _session is not None and _session.joined else 0


def is_first() -> bool:
    """Whether this is the process that keeps the records: files, figures, checkpoints, the terminal."""
    return rank() == 0


def own_device(device: torch.device) -> torch.device:
    """The device of this process, where several processes were told to use ``device``.

    Raises:
        RequestError: they cannot have one each.
    """
    if world_size() == 1 or device.type == "cpu":
        return device
    if str(device) != "cuda":
        raise RequestError(
            f"device={device}: {world_size()} processes cannot share it; device=cuda gives each process a GPU of its "
            "own, device=cpu a part of the CPU's cores"
        )
    local, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local >= count:
        raise RequestError(
            f"--nproc-per-node {os.environ['LOCAL_WORLD_SIZE']}: this machine has {count} GPU{'s' * (count != 1)}, and "
            "each process takes one; start as many processes"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


# --- what they do together -----------------------------------------------------------------------------
def synchronized(model: nn.Module, *, sync_batch_norm: bool, device: torch.device) -> tuple[nn.Module, nn.Module]:
    """The network, and what to call in training: the processes' gradients become their mean.

    Args:
        model: on ``device``.
        sync_batch_norm: normalize by the statistics of the whole batch; the network's modules are replaced for that.
        device: of this process.

    Raises:
        RequestError: there is no such batch normalization for the device.
    """
    if world_size() == 1:
        return model, model
    if sync_batch_norm and device.type != "cuda":
        raise RequestError(
            f"sync_batch_norm=true: works on GPUs only, and this run is on {device.type} in {world_size()} processes; "
            "take it out, and each process normalizes by the statistics of its own share"
        )
    if sync_batch_norm:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    agree(False)  # all have come so far: a process that failed on the way is found out here, whatever the device
    return model, DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


@torch.no_grad()
def same_weights(model: nn.Module) -> None:
    """Give all processes the first one's weights and buffers: each has running statistics of its own share."""
    if world_size() > 1:
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, src=0)


def gather(value: T) -> list[T]:
    """The value of each process, by rank; tensors in it must be on the CPU."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def from_first(make: Callable[[], T]) -> T:
    """What the first process makes, in all of them; tensors in it must be on the CPU."""
    if world_size() == 1:
        return make()
    values: list[Any] = [make() if is_first() else None]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def total(values: Sequence[T]) -> list[T]:
    """Numbers, added up over the processes in the order of their ranks."""
    return [sum(column[1:], start=column[0]) for column in zip(*gather(list(values)), strict=True)]


def in_order(parts: list[torch.Tensor]) -> list[torch.Tensor]:
    """Batches, from the part of each that every process has."""
    if world_size() == 1:
        return parts
    return [torch.cat(pieces) for pieces in zip(*gather([part.cpu() for part in parts]), strict=True)]


def agree(*values: int) -> list[int]:
    """The largest of the processes' values, for each; a tenth of a millisecond on one machine.

    It goes by way of the CPU, so that no GPU is waited for, and so that the end of another process is noticed.
    """
    if world_size() == 1:
        return list(values)
    highest = torch.tensor(values, dtype=torch.int64)
    dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    return [int(value) for value in highest]


def agree_to_stop(number: int, save: bool) -> tuple[int, bool]:
    """The signal that any of the processes was sent (0: none), and whether for any it is time to save."""
    number, saving = agree(number, save)
    if _session is not None and number:
        _session.agreed = True
    return number, bool(saving)


# --- how they begin and end ----------------------------------------------------------------------------
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
    _session = _Session(store, rank, world_size)
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
    _session = None
    return code


class Common:
    """The common part of a run, seen by the first process; a context manager that calls the others in.

    An error of another process is raised here: its ``RequestError`` as one, anything else as a ``RankError``.

    Args:
        config: of the run.
        resume: whether it goes on.
    """

    def __init__(self, config: dict[str, Any], *, resume: bool) -> None:
        self._task = json.dumps({"config": config, "resume": resume})

    def __enter__(self) -> "Common":
        if _session is not None:
            _heed_others()
            _session.joined = True
            _session.store.set(f"run {_session.runs}", self._task)
            _session.runs += 1
        return self

    def leave(self) -> None:
        """From here on there is one process."""
        if _session is not None:
            _session.joined = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if _session is None or not _session.joined:
            return
        _session.joined = False
        if error is None or isinstance(error, DivergedError) or _session.agreed:
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
        _session.joined = True
        try:
            take_part(task["config"], task["resume"])
        except DivergedError:
            pass  # in all processes at the same step; the first one tells
        except BaseException as error:
            if not (_session.agreed and isinstance(error, KeyboardInterrupt)):
                return _fail(_session, error)
        _session.joined = False
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
        "who": f"process {session.rank} ({socket.gethostname()})",
    }
    session.store.set(f"failure of {session.rank}", json.dumps(said))
    return WRONG_REQUEST if expected else FAILED


def _raise_what_another_said(cause: BaseException | None) -> None:
    """Raise the error that another process left word of, if one did.

    Raises:
        RequestError: the other process's.
        RankError: it was something else.
        KeyboardInterrupt: it was sent a signal.
    """
    assert _session is not None
    for other in range(1, _session.world_size):
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
