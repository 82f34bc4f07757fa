"""The order of the training images, and the batches made of them."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from cifar_exp.augment import Augmentation
from cifar_exp.data.dataset import Split
from cifar_exp.provenance import derived_seed

Batch = tuple[torch.Tensor, torch.Tensor]  # (N, H, W, C) uint8, (N,) int64


class TrainingBatches(Dataset[Batch]):
    """Augmented batches by (epoch, batch): what the network sees there, whichever process asks.

    Args:
        split: the training images.
        augmentation: applied to each batch.
        batch_size: images in a batch; the last one of an epoch holds what is left.
        seed: decides order and augmentation.
    """

    def __init__(self, split: Split, augmentation: Augmentation, batch_size: int, seed: int) -> None:
        self.split = split
        self.augmentation = augmentation
        self.batch_size = batch_size
        self.seed = seed

    @property
    def per_epoch(self) -> int:
        """Batches, and so optimizer steps, in an epoch."""
        return math.ceil(len(self.split) / self.batch_size)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Positions of the training images in the order of an epoch (counted from 1)."""
        return np.random.default_rng(derived_seed(self.seed, "order", epoch)).permutation(len(self.split))

    def images(self, epoch: int, batch: int, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The augmented images at ``indices``, which make up a batch (counted from 0) of an epoch."""
        return self.augmentation(self.split.images[indices], derived_seed(self.seed, "augment", epoch, batch))

    def __getitem__(self, key: tuple[int, int, NDArray[np.int64]]) -> Batch:
        epoch, batch, indices = key
        return torch.from_numpy(self.images(epoch, batch, indices)), torch.from_numpy(self.split.labels[indices])

    def as_seen(self, index: int, epoch: int) -> NDArray[np.uint8]:
        """One training image, (H, W, C) uint8, exactly as the network sees it in an epoch."""
        order = self.order(epoch)
        place = int(np.flatnonzero(order == index)[0])
        batch, row = divmod(place, self.batch_size)
        indices = order[batch * self.batch_size : (batch + 1) * self.batch_size]
        return self.images(epoch, batch, indices)[row]


class _EpochKeys(Sampler[tuple[int, int, NDArray[np.int64]]]):
    """The keys of one epoch's batches. Each key carries its epoch: loader processes live longer than one."""

    def __init__(self, batches: TrainingBatches) -> None:
        self.batches = batches
        self.epoch = 1

    def __len__(self) -> int:
        return self.batches.per_epoch

    def __iter__(self) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
        order = self.batches.order(self.epoch)
        size = self.batches.batch_size
        for batch in range(self.batches.per_epoch):
            yield self.epoch, batch, order[batch * size : (batch + 1) * size]


class Loader:
    """Iterates over an epoch's batches, made by ``workers`` processes (0: by this one)."""

    def __init__(self, batches: TrainingBatches, workers: int, *, pin_memory: bool) -> None:
        self.batches = batches
        self._keys = _EpochKeys(batches)
        self._loader: DataLoader[Batch] = DataLoader(
            batches,
            batch_size=None,  # a key asks for a whole batch
            sampler=self._keys,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # its own: a loader must not draw from the stream that a dropout draws from
        )

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch (counted from 1), in order."""
        self._keys.epoch = epoch
        return iter(self._loader)
