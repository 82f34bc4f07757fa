"""Training batches that are augmented on the compute device."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifar_exp.data.augment.device_transforms import DeviceAugmentation, to_device
from cifar_exp.data.batches import Batch, TrainingBatches

_PIXELS_AT_ONCE = 2**20  # 1,024 images of 32x32: 3 MB of pixels and 8 MB of indices


@dataclass(eq=False)
class DeviceBatches(TrainingBatches):
    """The batches of ``TrainingBatches``, augmented on the device that holds the images.

    Each batch has the same images as in ``TrainingBatches``, but different augmentation: the random numbers come from
    another generator.
    """

    device_augmentation: DeviceAugmentation = field(kw_only=True)  # the transforms of ``augmentation``, batched
    # Gets a copy of the split at the first use. On a CPU the copy shares the split's memory.
    device: torch.device = field(kw_only=True)
    backend: ClassVar[str] = "device"

    @cached_property
    def _images(self) -> Tensor:
        """(N, H, W, C) uint8; read-only."""
        return torch.from_numpy(self.split.images).to(self.device)

    @cached_property
    def _labels(self) -> Tensor:
        """(N,) int64; read-only."""
        return torch.from_numpy(self.split.labels).to(self.device)

    def images(self, epoch: int, batch: int, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """See ``TrainingBatches``."""
        seed = self.augmentation_seed(epoch, batch)
        images: NDArray[np.uint8] = self._make_batches(epoch, indices, [(len(indices), seed)])[0].cpu().numpy()
        return images

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """See ``TrainingBatches``."""
        order = self.order(epoch)
        for start in range(first, self.per_epoch, self._at_once):
            batches = range(start, min(start + self._at_once, self.per_epoch))
            indices = [order[self.own_rows(batch)] for batch in batches]
            counts = [len(own) for own in indices]
            seeds = [self.augmentation_seed(epoch, batch) for batch in batches]
            images, labels = self._make_batches(epoch, np.concatenate(indices), list(zip(counts, seeds, strict=True)))
            yield from zip(images.split(counts), labels.split(counts), strict=True)

    @property
    def _at_once(self) -> int:
        """Number of batches made in one step; on a GPU, launch overhead dominates small operations."""
        height, width = self.split.images.shape[1:3]
        own = self.own_rows(0)
        return max(_PIXELS_AT_ONCE // ((own.stop - own.start) * height * width), 1)

    def _make_batches(self, epoch: int, indices: NDArray[np.int64], batches: Sequence[tuple[int, int]]) -> Batch:
        """Make consecutive batches of an epoch (counted from 1), concatenated.

        Args:
            epoch: counted from 1.
            indices: (N,) indices of the images in the split.
            batches: number of images and seed of their augmentation, for each batch.
        """
        positions = to_device(indices, self.device)
        images = self._images.index_select(0, positions)  # a copy
        flipped = self.flipped(epoch, indices)
        if flipped is not None:
            images = torch.where(to_device(flipped, self.device)[:, None, None, None], images.flip(2), images)
        images = self.device_augmentation(images, batches)
        shrink = self.shrinks_in(epoch)
        return images if shrink is None else shrink.on_device(images), self._labels.index_select(0, positions)
