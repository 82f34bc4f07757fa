"""Test images for a figure, where they can be had without the network and without trusting the run."""

from pathlib import Path

import pandas as pd

from cifar_exp.config import load_saved
from cifar_exp.data import Split, load
from cifar_exp.errors import RequestError


def load_test_images(directory: Path, fingerprint: object, predictions: pd.DataFrame) -> tuple[Split | None, str]:
    """The test images that a run predicted, or why they cannot be had.

    Args:
        directory: of the run, whose saved config is read as an untrusted one.
        fingerprint: what the run recorded of its data, if it did.
        predictions: the run's (see ``read_predictions``).
    """
    if not (directory / "config_resolved.yaml").is_file():
        return None, "the run has no config_resolved.yaml that says which data it is"
    node = None
    try:
        node = load_saved(directory / "config_resolved.yaml")["data"]
        if "url" in node:
            node["url"] = ""  # no download for a figure, least of all from where a stranger's config says
        if node.get("cache") is not None and not Path(node["cache"], "decoded").is_dir():
            node["cache"] = None  # nor a new folder where such a config says
        dataset = load(node)
    except (RequestError, OSError) as error:
        if isinstance(node, dict) and "url" in node and node.get("root") is None:
            return None, f"{node['name']} is not in the cache folder, and no figure is worth a download"
        return None, str(error).splitlines()[0]
    if isinstance(fingerprint, str) and dataset.fingerprint != fingerprint:
        return None, "the data at hand is not what the run was tested on (other fingerprint)"
    test = dataset.test
    same = list(test.sources) == list(predictions["source"]) and [
        dataset.class_names[label] for label in test.labels
    ] == list(predictions["label"])
    return (test, "") if same else (None, "the data at hand has other test images than the run's predictions")
