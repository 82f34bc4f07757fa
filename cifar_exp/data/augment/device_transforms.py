"""Batched equivalents of Albumentations' transforms, in plain PyTorch on (N, H, W, C) uint8 images.

A transform does its work in two parts. ``draw`` makes the parameters of a whole batch by NumPy on the CPU, so that they
are the same on every device. ``apply`` uses them on the images' own device, in a number of operations that does not
depend on how many images there are; none of them makes program and device wait for each other.

The distributions are those of Albumentations 2.0.8, its own rounding included; the draws themselves are others.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Size = tuple[int, int]  # height and width, in pixels
Colour = tuple[int, ...]  # a value in 0..255 for each channel
Parameters = dict[str, NDArray[np.generic]]
Sent = dict[str, Tensor]  # parameters on the images' device

# OpenCV's numbers, which Albumentations takes for border_mode.
CONSTANT, REPLICATE, REFLECT, WRAP, REFLECT_101 = range(5)


class Transform(ABC):
    """What is done to the images of a batch, to each by parameters of its own."""

    def after(self, size: Size) -> Size:
        """Size of the images that come out where those of ``size`` go in."""
        return size

    def draw(self, count: int, size: Size, rng: np.random.Generator) -> Parameters:
        """Parameters for ``count`` images of ``size``: arrays with a row for each; none where nothing is random."""
        del count, size, rng
        return {}

    @abstractmethod
    def apply(self, images: Tensor, parameters: Sent) -> Tensor:
        """New images, (N, H, W, C) uint8; those given are left as they are."""


@dataclass(frozen=True)
class Places:
    """From which row and which column of a batch of images each pixel of another one comes.

    Attributes:
        rows: (N, H) int64, or (1, H) where it is the same for all images; negative where there is none to take.
        columns: (N, W) or (1, W) int64, likewise.
    """

    rows: Tensor
    columns: Tensor

    @classmethod
    def unmoved(cls, images: Tensor) -> "Places":
        """Every pixel of ``images``, (N, H, W, C), where it is."""
        height, width = images.shape[1:3]
        return cls(torch.arange(height, device=images.device)[None], torch.arange(width, device=images.device)[None])

    def gather(self, images: Tensor, fill: Colour | None) -> Tensor:
        """The pixels that are meant, (N, H, W, C) uint8; ``fill`` where there is none to take."""
        count, height, width, channels = images.shape
        first_row = torch.arange(count, device=images.device)[:, None] * height  # of each image among all rows
        row = first_row + self.rows.clamp(min=0)  # (N, H)
        pixel = row[:, :, None] * width + self.columns.clamp(min=0)[:, None, :]  # (N, H, W)
        picked = images.reshape(-1, channels).index_select(0, pixel.reshape(-1)).reshape(*pixel.shape, channels)
        if fill is not None:
            _fill(picked, (self.rows < 0)[:, :, None] | (self.columns < 0)[:, None, :], fill)
        return picked


class Move(Transform):
    """A transform whose pixels are those of its input in other places, rows and columns apart from each other.

    Several in a row become one by handing their ``Places`` on.
    """

    fill: Colour | None = None  # the colour of pixels that come from nowhere

    @abstractmethod
    def move(self, places: Places, parameters: Sent) -> Places:
        """Where the pixels of the output come from, if those of the input come from ``places``."""

    def apply(self, images: Tensor, parameters: Sent) -> Tensor:
        """The images by this transform alone."""
        return self.move(Places.unmoved(images), parameters).gather(images, self.fill)


@dataclass(frozen=True)
class Pad(Move):
    """Pixels around an image.

    Attributes:
        top: pixels, like ``bottom``, ``left`` and ``right``.
        border_mode: ``CONSTANT`` and the others above; what the new pixels show.
        fill: their colour; None unless the mode is ``CONSTANT``.
        anywhere: put the image anywhere in the padded one, by chance; only the sums of the opposite sides then count.
    """

    top: int
    bottom: int
    left: int
    right: int
    border_mode: int = CONSTANT
    fill: Colour | None = None
    anywhere: bool = False

    def after(self, size: Size) -> Size:
        """Larger by the padding."""
        return size[0] + self.top + self.bottom, size[1] + self.left + self.right

    def draw(self, count: int, size: Size, rng: np.random.Generator) -> Parameters:
        """``top`` and ``left``, (N,) pixels, where the place is random."""
        if not self.anywhere:
            return {}
        return {
            "top": rng.integers(0, self.top + self.bottom + 1, count),
            "left": rng.integers(0, self.left + self.right + 1, count),
        }

    def move(self, places: Places, parameters: Sent) -> Places:
        """See ``Move``."""
        top = parameters["top"][:, None] if self.anywhere else self.top
        left = parameters["left"][:, None] if self.anywhere else self.left
        return Places(
            self._padded(places.rows, top, self.top + self.bottom),
            self._padded(places.columns, left, self.left + self.right),
        )

    def _padded(self, source: Tensor, before: Tensor | int, more: int) -> Tensor:
        size = source.shape[1]
        position = torch.arange(size + more, device=source.device)[None] - before  # (N or 1, size + more)
        padded = torch.take_along_dim(source, _inside(position, size, self.border_mode), dim=1)
        if self.border_mode == CONSTANT:
            padded = padded.masked_fill((position < 0) | (position >= size), -1)
        return padded


@dataclass(frozen=True)
class RandomCrop(Move):
    """A part of the image, of ``height`` and ``width`` pixels, every place being equally likely."""

    height: int
    width: int

    def after(self, size: Size) -> Size:
        """The crop's own."""
        return self.height, self.width

    def draw(self, count: int, size: Size, rng: np.random.Generator) -> Parameters:
        """``top`` and ``left``, (N,) pixels."""
        return {
            "top": rng.integers(0, size[0] - self.height + 1, count),
            "left": rng.integers(0, size[1] - self.width + 1, count),
        }

    def move(self, places: Places, parameters: Sent) -> Places:
        """See ``Move``."""
        device = places.rows.device
        rows = parameters["top"][:, None] + torch.arange(self.height, device=device)  # (N, height)
        columns = parameters["left"][:, None] + torch.arange(self.width, device=device)  # (N, width)
        return Places(
            torch.take_along_dim(places.rows, rows, dim=1), torch.take_along_dim(places.columns, columns, dim=1)
        )


