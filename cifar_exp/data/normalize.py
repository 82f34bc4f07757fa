"""Channel statistics of the training images, and normalization by them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cifar_exp.errors import RequestError

if TYPE_CHECKING:  # commands that only read data sets must not load PyTorch
    import torch

    from cifar_exp.compute.device import Compute


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each channel, for pixels from 0 to 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def colour(self) -> tuple[float, ...]:
        """The mean for pixels from 0 to 255."""
        return tuple(255 * value for value in self.mean)


def compute_statistics(images: NDArray[np.uint8], decimals: int | None) -> Statistics:
    """Compute channel mean and (population) standard deviation of (N, H, W, C) uint8 images, exactly from counts.

    Both are rounded to ``decimals``, if given.

    Raises:
        RequestError: a channel is constant, or a deviation is rounded to 0.
    """
    counts = np.zeros((images.shape[3], 256), np.int64)
    for start in range(0, len(images), 500):  # in parts: bincount needs 8 bytes for each pixel
        pixels = images[start : start + 500].reshape(-1, images.shape[3])
        for channel, column in enumerate(pixels.T):
            counts[channel] += np.bincount(column, minlength=256)
    values = np.arange(256) / 255
    means, stds = [], []
    for channel_counts in counts:
        if np.count_nonzero(channel_counts) == 1:
            raise RequestError("a channel of the training images is constant, so they cannot be normalized")
        mean = float(channel_counts @ values / channel_counts.sum())
        variance = float(channel_counts @ (values - mean) ** 2 / channel_counts.sum())
        means.append(mean)
        stds.append(variance**0.5)
    if decimals is not None:
        means, stds = ([round(value, decimals) for value in numbers] for numbers in (means, stds))
        if min(stds) == 0:
            raise RequestError(
                f"data.statistics_decimals={decimals}: rounds a standard deviation to 0; choose more decimals"
            )
    return Statistics(tuple(means), tuple(stds))


class Normalizer:
    """Normalizes uint8 images by channel, ``(pixel / 255 - mean) / std``, on the compute device."""

    def __init__(self, statistics: Statistics, compute: "Compute") -> None:
        import torch

        self._compute = compute
        # Folded into one subtraction and one product over the batch.
        self._mean = torch.tensor(statistics.colour, dtype=torch.float32, device=compute.device).view(1, -1, 1, 1)
        scale = [1 / (255 * std) for std in statistics.std]
        self._scale = torch.tensor(scale, dtype=torch.float32, device=compute.device).view(1, -1, 1, 1)

    def __call__(self, images: "torch.Tensor") -> "torch.Tensor":
        """Normalize (N, H, W, C) uint8 images; returns (N, C, H, W) float32."""
        images = images.to(self._compute.device, non_blocking=True).permute(0, 3, 1, 2)  # (N, C, H, W)
        images = images.to(self._mean.dtype, memory_format=self._compute.memory_format)
        return images.sub_(self._mean).mul_(self._scale)
