"""Labels that are probably wrong, by confident learning (Northcutt, Jiang & Chuang 2021, doi:10.1613/jair.1.12125)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def label_issues(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of the images whose label is probably wrong, the most suspicious first.

    An image confidently belongs to a class if the class's probability reaches its threshold: the mean probability
    of the class over the images that carry its label. The counts of given label and confident class, scaled to the
    images of each label, estimate how many labels are wrong. That many images are returned: of those whose
    prediction is not their label, the ones with the lowest probability of the label.

    ``probabilities`` (N, C) are those of a network that was not trained on these images; ``labels`` (N,) are given.
    """
    classes = probabilities.shape[1]
    images = np.bincount(labels, minlength=classes)
    of_label = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    # A class without an image has no threshold: nothing belongs to it confidently.
    thresholds = np.where(images > 0, np.bincount(labels, of_label, classes) / np.maximum(images, 1), np.inf)
    above = np.where(probabilities >= thresholds, probabilities, -1.0)
    confident = np.where(above.max(axis=1) >= 0, above.argmax(axis=1), -1)
    counted = confident >= 0
    joint = np.bincount(labels[counted] * classes + confident[counted], minlength=classes**2).reshape(classes, classes)
    shares = joint / np.maximum(joint.sum(axis=1, keepdims=True), 1)
    wrong = round(float((images * (1 - shares.diagonal()))[joint.sum(axis=1) > 0].sum()))
    candidates = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return candidates[np.argsort(of_label[candidates], kind="stable")][:wrong]


def label_issue_rows(
    issues: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    sources: NDArray[np.str_],
    class_names: Sequence[str],
) -> list[Mapping[str, Any]]:
    """Rows of ``label_issues.csv``: the label, and the most probable other class."""
    others = probabilities[issues].copy()
    others[np.arange(len(issues)), labels[issues]] = -1
    return [
        {
            "rank": rank,
            "index": index,
            "source": str(sources[index]),
            "label": class_names[labels[index]],
            "suggested": class_names[suggested],
            "label_probability": float(probabilities[index, labels[index]]),
            "suggested_probability": float(probabilities[index, suggested]),
        }
        for rank, (index, suggested) in enumerate(zip(issues.tolist(), others.argmax(axis=1), strict=True), start=1)
    ]
