"""Training batches that are augmented on the compute device."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifar_exp.compute.distributed.shard import Shard
from cifar_exp.data.augment.device_transforms import DeviceAugmentation, send
from cifar_exp.data.batches import Batch, TrainingBatches
from cifar_exp.data.dataset import Split

_PIXELS_AT_ONCE = 2**20  # 1,024 images of 32x32: 3 MB of pixels and 8 MB of indices


class DeviceSplit:
    """A split on a device, copied there once at its first use. On a CPU it shares the split's memory."""

    def __init__(self, split: Split, device: torch.device) -> None:
        self._split = split
        self.device = device

    @cached_property
    def images(self) -> Tensor:
        """(N, H, W, C) uint8; read-only."""
        return torch.from_numpy(self._split.images).to(self.device)

    @cached_property
    def labels(self) -> Tensor:
        """(N,) int64; read-only."""
        return torch.from_numpy(self._split.labels).to(self.device)


class DeviceBatches(TrainingBatches):
    """The batches of ``TrainingBatches``, augmented on the device that holds the images.

    A batch has the same images, but other random draws from the same seed.

    Takes the arguments of ``TrainingBatches``, and:

    Args:
        on_device: the transforms of ``augmentation``, batched.
        resident: ``split`` on the device.
    """

    backend = "device"

    def __init__(self, *arguments: Any, on_device: DeviceAugmentation, resident: DeviceSplit, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._on_device = on_device
        self._resident = resident

    def images(
        self, epoch: int, batch: int, indices: NDArray[np.int64], shard: Shard | None = None
    ) -> NDArray[np.uint8]:
        """See ``TrainingBatches``."""
        flipped = self.flipped(epoch, indices)
        images = self._made(
            epoch,
            [(len(indices), self.augmentation_seed(epoch, batch, shard or self.shard))],
            send(indices, self._resident.device),
            None if flipped is None else send(flipped, self._resident.device),
        )
        array: NDArray[np.uint8] = images.cpu().numpy()
        return array

    def loader(self, workers: int, *, pin_memory: bool) -> "DeviceBatches":
        """The batches are their own loader, in this process."""
        del workers, pin_memory
        return self

    @property
    def batches(self) -> "DeviceBatches":
        """See ``EpochLoader``."""
        return self

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
        """The number of batches made together: on a GPU an operation takes the same time for few images as for many."""
        height, width = self.split.images.shape[1:3]
        own = self.own_rows(0)
        return max(_PIXELS_AT_ONCE // ((own.stop - own.start) * height * width), 1)

    def _made(self, epoch: int, batches: Sequence[tuple[int, int]], indices: Tensor, mirrored: Tensor | None) -> Tensor:
        """Concatenated batches, (N, H, W, C) uint8.

        Args:
            epoch: counted from 1.
            batches: for each batch, the number of images in this rank's shard and the seed of their augmentation.
            indices: (N,) on the device, of the images in the split.
            mirrored: (N,) on the device, whether the alternating flip mirrors each; None if it is off.
        """
        images = self._resident.images.index_select(0, indices)  # a copy
        if mirrored is not None:
            images = torch.where(mirrored[:, None, None, None], images.flip(2), images)
        images = self._on_device(images, batches)
        shrink = self.shrinks_in(epoch)
        return images if shrink is None else shrink.on_device(images)
