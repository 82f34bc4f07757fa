"""One run in several processes, as ``torchrun`` starts them: which one this is, and what they do together.

Each process trains and evaluates on a share of every batch; the first one (rank 0) does all else that a single one
does. Outside of the common part of a run (see ``joint_run``), and in a program that torchrun did not start, there is
one process, and every function here returns what it was given.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cifar_exp.compute.distributed.shard import Share
from cifar_exp.errors import RequestError
from cifar_exp.safe_io.plural import plural

T = TypeVar("T")


@dataclass
class Group:
    """This process among those that torchrun started.

    Attributes:
        rank: from 0.
        world_size: how many they are.
        joined: whether the common part of a run is going on.
        agreed: the processes have agreed to end the run, as after a signal: each of them raises the same.
    """

    rank: int
    world_size: int
    joined: bool = False
    agreed: bool = False


group: Group | None = None  # set by ``joint_run.together`` for as long as the program lasts


# --- which one this is ---------------------------------------------------------------------------------
def share() -> Share:
    """This process's share of every batch."""
    return Share(rank(), world_size())


def world_size() -> int:
    """How many processes work on the run together."""
    return group.world_size if group is not None and group.joined else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return group.rank if group is not None and group.joined else 0


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
            f"--nproc-per-node {os.environ['LOCAL_WORLD_SIZE']}: this machine has {plural(count, 'GPU')}, and "
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
    if group is not None and number:
        group.agreed = True
    return number, bool(saving)
