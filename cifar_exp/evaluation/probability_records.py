"""Records of a run's probabilities: the file, calibration, labels that are probably wrong, and scores."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_exp.evaluation.calibration import calibration_rows, calibration_scores, fit_temperature
from cifar_exp.evaluation.metrics import Evaluation, class_scores
from cifar_exp.run_dir import tables
from cifar_exp.run_dir.arrays import PROBABILITIES, write_arrays

log = logging.getLogger(__name__)


def write_probabilities(
    evaluation: Evaluation,
    tta: Evaluation | None,
    sources: NDArray[np.str_],
    class_names: Sequence[str],
    out_dir: Path,
) -> NDArray[np.int64]:
    """Write ``probabilities.npz``, ``calibration.csv`` and ``label_issues.csv``.

    ``tta`` is the evaluation with test-time augmentation; ``sources`` (N,) are the images' files or places.

    Returns:
        Positions of the images whose label is probably wrong, the most suspicious first.
    """
    p, labels = evaluation.probabilities, evaluation.labels
    with_tta = {} if tta is None else {"probabilities_tta": tta.probabilities}
    names = np.array(class_names, dtype=np.str_)
    write_arrays(out_dir / PROBABILITIES, probabilities=p, labels=labels, class_names=names, **with_tta)
    if not np.isfinite(p).all():
        log.warning("Some probabilities are not numbers: calibration and label issues are left out")
        return np.zeros(0, dtype=np.int64)
    bins = calibration_rows(evaluation.confidences, evaluation.correct)
    tables.write_table(out_dir / "calibration.csv", tables.CALIBRATION_COLUMNS, bins)
    issues = find_label_issues(p, labels)
    rows = label_issue_rows(issues, p, labels, sources, class_names)
    tables.write_table(out_dir / "label_issues.csv", tables.LABEL_ISSUES_COLUMNS, rows)
    return issues


def fit_test_temperature(validation: Evaluation | None) -> float | None:
    """Fit the temperature for the test split on the validation split alone."""
    return None if validation is None else fit_temperature(validation.probabilities, validation.labels)


def compute_probability_scores(evaluation: Evaluation, temperature: float | None) -> dict[str, float | None]:
    """Compute the ``summary.csv`` columns that need all probabilities (``evaluation.csv`` too); empty if not finite."""
    if not np.isfinite(evaluation.probabilities).all():
        return {}
    scores = calibration_scores(evaluation.probabilities, evaluation.labels, temperature)
    return scores | class_scores(evaluation)


def find_label_issues(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find the images whose label is probably wrong, the most suspicious first.

    Confident learning (Northcutt, Jiang & Chuang 2021, doi:10.1613/jair.1.12125): an image confidently belongs to a
    class if the class's probability reaches its threshold, the mean probability of the class over the images that carry
    its label. The counts of given label and confident class, scaled to the images of each label, estimate how many
    labels are wrong. That many images are returned: of those whose prediction is not their label, the ones with the
    lowest probability of the label.

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
    """Make the rows of ``label_issues.csv``: the label, and the most probable other class."""
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
