"""Checks of a request before any file is written: packages, paths, the device."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cifar_exp import trackers
from cifar_exp.config.groups.data import CifarConfig, DataConfig, ImageCsvConfig, ImageFolderConfig
from cifar_exp.config.groups.model import LibraryConfig, ModelConfig
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
    _check_batch(config)
    if here:
        _check_packages(config)
        _check_root(config.data)
        _check_network(config.model)
        if config.device not in ("auto", "cpu"):
            from cifar_exp.compute.device import resolve_device

            resolve_device(config.device)


def _check_packages(config: ExperimentConfig) -> None:
    for path, target in targets(as_containers(config)):
        package = str(target).split(".", 1)[0]
        if package in config.trust and find_spec(package) is None:
            raise RequestError(
                f"{path}={target}: cannot be imported: no package {package!r}; "
                "your own package must be installed or on PYTHONPATH"
            )


def _check_root(node: DataConfig) -> None:
    """Check that the data's folder or file exists; the loader checks its content."""
    paths = {key: getattr(node, key) for key in ("root", "csv_file") if hasattr(node, key)}
    if isinstance(node, ImageFolderConfig) and not any(paths.values()):
        key = "csv_file" if isinstance(node, ImageCsvConfig) else "root"
        raise RequestError(f"data={node.name}: needs the path of the images: data.{key}=PATH")
    for key, path in paths.items():
        if isinstance(node, CifarConfig | ImageFolderConfig) and path is not None and not Path(path).exists():
            raise RequestError(f"data.{key}={path}: no such file or folder")


def _check_network(node: ModelConfig) -> None:
    """Check a library, its network's name, and that its weights exist. PyTorch is imported only for such a network."""
    if not isinstance(node, LibraryConfig):
        return
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


def _check_batch(config: ExperimentConfig) -> None:
    node, size = config.data, config.batch_size
    known = [node.limit_train] if node.limit_train else []
    if node._target_ == "cifar_exp.data.mnist5k":
        known.append(_MNIST5K_IMAGES)
    if known and size > min(known):
        raise RequestError(f"batch_size={size}: is more than the {min(known):,} training images; choose a smaller one")
