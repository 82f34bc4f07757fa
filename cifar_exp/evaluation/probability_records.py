"""Records of a run's probabilities: the file, calibration, suspicious labels, and scores."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifar_exp.evaluation.calibration import calibration_rows, calibration_scores, fit_temperature
from cifar_exp.evaluation.label_issues import label_issue_rows, label_issues
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
    issues = label_issues(p, labels)
    rows = label_issue_rows(issues, p, labels, sources, class_names)
    tables.write_table(out_dir / "label_issues.csv", tables.LABEL_ISSUES_COLUMNS, rows)
    return issues


def fitted_temperature(validation: Evaluation | None) -> float | None:
    """The temperature for the test split, from the validation split alone."""
    if validation is None or not np.isfinite(validation.probabilities).all():
        return None
    return fit_temperature(validation.probabilities, validation.labels)


def probability_scores(evaluation: Evaluation, temperature: float | None) -> dict[str, float | None]:
    """Columns of ``summary.csv`` and ``evaluation.csv`` that need all probabilities; empty if some are not numbers."""
    if not np.isfinite(evaluation.probabilities).all():
        return {}
    scores = calibration_scores(evaluation.probabilities, evaluation.labels, temperature)
    return scores | class_scores(evaluation)
