"""Held-out splits, subsets, and the statistics that images are normalized by."""

import numpy as np
from numpy.typing import NDArray

from cifar_exp.data.dataset import Dataset, Split
from cifar_exp.errors import RequestError


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
        The images left for training, and the validation images (None if ``fraction`` is 0).

    Raises:
        RequestError: as ``divide``.
    """
    if fraction == 0:
        return train, None
    kept, held = divide(train.labels, fraction, seed, class_names, "data.validation_fraction")
    return train.take(kept), train.take(held)


def divide(
    labels: NDArray[np.int64], fraction: float, seed: int, class_names: tuple[str, ...], key: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide examples into two stratified parts.

    Args:
        labels: (N,) class of each example.
        fraction: of the examples, for the second part.
        seed: which ones.
        class_names: for messages.
        key: of the config that holds the fraction, for messages.

    Returns:
        Positions of the first and of the second part, ascending.

    Raises:
        RequestError: the fraction leaves one part empty, or a class without an example in the first part.
    """
    count = round(fraction * len(labels))
    if not 0 < count < len(labels):
        raise RequestError(
            f"{key}={fraction}: of {len(labels)} training images that is {count}; "
            "choose a fraction that leaves images on both sides"
            + (", or 0" if key == "data.validation_fraction" else "")
        )
    held = stratified_choice(labels, count, seed)
    kept = np.setdiff1d(np.arange(len(labels)), held)
    emptied = np.setdiff1d(labels, labels[kept])
    if len(emptied):
        raise RequestError(f"{key}={fraction}: leaves no training image of class {class_names[emptied[0]]!r}")
    return kept, held
