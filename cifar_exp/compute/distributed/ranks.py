"""The ranks of a distributed run and the operations between them.

Each rank is a process that torchrun started. It trains and evaluates its shard of every batch. Rank 0 also writes
files, figures, checkpoints and the log. Without torchrun there is one rank, and every operation returns its input.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cifar_exp.errors import RequestError
from cifar_exp.safe_io.plural import plural

T = TypeVar("T")


@dataclass(eq=False)
class Ranks:
    """This process among the ranks of a run."""

    rank: int = 0  # of this process, from 0
    world_size: int = 1  # number of ranks
    stopping: bool = False  # all ranks have agreed to end the run after a signal, so each of them raises the same error

    @property
    def is_rank_0(self) -> bool:
        """Whether this is rank 0, which writes all records."""
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        """Whether there is more than one rank."""
        return self.world_size > 1

    def rows(self, start: int, stop: int) -> tuple[slice, int]:
        """This rank's shard of a batch at rows ``start`` to ``stop``: its rows, and how many of them count.

        Batches are cut into consecutive shards of nearly equal length. A batch can have fewer images than there are
        ranks. A rank without an image takes the first one of the batch, which does not count, because every rank must
        take part in every collective operation.
        """
        count = stop - start
        first, last = (start - -count * rank // self.world_size for rank in (self.rank, self.rank + 1))  # rounded up
        return (slice(first, last), last - first) if last > first else (slice(start, start + 1), 0)

    def device(self, requested: torch.device) -> torch.device:
        """The device of this rank: a GPU per rank, or the CPU for all.

        Raises:
            RequestError: there is no GPU for each rank.
        """
        if not self.is_distributed or requested.type == "cpu":
            return requested
        if str(requested) != "cuda":
            raise RequestError(
                f"device={requested}: {self.world_size} processes cannot share one device; use device=cuda (one GPU "
                "per process) or device=cpu"
            )
        local, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= count:
            raise RequestError(
                f"--nproc-per-node {os.environ['LOCAL_WORLD_SIZE']}: this machine has {plural(count, 'GPU')}, "
                "and each process needs one; start fewer processes"
            )
        torch.cuda.set_device(local)
        return torch.device("cuda", local)

    def wrap(self, model: nn.Module, *, sync_batch_norm: bool, device: torch.device) -> tuple[nn.Module, nn.Module]:
        """Return the network and the module to call in training, which averages gradients over the ranks.

        ``sync_batch_norm`` normalizes by the statistics of the whole batch; it replaces the network's modules.

        Raises:
            RequestError: the device has no synchronized batch normalization.
        """
        if not self.is_distributed:
            return model, model
        if sync_batch_norm and device.type != "cuda":
            raise RequestError(
                f"sync_batch_norm=true: works on GPUs only, but this run uses {device.type} in {self.world_size} "
                "processes; without it each process normalizes by the statistics of its own shard"
            )
        if sync_batch_norm:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.max(0)  # detects a rank that failed earlier, on any device
        return model, DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)

    @torch.no_grad()
    def broadcast_weights(self, model: nn.Module) -> None:
        """Copy rank 0's weights and buffers to all ranks: running statistics differ, as each rank has its own shard."""
        if self.is_distributed:
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, src=0)

    def broadcast(self, make: Callable[[], T]) -> T:
        """Call ``make`` on rank 0 and return its result on all ranks; tensors in it must be on the CPU."""
        if not self.is_distributed:
            return make()
        values: list[Any] = [make() if self.is_rank_0 else None]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def gather(self, value: T) -> list[T]:
        """The value of each rank, in the order of ranks; tensors in it must be on the CPU."""
        if not self.is_distributed:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def sum(self, values: Sequence[T]) -> list[T]:
        """Sum of each value over the ranks, in the order of ranks."""
        return [sum(column[1:], start=column[0]) for column in zip(*self.gather(list(values)), strict=True)]

    def concatenate(self, shards: list[torch.Tensor]) -> list[torch.Tensor]:
        """Whole batches from this rank's shard of each."""
        if not self.is_distributed:
            return shards
        return [torch.cat(parts) for parts in zip(*self.gather([shard.cpu() for shard in shards]), strict=True)]

    def max(self, *values: int) -> list[int]:
        """Maximum of each value over the ranks; takes 0.1 ms on one machine.

        The values travel through the CPU. So no GPU is synchronized, and the end of another rank is detected.
        """
        if not self.is_distributed:
            return list(values)
        highest = torch.tensor(values, dtype=torch.int64)
        dist.all_reduce(highest, op=dist.ReduceOp.MAX)
        return [int(value) for value in highest]

    def agree_to_stop(self, signal_number: int, save: bool) -> tuple[int, bool]:
        """The signal that any rank received (0 if none), and whether any rank wants to save."""
        signal_number, any_save = self.max(signal_number, save)
        self.stopping |= self.is_distributed and signal_number != 0
        return signal_number, bool(any_save)


SINGLE = Ranks()
_current = SINGLE


def current_ranks() -> Ranks:
    """The ranks that work on the present run together."""
    return _current


def set_current_ranks(ranks: Ranks) -> None:
    """Enter (or, with ``SINGLE``, leave) the distributed part of a run."""
    global _current
    _current = ranks