@dataclass(frozen=True)
class CenterCrop(Move):
    """The part in the middle, of ``height`` and ``width`` pixels."""

    height: int
    width: int

    def after(self, size: Size) -> Size:
        """The crop's own."""
        return self.height, self.width

    def move(self, places: Places, parameters: Sent) -> Places:
        """See ``Move``."""
        top, left = (places.rows.shape[1] - self.height) // 2, (places.columns.shape[1] - self.width) // 2
        return Places(places.rows[:, top : top + self.height], places.columns[:, left : left + self.width])


@dataclass(frozen=True)
class _Flip(Move):
    """Mirrors an image with probability ``p``."""

    p: float

    def draw(self, count: int, size: Size, rng: np.random.Generator) -> Parameters:
        """``flipped``, (N,) bool."""
        return {"flipped": rng.random(count) < self.p}


class HorizontalFlip(_Flip):
    """Left and right change places, with probability ``p``."""

    def move(self, places: Places, parameters: Sent) -> Places:
        """See ``Move``."""
        flipped = parameters["flipped"][:, None]
        return Places(places.rows, torch.where(flipped, places.columns.flip(1), places.columns))


class VerticalFlip(_Flip):
    """Top and bottom change places, with probability ``p``."""

    def move(self, places: Places, parameters: Sent) -> Places:
        """See ``Move``."""
        flipped = parameters["flipped"][:, None]
        return Places(torch.where(flipped, places.rows.flip(1), places.rows), places.columns)


