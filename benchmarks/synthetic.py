"""Data of CIFAR-10's shape and size made of random pixels: speed and memory do not depend on what is in a picture.

PYTHONPATH=benchmarks cifar-exp data=mnist5k data._target_=synthetic.cifar10_like 'trust=[synthetic]'
"""

import os

import numpy as np

from cifar_exp.data.dataset import Dataset, Split, make_dataset

TRAIN, TEST = 50_000, 10_000


def cifar10_like(*, cache: str | None = None, image_size: int = 32) -> Dataset:
    """60,000 images in 10 classes; ``SYNTHETIC_CLASSES`` in the environment names another number of classes."""
    del cache
    classes = int(os.environ.get("SYNTHETIC_CLASSES", "10"))
    names = tuple(f"class {number}" for number in range(classes))
    train, test = (_split(count, image_size, classes, seed) for seed, count in enumerate((TRAIN, TEST)))
    return make_dataset(train, test, names)


def _split(count: int, size: int, classes: int, seed: int) -> Split:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64) % classes
    return Split(images, labels, np.array([f"image {number}" for number in range(count)]))
