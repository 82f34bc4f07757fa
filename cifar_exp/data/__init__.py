"""Data sets: each becomes uint8 images, labels, class names and a fingerprint, whatever it was on disk."""

from typing import Any

from cifar_exp.data.cifar import load_cifar
from cifar_exp.data.dataset import Dataset, Split
from cifar_exp.data.image_folder import load_image_folder
from cifar_exp.data.mnist5k import load_mnist5k
from cifar_exp.data.split import Statistics, hold_out, limit, statistics

__all__ = [
    "Dataset",
    "Split",
    "Statistics",
    "cifar10",
    "cifar100",
    "hold_out",
    "image_folder",
    "limit",
    "mnist5k",
    "statistics",
]


# What the data group's `_target_`s name. All take `cache` and `image_size`; a loader of your own does, too.
def cifar10(**options: Any) -> Dataset:
    """CIFAR-10; options as in ``load_cifar``."""
    return load_cifar("cifar10", **options)


def cifar100(**options: Any) -> Dataset:
    """CIFAR-100 with its 100 fine labels; options as in ``load_cifar``."""
    return load_cifar("cifar100", **options)


image_folder = load_image_folder
mnist5k = load_mnist5k
