"""Checks of a request before any file is written: packages, paths, the device."""

import math
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cifar_exp import trackers
from cifar_exp.config.groups.data import CifarConfig, DataConfig, ImageCsvConfig, ImageFolderConfig
from cifar_exp.config.groups.model import LibraryConfig
from cifar_exp.config.parse import as_containers
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.config.targets import targets
from cifar_exp.errors import RequestError

_MNIST5K_IMAGES = 4_000  # for training


def check(config: ExperimentConfig, *, here: bool = True) -> None:
    """Refuse a config with a missing package, path or device. PyTorch is imported only if a GPU is requested.

    ``here=False`` means that the run is for another machine of a cluster.
    """
    trackers.check(config)
    size, available = config.batch_size, config.data.limit_train or math.inf
    if config.data._target_ == "cifar_exp.data.mnist5k":
        available = min(available, _MNIST5K_IMAGES)
    if size > available:
        raise RequestError(f"batch_size={size}: is more than the {available:,} training images; choose a smaller one")
    if not here:
        return
    for path, target in targets(as_containers(config)):
        package = str(target).split(".", 1)[0]
        if package in config.trust and find_spec(package) is None:
            raise RequestError(
                f"{path}={target}: cannot be imported: no package {package!r}; "
                "your own package must be installed or on PYTHONPATH"
            )
    _check_root(config.data)
    if isinstance(config.model, LibraryConfig):
        _check_network(config.model)
    if config.device not in ("auto", "cpu"):
        from cifar_exp.compute.device import resolve_device

        resolve_device(config.device)


def _check_root(node: DataConfig) -> None:
    """Check that the data's folder or file exists; the loader checks its content."""
    if not isinstance(node, CifarConfig | ImageFolderConfig):
        return
    paths = {"root": node.root} | ({"csv_file": node.csv_file} if isinstance(node, ImageCsvConfig) else {})
    if isinstance(node, ImageFolderConfig) and not any(paths.values()):
        raise RequestError(f"data={node.name}: needs the path of the images: data.{list(paths)[-1]}=PATH")
    for key, path in paths.items():
        if path is not None and not Path(path).exists():
            raise RequestError(f"data.{key}={path}: no such file or folder")


def _check_network(node: LibraryConfig) -> None:
    """Check a library, its network's name and stem, and that its weights exist. Imports PyTorch."""
    from cifar_exp.models.libraries import check_name

    check_name(node.library, node.architecture)
    if node.stem == "cifar":
        _check_stem(node._target_, node.architecture, node.image_size)
    if node.weights is not None and not Path(node.weights).is_file():
        raise RequestError(f"model.weights={node.weights}: no such file")


@cache  # the jobs of a sweep often share it
def _check_stem(target: str, architecture: str, image_size: int) -> None:
    """Refuse ``model.stem=cifar`` for a network that has no such stem, by building it without values."""
    from cifar_exp.models.construct import blueprint

    node: Any = {"_target_": target, "architecture": architecture, "image_size": image_size, "stem": "cifar"}
    blueprint(node, num_classes=2, in_channels=3)
