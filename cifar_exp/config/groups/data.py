"""Typed configs of the ``data`` group; the data sets are in ``cifar_exp.data``."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from cifar_exp.config.fields import (
    Allowed,
    Count,
    FractionBelowOne,
    FractionInside,
    Pixels,
    Seed,
    between,
    key,
    one_of,
)
from cifar_exp.config.registry import Group, Option
from cifar_exp.safe_io.untrusted import address_problem

Sha256 = Annotated[
    str,
    Allowed("64 hexadecimal digits in lower case", lambda value: re.fullmatch("[0-9a-f]{64}", value) is not None),
]


def _are_addresses(value: Any) -> bool:
    if value == "":  # data.root names a local archive
        return True
    addresses = value if isinstance(value, list) else [value]
    return bool(addresses) and all(isinstance(one, str) and not address_problem(one) for one in addresses)


@dataclass
class DataConfig(Option):
    """Keys of every data set: size, cache, held-out split, subsets and loading."""

    image_size: Pixels = key("height and width in pixels; other images are scaled and cropped", 32)
    cache: str | None = key("folder for downloaded and decoded data; null: the user's cache folder", None)
    validation_fraction: FractionBelowOne = key(
        "fraction of the training images held out for selection, stratified by class", 0.1
    )
    split_seed: Seed = key(
        "seed of the held-out split; separate from `seed`, so that runs with different seeds share the split", 0
    )
    limit_train: Count | None = key("use only this many training images, stratified (before the split)", None)
    limit_test: Count | None = key("use only this many test images, stratified", None)
    workers: Annotated[int, between(0, 128)] | None = key(
        "loader processes; null: 0 on a CPU or with device augmentation, up to 4 on a GPU", None
    )
    sampler: Annotated[str, one_of("shuffled", "balanced")] = key(
        "training images of an epoch: shuffled (each once) | balanced (as many of each class)", "shuffled"
    )
    statistics_decimals: Annotated[int, between(0, 15)] | None = key(
        "decimals of the images' mean and standard deviation; null: exact", None
    )


DATA_SETS = Group("data", DataConfig)
DATA_SETS.option("base_data", "cifar_exp.data.mnist5k")(DataConfig)


@DATA_SETS.option("base_cifar", "cifar_exp.data.cifar10", "cifar_exp.data.cifar100")
@dataclass
class CifarConfig(DataConfig):
    """CIFAR-10 or CIFAR-100 in the original archive's format."""

    root: str | None = key("archive, or folder with the archive or its unpacked batches; null: download", None)
    url: Annotated[
        Any,
        Allowed(
            "an address that starts with https:// or http://, or a list of them (data.root=PATH names a local archive)",
            _are_addresses,
        ),
    ] = key("address that the archive is downloaded from, or a list of addresses to try in order")
    sha256: Sha256 = key("expected SHA-256 of the archive")


@DATA_SETS.option("base_image_folder", "cifar_exp.data.image_folder")
@dataclass
class ImageFolderConfig(DataConfig):
    """Folders of images: ``train/CLASS/*`` with ``test/CLASS/*`` or ``val/CLASS/*``, or ``CLASS/*``."""

    root: str | None = key("folder of train/CLASS/* and test/CLASS/* (or val/CLASS/*), or of CLASS/*", None)
    test_fraction: FractionInside = key(
        "fraction of the images for testing, stratified, for data without a test split", 0.2
    )
    test_seed: Seed = key("seed of that split", 0)


@DATA_SETS.option("base_image_csv", "cifar_exp.data.image_csv")
@dataclass
class ImageCsvConfig(ImageFolderConfig):
    """A table of image files and their labels."""

    csv_file: str | None = key("table with a header; an optional column `split` says train or test", None)
    file_column: str = key("column of the paths, relative to data.root (null: the table's folder)", "file")
    label_column: str = key("column of the labels", "label")
