"""What can be checked of a request before anything is made: packages, paths, the device."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cifar_exp import trackers
from cifar_exp.config.targets import targets
from cifar_exp.errors import RequestError

_MNIST5K_IMAGES = 4_000  # for training


def check(config: dict[str, Any], *, here: bool = True) -> None:
    """Refuse a config that names what is not there. PyTorch is imported only where a GPU is asked for.

    Args:
        config: resolved.
        here: the run is for this machine, and not for another of a cluster.

    Raises:
        RequestError: what is missing, and what to do.
    """
    trackers.check(config)
    _check_batch(config)
    if here:
        _check_packages(config)
        _check_root(config["data"])
        if config["device"] not in ("auto", "cpu"):
            from cifar_exp.compute.device import resolve_device

            resolve_device(config["device"])


def _check_packages(config: dict[str, Any]) -> None:
    for path, target in targets(config):
        package = str(target).split(".", 1)[0]
        if package in config["trust"] and find_spec(package) is None:
            raise RequestError(
                f"{path}={target}: cannot be imported: there is no package {package!r}; a package of your own must be "
                "installed or on PYTHONPATH"
            )


def _check_root(node: dict[str, Any]) -> None:
    """The data's place; what lies there is for the loader to check."""
    if "root" not in node or not node["_target_"].startswith("cifar_exp."):
        return
    if "url" not in node and node["root"] is None and node.get("csv_file") is None:
        key = "csv_file" if "csv_file" in node else "root"
        raise RequestError(f"data={node['name']}: needs the place of the images: data.{key}=PATH")
    for key in ("root", "csv_file"):
        if node.get(key) is not None and not Path(node[key]).exists():
            raise RequestError(f"data.{key}={node[key]}: there is no such file or folder")


def _check_batch(config: dict[str, Any]) -> None:
    node, size = config["data"], config["batch_size"]
    known = [node["limit_train"]] if node.get("limit_train") else []
    if node["_target_"] == "cifar_exp.data.mnist5k":
        known.append(_MNIST5K_IMAGES)
    if known and size > min(known):
        raise RequestError(f"batch_size={size}: is more than the {min(known):,} training images; take a smaller one")
