"""Data sets: loaded from their files as uint8 images, labels, class names and a fingerprint."""

import json
from contextlib import suppress
from dataclasses import fields
from functools import partial

from cifar_exp.config.groups.data import DataConfig, ImageFolderConfig
from cifar_exp.config.targets import call, options_of
from cifar_exp.data.dataset import Dataset, check
from cifar_exp.data.sources.cifar import load_cifar
from cifar_exp.data.sources.image_csv import load_image_csv
from cifar_exp.data.sources.image_folder import load_image_folder
from cifar_exp.data.sources.mnist5k import load_mnist5k
from cifar_exp.data.split import limit
from cifar_exp.errors import RequestError

# The targets of the data group. All accept `cache` and `image_size`; so must a loader of your own.
cifar10 = partial(load_cifar, "cifar10")
cifar100 = partial(load_cifar, "cifar100")  # its 100 fine labels
image_csv = load_image_csv
image_folder = load_image_folder
mnist5k = load_mnist5k

# Keys of a data node that concern the use of the data set, not its content.
_USE_KEYS = tuple({one.name for one in fields(DataConfig)} - {"_target_", "name", "cache", "image_size"})

# The data set that was loaded last, by its node as text; None: not shared.
_shared: dict[str, Dataset] | None = None


def share_between_runs() -> None:
    """Keep the data set that was loaded last, as most jobs of a sweep use the same."""
    global _shared
    if _shared is None:
        _shared = {}


def load(node: DataConfig) -> Dataset:
    """The data set of a resolved ``data`` node, limited to the number of images in the node.

    Raises:
        RequestError: the data is missing or malformed.
    """
    return limit(_whole(node), train=node.limit_train, test=node.limit_test, seed=node.split_seed)


def load_to_evaluate(
    node: DataConfig, class_names: tuple[str, ...], trained_on: DataConfig, fingerprint: object
) -> Dataset:
    """The data set of a resolved ``data`` node, for testing a trained network.

    Image files need no training split, and not all classes of the network. The network's own data set keeps its split:
    that of the node ``trained_on``, or with the same ``fingerprint``.

    Raises:
        RequestError: the data is missing or malformed, or has other classes.
    """
    if not isinstance(node, ImageFolderConfig) or node == trained_on:
        return load(node)
    if node._target_ == trained_on._target_ and fingerprint is not None:  # its own data set, in another place
        with suppress(RequestError):
            dataset = load(node)
            if dataset.fingerprint == fingerprint:
                return dataset
    dataset = call(node, without=_USE_KEYS, class_names=class_names)
    return limit(dataset, train=None, test=node.limit_test, seed=node.split_seed)


def _whole(node: DataConfig) -> Dataset:
    key = json.dumps({name: value for name, value in options_of(node).items() if name not in _USE_KEYS})
    if _shared is not None and key in _shared:
        return _shared[key]
    dataset: Dataset = call(node, without=_USE_KEYS)
    try:  # a loader of the user's own may not have checked this
        check(dataset.train, dataset.test, dataset.class_names)
    except (ValueError, TypeError, AttributeError) as error:
        raise RequestError(f"data={node.name}: {node._target_} did not return a data set: {error}") from error
    if _shared is not None:
        _shared.clear()  # keeps one in memory
        _shared[key] = dataset
    return dataset
