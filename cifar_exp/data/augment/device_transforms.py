"""Pad and crop, flip, and cutout for whole batches, in plain PyTorch on (N, H, W, C) uint8 images.

Each transform has two parts. ``draw`` makes the parameters of a batch with NumPy on the CPU, so that they are the same
on every device. ``apply`` computes new images from these parameters on the images' device. It does not synchronize
with the device.

The distributions are those of Albumentations 2.0.8. The random numbers themselves differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Colour = tuple[int, ...]  # a value in 0..255 for each channel
Parameters = dict[str, NDArray[np.generic]]  # (N,) each


@dataclass(frozen=True)
class PadCrop:
    """Pads an image and crops it to its old size at a random place."""

    top: int  # pixels of padding
    bottom: int
    left: int
    right: int
    fill: Colour | None  # None: reflect padding (OpenCV's BORDER_REFLECT_101)

    def draw(self, count: int, size: tuple[int, int], rng: np.random.Generator) -> Parameters:
        """Draw the ``row`` and ``column`` of the crop's upper left corner in the padded image."""
        return {
            "row": rng.integers(0, self.top + self.bottom + 1, count),
            "column": rng.integers(0, self.left + self.right + 1, count),
        }

    def apply(self, images: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        """Crop (N, H, W, C) images."""
        count, height, width, channels = images.shape
        device = images.device
        source_rows = parameters["row"][:, None] - self.top + torch.arange(height, device=device)  # (N, H)
        source_columns = parameters["column"][:, None] - self.left + torch.arange(width, device=device)  # (N, W)
        # Each image's first row in the flattened batch.
        first_row = torch.arange(count, device=device)[:, None] * height
        row_index = source_rows.clamp(0, height - 1) if self.fill else _reflect(source_rows, height)
        column_index = source_columns.clamp(0, width - 1) if self.fill else _reflect(source_columns, width)
        pixel = (first_row + row_index)[:, :, None] * width + column_index[:, None, :]  # (N, H, W)
        cropped = images.reshape(-1, channels).index_select(0, pixel.reshape(-1)).reshape(images.shape)
        if self.fill:
            outside = (source_rows != row_index)[:, :, None] | (source_columns != column_index)[:, None, :]
            _fill(cropped, outside, self.fill)
        return cropped


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirrors an image left to right with probability ``p``."""

    p: float

    def draw(self, count: int, size: tuple[int, int], rng: np.random.Generator) -> Parameters:
        """Draw ``flipped`` (bool): whether each image is mirrored."""
        return {"flipped": rng.random(count) < self.p}

    def apply(self, images: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        """Mirror (N, H, W, C) images."""
        return torch.where(parameters["flipped"][:, None, None, None], images.flip(2), images)


@dataclass(frozen=True)
class Cutout:
    """One rectangular hole inside the image, with probability ``p``."""

    heights: tuple[int, int]  # the smallest and the largest, in pixels
    widths: tuple[int, int]
    fill: Colour
    p: float

    def draw(self, count: int, size: tuple[int, int], rng: np.random.Generator) -> Parameters:
        """Draw ``top``, ``bottom``, ``left`` and ``right`` in pixels; without a hole, ``bottom`` is ``top``."""
        has_hole = rng.random(count) < self.p
        height, width = (rng.integers(low, high + 1, count) for low, high in (self.heights, self.widths))
        top, left = rng.integers(0, size[0] - height + 1), rng.integers(0, size[1] - width + 1)
        return {"top": top, "bottom": top + height * has_hole, "left": left, "right": left + width}

    def apply(self, images: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        """Cover parts of (N, H, W, C) images."""
        top, bottom, left, right = (parameters[side][:, None] for side in ("top", "bottom", "left", "right"))
        row = torch.arange(images.shape[1], device=images.device)
        column = torch.arange(images.shape[2], device=images.device)
        hidden = ((row >= top) & (row < bottom))[:, :, None] & ((column >= left) & (column < right))[:, None, :]
        return _fill(images.clone(), hidden, self.fill)


Transform = PadCrop | HorizontalFlip | Cutout


@dataclass(frozen=True)
class DeviceAugmentation:
    """Applies transforms in their order."""

    transforms: Sequence[Transform]
    size: tuple[int, int]  # height and width of the images

    def __call__(self, images: Tensor, batches: Sequence[tuple[int, int]]) -> Tensor:
        """Augment consecutive batches together, with the same number of kernel launches as for one batch.

        Args:
            images: (N, H, W, C) uint8, on any device; N is the sum over the batches.
            batches: number of images and seed of each batch.
        """
        drawn = []
        for count, seed in batches:
            rng = np.random.default_rng(seed)  # one generator draws for all transforms in turn
            drawn.append([transform.draw(count, self.size, rng) for transform in self.transforms])
        for transform, batch_parameters in zip(self.transforms, zip(*drawn, strict=True), strict=True):
            parameters = {
                name: to_device(np.concatenate([one[name] for one in batch_parameters]), images.device)
                for name in batch_parameters[0]
            }
            images = transform.apply(images, parameters)
        return images


def to_device(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """Copy an array to the device.

    A GPU copies it asynchronously from page-locked memory; on a CPU the tensor shares the array's memory.
    """
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _reflect(position: Tensor, size: int) -> Tensor:
    """Reflect positions into 0..size-1, for positions less than ``size`` outside: dcb|abcd|cba."""
    return size - 1 - (size - 1 - position.abs()).abs()


def _fill(images: Tensor, where: Tensor, colour: Colour) -> Tensor:
    """Set ``images`` to a colour, in place, where the (N, H, W) mask is true.

    Fills each channel with a Python number, because a colour tensor would have to be copied to the device.
    """
    for channel, value in enumerate(colour):
        images[..., channel].masked_fill_(where, value)
    return images
