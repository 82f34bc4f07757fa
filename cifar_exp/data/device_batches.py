"""Training batches made where the training images lie: on the compute device."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifar_exp.compute.distributed.shard import WHOLE_BATCH, Shard
from cifar_exp.data.augment.device_transforms import DeviceAugmentation, send
from cifar_exp.data.augment.policy import Augmentation, LowResolution
from cifar_exp.data.batches import Batch, TrainingBatches
from cifar_exp.data.dataset import Split

_PIXELS_AT_ONCE = 2**20  # 1,024 images of 32x32: 3 MB of bytes, 8 MB of places that they are fetched from


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
        shard: Shard = WHOLE_BATCH,
        *,
        on_device: DeviceAugmentation,
        resident: DeviceSplit,
        alternating_flip: bool = False,
        low_resolution: LowResolution | None = None,
        balanced: bool = False,
    ) -> None:
        super().__init__(
            split,
            augmentation,
            batch_size,
            seed,
            shard,
            alternating_flip=alternating_flip,
            low_resolution=low_resolution,
            balanced=balanced,
        )
        self._on_device = on_device
        self._resident = resident

    def images(
        self, epoch: int, batch: int, indices: NDArray[np.int64], shard: Shard | None = None
    ) -> NDArray[np.uint8]:
        """See ``TrainingBatches``."""
        flipped = self.flipped(epoch, indices)
        made: NDArray[np.uint8] = (
            self._made(
                epoch,
                [(len(indices), self.augmentation_seed(epoch, batch, shard or self.shard))],
                send(indices, self._resident.device),
                None if flipped is None else send(flipped, self._resident.device),
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
        at_once = self._at_once
        for start in range(first, self.per_epoch, at_once):
            batches = range(start, min(start + at_once, self.per_epoch))
            rows = [self.own_rows(batch) for batch in batches]
            counts = [own.stop - own.start for own in rows]
            together = torch.cat([indices[own] for own in rows])
            images = self._made(
                epoch,
                [
                    (count, self.augmentation_seed(epoch, batch, self.shard))
                    for batch, count in zip(batches, counts, strict=True)
                ],
                together,
                None if mirrored is None else torch.cat([mirrored[own] for own in rows]),
            )
            labels = self._resident.labels.index_select(0, together)
            yield from zip(images.split(counts), labels.split(counts), strict=True)

    @property
    def _at_once(self) -> int:
        """Batches that are made together: on a GPU each operation costs the same time for a few images as for many."""
        height, width = self.split.images.shape[1:3]
        own = self.own_rows(0)
        return max(_PIXELS_AT_ONCE // ((own.stop - own.start) * height * width), 1)

    def _made(self, epoch: int, batches: Sequence[tuple[int, int]], indices: Tensor, mirrored: Tensor | None) -> Tensor:
        """Batches, one behind the other, (N, H, W, C) uint8.

        Args:
            epoch: counted from 1.
            batches: of each, how many images of it this process makes, and the seed of their augmentation.
            indices: (N,) on the device, of the images in the split.
            mirrored: (N,) on the device, whether the alternating flip mirrors each; None where there is none.
        """
        images = self._resident.images.index_select(0, indices)  # a copy
        if mirrored is not None:
            images = torch.where(mirrored[:, None, None, None], images.flip(2), images)
        images = self._on_device(images, batches)
        shrink = self.shrinks_in(epoch)
        return images if shrink is None else shrink.on_device(images)


class DeviceLoader:
    """Iterates over an epoch's batches in this process."""

    def __init__(self, batches: DeviceBatches) -> None:
        self.batches = batches

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch (counted from 1), in order, from batch ``first`` (counted from 0) on."""
        return self.batches.epoch(epoch, first)
