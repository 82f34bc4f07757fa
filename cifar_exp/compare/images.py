"""Test images for a figure, where they can be had without the network and without trusting the run."""

import os
from pathlib import Path

import pandas as pd

from cifar_exp.config.groups.data import CifarConfig, DataConfig, ImageFolderConfig
from cifar_exp.config.resolved import load_saved
from cifar_exp.data import Split, load
from cifar_exp.errors import RequestError

_MOST_BYTES = 500 * 10**6  # of all decoded images: more is too much to load, and to keep, for one small figure
_IMAGES = {"cifar_exp.data.mnist5k": 5_000}  # of training and test together; CIFAR has
_USUAL_IMAGES = 60_000


def load_test_images(directory: Path, fingerprint: object, predictions: pd.DataFrame) -> tuple[Split | None, str]:
    """The test images that a run predicted, or why they cannot be had.

    Args:
        directory: of the run, whose saved config is read as an untrusted one.
        fingerprint: what the run recorded of its data, if it did.
        predictions: the run's (see ``read_predictions``).
    """
    if not os.path.isfile(directory / "config_resolved.yaml"):
        return None, "the run has no config_resolved.yaml that says which data it is"
    node = None
    try:
        node = load_saved(directory / "config_resolved.yaml").data
        if isinstance(node, CifarConfig):
            node.url = ""  # no download for a figure, least of all from where a stranger's config says
        node.cache = None  # nothing is written or trusted where such a config says
        if _is_too_large(node):
            size = node.image_size
            return None, f"the data at {size}x{size} pixels are too large to be loaded for a figure"
        dataset = load(node)
    except (RequestError, OSError, ValueError, MemoryError) as error:
        if isinstance(node, CifarConfig) and node.root is None:
            return None, f"{node.name} is not in the cache folder, and no figure is worth a download"
        return None, (str(error) or "the data do not fit into memory").splitlines()[0]
    if isinstance(fingerprint, str) and dataset.fingerprint != fingerprint:
        return None, "the data at hand is not what the run was tested on (other fingerprint)"
    test = dataset.test
    same = list(test.sources) == list(predictions["source"]) and [
        dataset.class_names[label] for label in test.labels
    ] == list(predictions["label"])
    return (test, "") if same else (None, "the data at hand has other test images than the run's predictions")


def _is_too_large(node: DataConfig) -> bool:
    """Whether the decoded images would take more than ``_MOST_BYTES``, by what is known before any is read."""
    most = _MOST_BYTES // (3 * node.image_size**2)
    if not isinstance(node, ImageFolderConfig) or node.root is None:
        return _IMAGES.get(node._target_, _USUAL_IMAGES) > most
    found = 0
    for split in ("train", "test"):
        # Folders count, too, so that links that lead to and fro come to an end.
        for _, folders, files in os.walk(Path(node.root, split), followlinks=True):
            found += len(folders) + len(files)
            if found > most:
                return True
    return False
