"""Scales images to the size of the network's input."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cifar_exp.compute.memory import memory_bytes
from cifar_exp.errors import RequestError


def fit(image: Image.Image, size: int) -> Image.Image:
    """Scale the shorter side to ``size`` pixels and crop the centre; an image of that size is returned unchanged.

    Bilinear with antialiasing, as in torchvision's ``Resize`` and ``CenterCrop``.
    """
    if image.size == (size, size):
        return image
    width, height = (int(size * side / min(image.size)) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    # Only the cropped part is scaled, with the same weights: the whole of a long strip may not fit into memory.
    box = (
        left * image.width / width,
        top * image.height / height,
        (left + size) * image.width / width,
        (top + size) * image.height / height,
    )
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)


def resize_all(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """``fit`` for an (N, H, W, C) array; returns (N, size, size, C)."""
    if images.shape[1:3] == (size, size):
        return images
    gray = images.shape[3] == 1
    resized = room_for((len(images), size, size, images.shape[3]), "resized")
    for place, image in enumerate(images):
        resized[place] = np.asarray(fit(Image.fromarray(image[:, :, 0] if gray else image), size)).reshape(
            resized.shape[1:]
        )
    return resized


def room_for(shape: tuple[int, ...], what: str) -> NDArray[np.uint8]:
    """An uninitialized array for images, refused if it exceeds the machine's memory."""
    needed, available = math.prod(shape), memory_bytes()
    if available is not None and needed > available:
        raise RequestError(
            f"the {shape[0]:,} {what} images of {shape[1]}x{shape[2]} take {needed / 1e9:,.1f} GB, and this machine "
            f"has {available / 1e9:,.1f} GB of memory; choose a smaller data.image_size"
        )
    return np.empty(shape, np.uint8)
