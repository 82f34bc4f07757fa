"""Training batches made where the training images lie: on the compute device."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifar_exp.augment import Augmentation, LowResolution
from cifar_exp.augment_device.pipeline import DeviceAugmentation, send
from cifar_exp.batch_share import ALONE, Share
from cifar_exp.data.batches import Batch, TrainingBatches
from cifar_exp.data.dataset import Split


class DeviceSplit:
    """A split on a device, brought there when it is first asked for, once. On a CPU it is the split's own memory."""

    def __init__(self, split: Split, device: torch.device) -> None:
        self._split = split
        self.device = device

    @cached_property
    def images(self) -> Tensor:
        """(N, H, W, C) uint8; not to be written into."""
        return torch.from_numpy(self._split.images).to(self.device)

    @cached_property
    def labels(self) -> Tensor:
        """(N,) int64; not to be written into."""
        return torch.from_numpy(self._split.labels).to(self.device)


class DeviceBatches(TrainingBatches):
    """The batches that ``TrainingBatches`` describes, augmented on the device that holds the images.

    A batch holds the same images; what happens to them is drawn from the same seed, in another way.

    Args:
        on_device: the transforms of ``augmentation``, batched.
        resident: ``split``, on the device.
    """

    backend = "device"

    def __init__(
        self,
        split: Split,
        augmentation: Augmentation,
        batch_size: int,
        seed: int,
        share: Share = ALONE,
        *,
        on_device: DeviceAugmentation,
        resident: DeviceSplit,
        alternating_flip: bool = False,
        low_resolution: LowResolution | None = None,
    ) -> None:
        super().__init__(
            split,
            augmentation,
            batch_size,
            seed,
            share,
            alternating_flip=alternating_flip,
            low_resolution=low_resolution,
        )
        self._on_device = on_device
        self._resident = resident

    def images(
        self, epoch: int, batch: int, indices: NDArray[np.int64], share: Share | None = None
    ) -> NDArray[np.uint8]:
        """See ``TrainingBatches``."""
        flipped = self.flipped(epoch, indices)
        made: NDArray[np.uint8] = (
            self._made(
                epoch,
                batch,
                send(indices, self._resident.device),
                None if flipped is None else send(flipped, self._resident.device),
                share or self.share,
            )
            .cpu()
            .numpy()
        )
        return made

    def loader(self, workers: int, *, pin_memory: bool) -> "DeviceLoader":
        """What iterates over the batches; there is nothing for worker processes to do."""
        del workers, pin_memory
        return DeviceLoader(self)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch (counted from 1), in order, from batch ``first`` (counted from 0) on."""
        order = self.order(epoch)
        flipped = self.flipped(epoch, order)
        indices = send(order, self._resident.device)  # once for the whole epoch
        mirrored = None if flipped is None else send(flipped, self._resident.device)
        for batch in range(first, self.per_epoch):
            rows = self.own_rows(batch)
            own = None if mirrored is None else mirrored[rows]
            images = self._made(epoch, batch, indices[rows], own, self.share)
            yield images, self._resident.labels.index_select(0, indices[rows])

    def _made(self, epoch: int, batch: int, indices: Tensor, mirrored: Tensor | None, share: Share) -> Tensor:
        """A process's part of a batch, (N, H, W, C) uint8; ``indices`` and ``mirrored``, (N,), are on the device."""
        images = self._resident.images.index_select(0, indices)  # a copy
        if mirrored is not None:
            images = torch.where(mirrored[:, None, None, None], images.flip(2), images)
        images = self._on_device(images, self.augmentation_seed(epoch, batch, share))
        shrink = self.shrinks_in(epoch)
        return images if shrink is None else shrink.on_device(images)


class DeviceLoader:
    """Iterates over an epoch's batches in this process."""

    def __init__(self, batches: DeviceBatches) -> None:
        self.batches = batches

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch (counted from 1), in order, from batch ``first`` (counted from 0) on."""
        return self.batches.epoch(epoch, first)
