"""The form of every data set: uint8 images, labels, class names and a fingerprint of the content."""

import hashlib
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Split:
    """Images, labels and sources of one split."""

    images: NDArray[np.uint8]  # (N, H, W, C) uint8, C is 1 or 3
    labels: NDArray[np.int64]  # (N,) int64, positions in the data set's class names
    sources: NDArray[np.str_]  # (N,) text; the file or row of each image

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> "Split":
        """Return the images at ``indices``, in that order."""
        return Split(self.images[indices], self.labels[indices], self.sources[indices])


@dataclass(frozen=True)
class Dataset:
    """A training and a test split of the same classes."""

    train: Split
    test: Split
    class_names: tuple[str, ...]
    # SHA-256 (hexadecimal) of class names, labels and pixels. The same data in another place or file format has the
    # same fingerprint
    fingerprint: str


def make_dataset(train: Split, test: Split, class_names: tuple[str, ...]) -> Dataset:
    """Check the parts against each other and combine them, with their fingerprint.

    Raises:
        ValueError: a label is out of range, shapes differ, or class names are empty or not unique.
    """
    check(train, test, class_names)
    return Dataset(train, test, class_names, _fingerprint(train, test, class_names))


def check(train: Split, test: Split, class_names: tuple[str, ...]) -> None:
    """Check the parts of a data set against each other.

    Raises:
        ValueError: as ``make_dataset``.
    """
    if len(class_names) < 2 or len(set(class_names)) < len(class_names) or not all(class_names):
        raise ValueError(f"a classifier needs at least two different class names, not {str(class_names)[:200]}")
    if "label" in class_names:
        raise ValueError("a class cannot be named 'label', which is a column of the tables")
    for name, split in (("train", train), ("test", test)):
        shape, dtype, labels, last = split.images.shape, split.images.dtype, split.labels, len(class_names) - 1
        if len(shape) != 4 or dtype != np.uint8 or shape[3] not in (1, 3) or 0 in shape:
            raise ValueError(f"{name}: images must be non-empty (N, H, W, 1 or 3) uint8, not {shape} {dtype}")
        if not shape[0] == len(labels) == len(split.sources):
            counts = f"{shape[0]} images, {len(labels)} labels and {len(split.sources)} sources"
            raise ValueError(f"{name}: {counts}; must be as many of each")
        if labels.ndim != 1 or labels.dtype != np.int64:
            raise ValueError(f"{name}: labels must be (N,) int64, not {labels.shape} {labels.dtype}")
        if labels.min() < 0 or labels.max() > last:
            raise ValueError(f"{name}: labels must lie in 0..{last}, not {labels.min()}..{labels.max()}")
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(f"training images are {train.images.shape[1:]}, test images {test.images.shape[1:]}")


def _fingerprint(train: Split, test: Split, class_names: tuple[str, ...]) -> str:
    digest = hashlib.sha256(json.dumps([class_names, train.images.shape, test.images.shape]).encode())
    for split in (train, test):
        digest.update(np.ascontiguousarray(split.labels, dtype="<i8").data)
        digest.update(np.ascontiguousarray(split.images).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Splits:
    """The splits of a run."""

    train: Split
    validation: Split | None
    test: Split
