"""Typed configs of the ``data`` group; the data sets are in ``cifar_exp.data``."""

import re
from dataclasses import dataclass
from typing import Annotated

from omegaconf import MISSING

from cifar_exp.config.fields import (
    Allowed,
    Count,
    FractionBelowOne,
    Pixels,
    Schema,
    Seed,
    between,
    key,
)
from cifar_exp.config.registry import Group

Sha256 = Annotated[
    str,
    Allowed("64 hexadecimal digits in lower case", lambda value: re.fullmatch("[0-9a-f]{64}", value) is not None),
]


@dataclass
class DataConfig(Schema):
    """What every data set shares: size, cache, held-out split, subsets and loading."""

    _target_: str = MISSING
    name: str = key("option's name, in tables and logs")
    image_size: Pixels = key("height and width in pixels; other images are scaled and cropped", 32)
    cache: str | None = key("folder for downloaded and decoded data; null: the user's cache folder", None)
    validation_fraction: FractionBelowOne = key(
        "fraction of the training images held out for selection, stratified by class", 0.1
    )
    split_seed: Seed = key(
        "seed of the held-out split, apart from `seed`, so that runs with other seeds share one split", 0
    )
    limit_train: Count | None = key("use only this many training images, stratified (before the split)", None)
    limit_test: Count | None = key("use only this many test images, stratified", None)
    workers: Annotated[int, between(0, 128)] | None = key(
        "loader processes; null: 0 on a CPU or where the device augments, up to 4 on a GPU", None
    )
    statistics_decimals: Annotated[int, between(0, 15)] | None = key(
        "round the images' mean and standard deviation to so many places; null: exact", None
    )


DATA_SETS = Group("data", DataConfig)
DATA_SETS.option("base_data", "cifar_exp.data.mnist5k")(DataConfig)


@DATA_SETS.option("base_cifar", "cifar_exp.data.cifar10", "cifar_exp.data.cifar100")
@dataclass
class CifarConfig(DataConfig):
    """CIFAR-10 or CIFAR-100 in the original archive's format."""

    root: str | None = key("archive, or folder with the archive or its unpacked batches; null: download", None)
    url: str = key("address that the archive is downloaded from")
    sha256: Sha256 = key("expected SHA-256 of the archive")


@DATA_SETS.option("base_image_folder", "cifar_exp.data.image_folder")
@dataclass
class ImageFolderConfig(DataConfig):
    """Any tree of ``train/CLASS/*`` and ``test/CLASS/*`` images."""

    root: str | None = key("folder that holds train/CLASS/* and test/CLASS/*", None)
