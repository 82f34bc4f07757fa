"""Held-out splits, subsets, and the statistics that images are normalized by."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cifar_exp.data.dataset import Dataset, Split
from cifar_exp.errors import RequestError


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each channel, on the scale where white is 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def colour(self) -> tuple[float, ...]:
        """The mean on the scale of the pixels, 0 to 255."""
        return tuple(255 * value for value in self.mean)


def stratified_choice(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Choose ``count`` of the examples so that each class is represented in proportion.

    Each class gets its share rounded down; what is left over goes to the classes with the largest remainder
    (Hare's quota), so the total is exact.

    Args:
        labels: (N,) class of each example.
        count: how many to choose, 0 to N.
        seed: which ones.

    Returns:
        (count,) positions, ascending.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    quotas = sizes * count / len(labels)
    shares = np.floor(quotas).astype(int)
    largest = np.argsort(shares - quotas, kind="stable")[: count - shares.sum()]
    shares[largest] += 1
    generator = np.random.default_rng(seed)
    chosen = [
        generator.permutation(np.flatnonzero(labels == label))[:share]
        for label, share in zip(classes, shares, strict=True)
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def limit(dataset: Dataset, *, train: int | None, test: int | None, seed: int) -> Dataset:
    """Keep only so many images of each split, stratified. The fingerprint stays the whole data set's."""

    def some(split: Split, count: int | None) -> Split:
        if count is None or count >= len(split):
            return split
        return split.take(stratified_choice(split.labels, count, seed))

    return Dataset(some(dataset.train, train), some(dataset.test, test), dataset.class_names, dataset.fingerprint)


def hold_out(train: Split, fraction: float, seed: int, class_names: tuple[str, ...]) -> tuple[Split, Split | None]:
    """Take a stratified fraction of the training images away for validation.

    Returns:
        The images left for training, and the validation images (None where ``fraction`` is 0).

    Raises:
        RequestError: the fraction leaves nothing for one side, or some class without a training image.
    """
    if fraction == 0:
        return train, None
    count = round(fraction * len(train))
    if not 0 < count < len(train):
        raise RequestError(
            f"data.validation_fraction={fraction}: of {len(train)} training images that is {count}; "
            "choose a fraction that leaves images on both sides, or 0"
        )
    held = stratified_choice(train.labels, count, seed)
    kept = np.setdiff1d(np.arange(len(train)), held)
    emptied = np.setdiff1d(train.labels, train.labels[kept])
    if len(emptied):
        raise RequestError(
            f"data.validation_fraction={fraction}: leaves no training image of class {class_names[emptied[0]]!r}"
        )
    return train.take(kept), train.take(held)


def statistics(images: NDArray[np.uint8], decimals: int | None) -> Statistics:
    """Channel mean and (population) standard deviation over all pixels, computed exactly from counts.

    Args:
        images: (N, H, W, C) uint8.
        decimals: round both to so many places; None keeps them exact.

    Raises:
        RequestError: a channel has the same value in every pixel, or a deviation is rounded to 0.
    """
    counts = np.zeros((images.shape[3], 256), np.int64)
    for start in range(0, len(images), 500):  # bincount makes 8 bytes of each pixel: a part at a time
        pixels = images[start : start + 500].reshape(-1, images.shape[3])
        for channel, column in enumerate(pixels.T):
            counts[channel] += np.bincount(column, minlength=256)
    values = np.arange(256) / 255
    means, stds = [], []
    for channel_counts in counts:
        mean = float(channel_counts @ values / channel_counts.sum())
        variance = float(channel_counts @ (values - mean) ** 2 / channel_counts.sum())
        means.append(mean)
        stds.append(variance**0.5)
    if any(np.count_nonzero(channel_counts) == 1 for channel_counts in counts):
        raise RequestError("the training images have a channel without any variation; they cannot be normalized")
    if decimals is not None:
        means, stds = ([round(value, decimals) for value in numbers] for numbers in (means, stds))
        if min(stds) == 0:
            raise RequestError(
                f"data.statistics_decimals={decimals}: rounds a standard deviation to 0; keep more places"
            )
    return Statistics(tuple(means), tuple(stds))