@dataclass(frozen=True)
class CoarseDropout(Transform):
    """Rectangular holes of one colour, with probability ``p``.

    Attributes:
        holes: the fewest and the most in an image.
        heights: the least and the greatest height, in pixels, or in fractions of the image; which of them, the greatest
            height says for both directions, as in Albumentations: pixels from 1 on.
        widths: likewise.
        fill: the colour.
        p: probability that an image gets holes at all.
    """

    holes: tuple[int, int]
    heights: tuple[float, float]
    widths: tuple[float, float]
    fill: Colour
    p: float

    def draw(self, count: int, size: Size, rng: np.random.Generator) -> Parameters:
        """``top``, ``bottom``, ``left`` and ``right``, (N, holes) pixels; a hole that is not made is 0 pixels high."""
        fewest, most = self.holes
        number = rng.integers(fewest, most + 1, count) * (rng.random(count) < self.p)  # (N,)
        heights, widths = self._sizes((count, most), size, rng)
        heights = heights * (np.arange(most) < number[:, None])
        top = rng.integers(0, size[0] - heights + 1)
        left = rng.integers(0, size[1] - widths + 1)
        return {"top": top, "bottom": top + heights, "left": left, "right": left + widths}

    def _sizes(
        self, shape: tuple[int, int], size: Size, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if self.heights[1] >= 1:
            bounds = [
                self.in_pixels(wanted, whole) for wanted, whole in zip((self.heights, self.widths), size, strict=True)
            ]
            heights, widths = (rng.integers(low, high + 1, shape) for low, high in bounds)
            return heights, widths
        return (
            (size[0] * rng.uniform(*self.heights, shape)).astype(np.int64),
            (size[1] * rng.uniform(*self.widths, shape)).astype(np.int64),
        )

    @staticmethod
    def in_pixels(wanted: tuple[float, float], whole: int) -> tuple[int, int]:
        """The least and the greatest extent of a hole in an image of ``whole`` pixels; the first may be the larger."""
        return int(wanted[0]), int(min(wanted[1], whole))

    def apply(self, images: Tensor, parameters: Sent) -> Tensor:
        """See ``Transform``."""
        height, width = images.shape[1:3]
        row = torch.arange(height, device=images.device)[None]  # (1, H)
        column = torch.arange(width, device=images.device)[None]  # (1, W)
        hidden = torch.zeros(images.shape[:3], dtype=torch.bool, device=images.device)  # (N, H, W)
        for hole in range(self.holes[1]):  # over the holes of an image, not over the images
            top, bottom, left, right = (parameters[side][:, hole, None] for side in ("top", "bottom", "left", "right"))
            rows, columns = (row >= top) & (row < bottom), (column >= left) & (column < right)
            hidden |= rows[:, :, None] & columns[:, None, :]
        return _fill(images.clone(), hidden, self.fill)


def _inside(position: Tensor, size: int, border_mode: int) -> Tensor:
    """Where in 0..size-1 OpenCV's ``borderInterpolate`` looks for what lies at ``position``."""
    if border_mode == REFLECT_101 and size > 1:  # dcb|abcd|cba
        around = position % (2 * size - 2)
        return torch.minimum(around, 2 * size - 2 - around)
    if border_mode == REFLECT:  # cba|abcd|dcb
        around = position % (2 * size)
        return torch.minimum(around, 2 * size - 1 - around)
    if border_mode == WRAP:  # bcd|abcd|abc
        return position % size
    return position.clamp(0, size - 1)


def _fill(images: Tensor, where: Tensor, colour: Colour) -> Tensor:
    """Give ``images`` a colour, in place, where the (N, H, W) mask says so.

    By channel and by numbers: a colour as a tensor would have to be brought to the device.
    """
    for channel, value in enumerate(colour):
        images[..., channel].masked_fill_(where, value)
    return images
