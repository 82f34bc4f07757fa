"""Bringing images to the size that the network gets."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def fit(image: Image.Image, size: int) -> Image.Image:
    """Scale the shorter side to ``size`` pixels and crop the centre; an image of that size is returned as it is.

    Bilinear with antialiasing, as in torchvision's ``Resize`` and ``CenterCrop``.
    """
    if image.size == (size, size):
        return image
    width, height = (int(size * side / min(image.size)) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    # Only what the crop keeps is scaled, by the same weights: the whole of a long strip may not fit into memory.
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
    resized = [np.asarray(fit(Image.fromarray(i[:, :, 0] if gray else i), size)) for i in images]
    return np.stack(resized).reshape(len(images), size, size, images.shape[3])
