"""The transforms of an ``augment`` node as one function of batches and seeds, on the images' device."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifar_exp.data.augment.device_transforms import Colour, Move, Parameters, Places, Sent, Size, Transform


class DeviceAugmentation:
    """Applies transforms in their order.

    Args:
        transforms: as ``translate`` makes them; what they do to the size of the images comes to nothing in the end.
        size: height and width of the images.
    """

    def __init__(self, transforms: Sequence[Transform], size: Size) -> None:
        self._transforms = tuple(transforms)
        self._size = size

    def draw(self, count: int, seed: int) -> list[Parameters]:
        """The parameters of each transform for a batch of ``count`` images; they depend on nothing else."""
        rng, size, drawn = np.random.default_rng(seed), self._size, []
        for transform in self._transforms:
            drawn.append(transform.draw(count, size, rng))
            size = transform.after(size)
        return drawn

    def __call__(self, images: Tensor, batches: Sequence[tuple[int, int]]) -> Tensor:
        """Augment batches that lie one behind the other, in as few operations as one of them would take.

        Args:
            images: (N, H, W, C) uint8, on any device; N is the sum over the batches.
            batches: of each batch, how many images it has and the seed that decides its draws.

        Returns:
            (N, H, W, C) uint8 on the same device; with no transforms, the images themselves.
        """
        drawn = [self.draw(count, seed) for count, seed in batches]
        sent = [
            {name: send(np.concatenate([one[name] for one in of_batches]), images.device) for name in of_batches[0]}
            for of_batches in zip(*drawn, strict=True)  # by transform
        ]
        return self.apply(images, sent)

    def apply(self, images: Tensor, parameters: Sequence[Sent]) -> Tensor:
        """Apply the transforms with parameters that are on the images' device.

        Moves that follow each other become one: pixels are fetched once, however often they were moved.
        """
        places: Places | None = None
        fill: Colour | None = None
        for transform, own in zip(self._transforms, parameters, strict=True):
            joins = isinstance(transform, Move) and (fill is None or transform.fill is None)
            if places is not None and not joins:  # before other work, and before a second colour
                images, places, fill = places.gather(images, fill), None, None
            if isinstance(transform, Move):
                places = transform.move(places or Places.unmoved(images), own)
                fill = fill if transform.fill is None else transform.fill
            else:
                images = transform.apply(images, own)
        return images if places is None else places.gather(images, fill)


def send(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """An array as a tensor on the device.

    A GPU fetches it from page-locked memory while the program goes on; on a CPU the two share their memory.
    """
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
