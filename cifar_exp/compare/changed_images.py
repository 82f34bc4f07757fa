"""The test images that the baseline and another run predict differently.

The images are loaded only if that needs neither the network nor trust in the run.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cifar_exp.compare.comparison import Comparison
from cifar_exp.compare.pairs import Pair, predictions_of
from cifar_exp.config.groups.data import CifarConfig, DataConfig, ImageCsvConfig, ImageFolderConfig
from cifar_exp.config.resolved import load_saved
from cifar_exp.data import load
from cifar_exp.data.dataset import Split
from cifar_exp.errors import RequestError
from cifar_exp.reports.figures.fixed_and_broken import Change, Mistake

_MOST_BYTES = 500 * 10**6  # of all decoded images: loading more is too expensive for a figure
_IMAGES = {"cifar_exp.data.mnist5k": 5_000}  # of training and test together
_CIFAR_IMAGES = 60_000


def changed_images(comparison: Comparison, pairs: Sequence[Pair], most: int) -> Change | None:
    """Compare the baseline (A) with the best run of another group (B), or of its own group if there is no other.

    Returns:
        At most ``most`` fixed and ``most`` broken images; None if no pair could be tested.
    """
    runs, baseline = comparison.runs, comparison.baseline
    tested = [pair for pair in pairs if pair.counts is not None]
    if baseline is None or not tested:
        return None
    pair = next((p for p in tested if runs["group"].iloc[p.position] != runs["group"].iloc[baseline]), tested[0])
    a, b = predictions_of(runs, baseline), predictions_of(runs, pair.position)
    fixed, broken = ~a["correct"] & b["correct"], a["correct"] & ~b["correct"]
    counts = pd.DataFrame({"fixed": fixed, "broken": broken, "images": True}).groupby(a["label"]).sum().astype(int)
    row = runs.iloc[pair.position]
    test, reason = load_test_images(Path(row["path"]), row.get("data_fingerprint"), b)

    def mistakes(predictions: pd.DataFrame) -> list[Mistake]:
        first = predictions.sort_values("confidence", ascending=False, kind="stable").head(most)
        images = [None if test is None else test.images[at] for at in first.index]
        return list(map(Mistake, images, first["label"], first["prediction"], first["confidence"].astype(float)))

    names = runs["name"].iloc[baseline], runs["name"].iloc[pair.position]
    return Change(names, mistakes(a[fixed]), mistakes(b[broken]), counts, reason, pair.verdict)


def load_test_images(directory: Path, fingerprint: object, predictions: pd.DataFrame) -> tuple[Split | None, str]:
    """The test images of a run with these predictions, or why they are not available. Its config is untrusted."""
    if not os.path.isfile(directory / "config_resolved.yaml"):
        return None, "the run has no config_resolved.yaml that names its data"
    node = None
    try:
        node = load_saved(directory / "config_resolved.yaml").data
        if isinstance(node, CifarConfig):
            node.url = []  # never download for a figure
        if isinstance(node, ImageCsvConfig):
            return None, "a table named by a saved config is not read"
        node.cache = None  # never write to, or trust, a folder that such a config names
        if _is_too_large(node):
            size = node.image_size
            return None, f"the data at {size}x{size} pixels are too large to be loaded for a figure"
        dataset = load(node)
    except (RequestError, OSError, ValueError, MemoryError) as error:
        if isinstance(node, CifarConfig) and node.root is None:
            return None, f"{node.name} is not in the cache folder, and is not downloaded for a figure"
        return None, (str(error) or "the data do not fit into memory").splitlines()[0]
    if isinstance(fingerprint, str) and dataset.fingerprint != fingerprint:
        return None, "the available data are not the run's test data (other fingerprint)"
    test, labels = dataset.test, [dataset.class_names[label] for label in dataset.test.labels]
    if list(test.sources) != list(predictions["source"]) or labels != list(predictions["label"]):
        return None, "the available data have other test images than the run's predictions"
    return test, ""


def _is_too_large(node: DataConfig) -> bool:
    """Whether the decoded images would take more than ``_MOST_BYTES``; no image is read for that."""
    most = _MOST_BYTES // (3 * node.image_size**2)
    if not isinstance(node, ImageFolderConfig) or node.root is None:
        return _IMAGES.get(node._target_, _CIFAR_IMAGES) > most
    found = 0
    for _, folders, files in os.walk(Path(node.root), followlinks=True):
        found += len(folders) + len(files)  # folders count, too, so that a loop of links reaches the limit
        if found > most:
            return True
    return False
