"""What can be checked of a request before anything is made: packages, paths, the device."""

from importlib.util import find_spec
from pathlib import Path

from cifar_exp import trackers
from cifar_exp.config.groups.data import CifarConfig, DataConfig, ImageCsvConfig, ImageFolderConfig
from cifar_exp.config.parse import plain
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.config.targets import targets
from cifar_exp.errors import RequestError

_MNIST5K_IMAGES = 4_000  # for training


def check(config: ExperimentConfig, *, here: bool = True) -> None:
    """Refuse a config that names what is not there. PyTorch is imported only where a GPU is asked for.

    Args:
        config: of the run.
        here: the run is for this machine, and not for another of a cluster.

    Raises:
        RequestError: what is missing, and what to do.
    """
    trackers.check(config)
    _check_batch(config)
    if here:
        _check_packages(config)
        _check_root(config.data)
        if config.device not in ("auto", "cpu"):
            from cifar_exp.compute.device import resolve_device

            resolve_device(config.device)


def _check_packages(config: ExperimentConfig) -> None:
    for path, target in targets(plain(config)):
        package = str(target).split(".", 1)[0]
        if package in config.trust and find_spec(package) is None:
            raise RequestError(
                f"{path}={target}: cannot be imported: there is no package {package!r}; a package of your own must be "
                "installed or on PYTHONPATH"
            )


def _check_root(node: DataConfig) -> None:
    """The data's place; what lies there is for the loader to check."""
    places = {key: getattr(node, key) for key in ("root", "csv_file") if hasattr(node, key)}
    if isinstance(node, ImageFolderConfig) and not any(places.values()):
        key = "csv_file" if isinstance(node, ImageCsvConfig) else "root"
        raise RequestError(f"data={node.name}: needs the place of the images: data.{key}=PATH")
    for key, place in places.items():
        if isinstance(node, CifarConfig | ImageFolderConfig) and place is not None and not Path(place).exists():
            raise RequestError(f"data.{key}={place}: there is no such file or folder")


def _check_batch(config: ExperimentConfig) -> None:
    node, size = config.data, config.batch_size
    known = [node.limit_train] if node.limit_train else []
    if node._target_ == "cifar_exp.data.mnist5k":
        known.append(_MNIST5K_IMAGES)
    if known and size > min(known):
        raise RequestError(f"batch_size={size}: is more than the {min(known):,} training images; take a smaller one")
