"""The order of the training images, and their augmented batches."""

import math
import signal
import sys
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from cifar_exp.compute.distributed.ranks import SINGLE, Ranks
from cifar_exp.compute.seeding import derived_seed
from cifar_exp.data.augment.pipeline import Augmentation, LowResolution
from cifar_exp.data.dataset import Split

Batch = tuple[torch.Tensor, torch.Tensor]  # (N, H, W, C) uint8, (N,) int64
# Epoch (counted from 1), batch (counted from 0), and indices of the images of this rank's shard.
Key = tuple[int, int, NDArray[np.int64]]


@dataclass(eq=False)
class TrainingBatches(Dataset[Batch]):
    """Augmented training batches by (epoch, batch), the same in every process."""

    split: Split  # the training images
    augmentation: Augmentation  # applied to each batch
    batch_size: int  # images in a batch; the last one of an epoch may be smaller
    seed: int  # of order and augmentation
    ranks: Ranks = SINGLE  # whose shard of each batch is made
    # Mirror each image in every other epoch, half of the images in the first (Jordan 2024, arXiv 2404.00498). In two
    # epochs the network sees both sides of each image; random flips do not ensure that.
    alternating_flip: bool = field(default=False, kw_only=True)
    low_resolution: LowResolution | None = field(default=None, kw_only=True)  # reduces the images of the first epochs
    balanced: bool = field(default=False, kw_only=True)  # equally many images of each class; see ``balanced_order``
    backend: ClassVar[str] = "albumentations"  # name of the augmentation backend; see ``augment.backend``

    @cached_property
    def _flips_in_odd_epochs(self) -> NDArray[np.bool_] | None:
        """(N,) whether an image is mirrored in odd epochs."""
        if not self.alternating_flip:
            return None
        rank = np.random.default_rng(derived_seed(self.seed, "alternating_flip")).permutation(len(self.split))
        return rank % 2 == 0

    @property
    def per_epoch(self) -> int:
        """Batches, and therefore optimizer steps, in an epoch."""
        return math.ceil(len(self.split) / self.batch_size)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return positions of the training images in the order of an epoch (counted from 1)."""
        generator = np.random.default_rng(derived_seed(self.seed, "order", epoch))
        if self.balanced:
            return balanced_order(self.split.labels, generator)
        return generator.permutation(len(self.split))

    def keys(self, epoch: int, first: int = 0) -> list[Key]:
        """List the batches of an epoch (counted from 1), from batch ``first`` (counted from 0) on; see ``Key``."""
        order = self.order(epoch)
        return [(epoch, batch, order[self.own_rows(batch)]) for batch in range(first, self.per_epoch)]

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of ``keys``, made in this process when they are needed."""
        return map(self.__getitem__, self.keys(epoch, first))

    def sizes(self, batch: int) -> tuple[int, int]:
        """Return the number of images in this rank's shard of a batch (counted from 0), and in the batch."""
        start, stop = self._bounds(batch)
        return self.ranks.rows(start, stop)[1], stop - start

    def own_rows(self, batch: int) -> slice:
        """Return this rank's shard of a batch, as rows in the order of an epoch; at least one row."""
        return self.ranks.rows(*self._bounds(batch))[0]

    def images(self, epoch: int, batch: int, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Augment the images at ``indices``, which are this rank's shard of a batch (counted from 0) of an epoch."""
        images = self.split.images[indices]  # (N, H, W, C), a copy
        flipped = self.flipped(epoch, indices)
        if flipped is not None:
            images[flipped] = images[flipped, :, ::-1]
        images = self.augmentation(images, self.augmentation_seed(epoch, batch))
        shrink = self.shrinks_in(epoch)
        return images if shrink is None else shrink(images)

    def flipped(self, epoch: int, indices: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Return (N,) whether the alternating flip mirrors the images at ``indices``; None if it is off."""
        return None if self._flips_in_odd_epochs is None else self._flips_in_odd_epochs[indices] == (epoch % 2 == 1)

    def augmentation_seed(self, epoch: int, batch: int) -> int:
        """Return the seed of the random draws for this rank's shard of a batch."""
        own = (self.ranks.rank, self.ranks.world_size) if self.ranks.is_distributed else ()
        return derived_seed(self.seed, "augment", epoch, batch, *own)

    def shrinks_in(self, epoch: int) -> LowResolution | None:
        """Return the reduction of the images in an epoch; None for full resolution."""
        return self.low_resolution if self.low_resolution and epoch <= self.low_resolution.epochs else None

    def __getitem__(self, key: Key) -> Batch:
        epoch, batch, indices = key
        return torch.from_numpy(self.images(epoch, batch, indices)), torch.from_numpy(self.split.labels[indices])

    def as_seen(self, index: int, epoch: int) -> NDArray[np.uint8]:
        """Return one training image, (H, W, C) uint8, exactly as the network sees it in an epoch."""
        order = self.order(epoch)
        if index not in order:  # a balanced epoch leaves images out
            return self.images(epoch, 0, np.array([index]))[0]
        place = int(np.flatnonzero(order == index)[0])
        batch = place // self.batch_size
        rank = copy(self)
        for number in range(self.ranks.world_size):
            rank.ranks = Ranks(number, self.ranks.world_size)
            rows = rank.own_rows(batch)
            if rows.start <= place < rows.stop:
                return rank.images(epoch, batch, order[rows])[place - rows.start]
        raise AssertionError(f"no rank has row {place} of the epoch")

    def _bounds(self, batch: int) -> tuple[int, int]:
        return batch * self.batch_size, min((batch + 1) * self.batch_size, len(self.split))


def balanced_order(labels: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw (N,) positions of N images in random order, with N / classes of each class (up to 1).

    A large class shows a random part of its images, a small one repeats its images, each nearly as often.
    """
    classes = generator.permutation(np.unique(labels))
    quotas = [len(labels) // len(classes) + (rank < len(labels) % len(classes)) for rank in range(len(classes))]
    chosen = []
    for label, quota in zip(classes, quotas, strict=True):
        positions = np.flatnonzero(labels == label)
        rounds = [generator.permutation(positions) for _ in range(math.ceil(quota / len(positions)))]
        chosen.append(np.concatenate(rounds or [positions])[:quota])
    return generator.permutation(np.concatenate(chosen))


def _ignore_signals(_worker: int) -> None:
    """Ctrl-C and a cluster's SIGTERM reach every process of a job; the workers must live until the run has saved."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class Loader:
    """Iterates over an epoch's batches, which ``workers`` processes make."""

    def __init__(self, batches: TrainingBatches, workers: int, *, pin_memory: bool) -> None:
        self._batches = batches
        self._keys: list[Key] = []  # of the current epoch
        self._loader: DataLoader[Batch] = DataLoader(
            batches,
            batch_size=None,  # a key asks for a whole batch
            sampler=self._keys,
            num_workers=workers,
            persistent_workers=True,
            # Explicit, as a calling program may have set another default. Forked workers share the images in memory.
            multiprocessing_context="fork" if sys.platform == "linux" else "spawn",
            pin_memory=pin_memory,
            worker_init_fn=_ignore_signals,
            generator=torch.Generator(),  # its own, so that the loader does not change the draws of dropout
        )

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield batches as ``TrainingBatches.epoch``."""
        self._keys[:] = self._batches.keys(epoch, first)
        return iter(self._loader)
