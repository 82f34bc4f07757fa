"""The baseline against another run, image by image: which images the other fixes, and which it breaks.

The test images are loaded only if that needs no network and no trust in the run.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cifar_exp.compare.pairs import Pair, predictions_of
from cifar_exp.compare.tables import Comparison
from cifar_exp.config.groups.data import CifarConfig, DataConfig, ImageCsvConfig, ImageFolderConfig
from cifar_exp.config.resolved import load_saved
from cifar_exp.data import Split, load
from cifar_exp.errors import RequestError
from cifar_exp.reports.figures.fixed_and_broken import Change, Changed

_MOST_BYTES = 500 * 10**6  # of all decoded images: more is too much to load, and to keep, for one small figure
_IMAGES = {"cifar_exp.data.mnist5k": 5_000}  # of training and test together; CIFAR has
_USUAL_IMAGES = 60_000


def changed_images(comparison: Comparison, pairs: Sequence[Pair], most: int) -> Change | None:
    """The baseline as A, and as B the best run that differs from it by more than the seed.

    Args:
        comparison: of the runs.
        pairs: the baseline against the others, best first.
        most: how many images of each kind.

    Returns:
        None where no pair could be tested.
    """
    runs, baseline = comparison.runs, comparison.baseline
    tested = [pair for pair in pairs if pair.counts is not None]
    if baseline is None or not tested:
        return None
    pair = next((p for p in tested if runs["group"].iloc[p.position] != runs["group"].iloc[baseline]), tested[0])
    a, b = predictions_of(runs, baseline), predictions_of(runs, pair.position)
    fixed, broken = ~a["correct"] & b["correct"], a["correct"] & ~b["correct"]
    classes = sorted(set(a["label"]))
    codes = np.searchsorted(classes, a["label"])
    by_class = [np.bincount(codes[which], minlength=len(classes)) for which in (fixed, broken, slice(None))]
    row = runs.iloc[pair.position]
    test, reason = load_test_images(Path(row["path"]), row.get("data_fingerprint"), b)

    def worst(which: pd.Series, mistaken: pd.DataFrame) -> list[Changed]:
        first = mistaken[which].sort_values("confidence", ascending=False, kind="stable").head(most)
        return [
            Changed(None if test is None else test.images[at], label, prediction, float(confidence))
            for at, label, prediction, confidence in zip(
                first.index, first["label"], first["prediction"], first["confidence"], strict=True
            )
        ]

    return Change(
        name_a=runs["name"].iloc[baseline],
        name_b=runs["name"].iloc[pair.position],
        fixed=worst(fixed, a),
        broken=worst(broken, b),
        images=len(a),
        classes=classes,
        fixed_by_class=by_class[0],
        broken_by_class=by_class[1],
        images_by_class=by_class[2],
        no_images=reason,
        verdict=pair.verdict,
    )


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
            node.url = []  # no download for a figure, least of all from where a stranger's config says
        if isinstance(node, ImageCsvConfig):
            return None, "a saved config does not say which table this program reads"
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
    # Folders count, too, so that links that lead to and fro come to an end.
    for _, folders, files in os.walk(Path(node.root), followlinks=True):
        found += len(folders) + len(files)
        if found > most:
            return True
    return False
