"""Stratified splits and subsets."""

import numpy as np
from numpy.typing import NDArray

from cifar_exp.data.dataset import Dataset, Split
from cifar_exp.errors import RequestError


def stratified_choice(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Choose ``count`` (0 to N) of N examples, with each class of the (N,) ``labels`` in proportion.

    Each class gets its quota rounded down; the remaining seats go to the classes with the largest remainders
    (Hare quota), so the total is exact.

    Returns:
        (count,) positions, ascending.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    quotas = sizes * count / len(labels)
    shares = np.floor(quotas).astype(int)
    largest = np.argsort(shares - quotas, kind="stable")[: count - shares.sum()]
    shares[largest] += 1
    generator = np.random.default_rng(seed)
    positions = [
        generator.permutation(np.flatnonzero(labels == label))[:share]
        for label, share in zip(classes, shares, strict=True)
    ]
    return np.sort(np.concatenate(positions)).astype(np.int64)


def spread_evenly(images: int, count: int) -> NDArray[np.int64]:
    """Return at most ``count`` positions, evenly through a split: folders of images are in the order of the classes."""
    return np.linspace(0, images - 1, min(count, images)).astype(np.int64)


def limit(dataset: Dataset, *, train: int | None, test: int | None, seed: int) -> Dataset:
    """Keep the given number of images of each split, stratified. The fingerprint stays that of the whole data set."""

    def choose(split: Split, count: int | None) -> Split:
        if count is None or count >= len(split):
            return split
        return split.take(stratified_choice(split.labels, count, seed))

    return Dataset(choose(dataset.train, train), choose(dataset.test, test), dataset.class_names, dataset.fingerprint)


def hold_out(train: Split, fraction: float, seed: int, class_names: tuple[str, ...]) -> tuple[Split, Split | None]:
    """Hold out a stratified fraction of the training images for validation.

    Returns:
        The remaining training images, and the validation images (None if ``fraction`` is 0).
    """
    if fraction == 0:
        return train, None
    kept, held = divide(train.labels, fraction, seed, class_names, "data.validation_fraction")
    return train.take(kept), train.take(held)


def divide(
    labels: NDArray[np.int64], fraction: float, seed: int, class_names: tuple[str, ...], key: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide examples with (N,) ``labels`` into two stratified parts, the second with a ``fraction`` of them.

    Messages name the config ``key`` of the fraction.

    Returns:
        Positions of the first and of the second part, ascending.

    Raises:
        RequestError: one part is empty, or a class has no example in the first part.
    """
    count = round(fraction * len(labels))
    if not 0 < count < len(labels):
        raise RequestError(
            f"{key}={fraction}: of {len(labels)} training images that is {count}; choose a fraction that leaves both "
            "splits some images" + (", or 0" if key == "data.validation_fraction" else "")
        )
    held = stratified_choice(labels, count, seed)
    kept = np.setdiff1d(np.arange(len(labels)), held)
    emptied = np.setdiff1d(labels, labels[kept])
    if len(emptied):
        raise RequestError(f"{key}={fraction}: leaves no training image of class {class_names[emptied[0]]!r}")
    return kept, held
