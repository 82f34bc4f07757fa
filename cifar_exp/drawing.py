"""Draws the figures of a run. A figure that cannot be drawn is a warning."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_exp.build import Parts
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.data.split import spread_evenly
from cifar_exp.evaluation.metrics import Evaluation, confusion_matrix
from cifar_exp.explain.faithfulness import Explanation
from cifar_exp.explain.layers import is_wanted
from cifar_exp.reports.figures.calibration import draw_calibration
from cifar_exp.reports.figures.confusion import draw_confusion
from cifar_exp.reports.figures.curves import draw_curves, draw_learning_rate
from cifar_exp.reports.figures.images import ClassifiedImage, draw_augmented, draw_gradcam, draw_misclassified
from cifar_exp.run_dir import lifecycle, tables
from cifar_exp.training.schedule import ScheduleUse

_AUGMENTED_IMAGES, _AUGMENTED_EPOCHS = 8, 4


def draw_progress(
    config: ExperimentConfig, parts: Parts, use: ScheduleUse, out_dir: Path, status: dict[str, Any] | None
) -> None:
    """Draw ``metrics.csv`` and ``steps.csv``."""
    if not config.figures:
        return
    path = out_dir / "figures" / "learning_rate.png"
    with lifecycle.errors_as_warnings(out_dir, path.name, status):
        draw_learning_rate(parts.planned, tables.read_table(out_dir / "steps.csv"), use, path)
    if (out_dir / "metrics.csv").exists():
        with lifecycle.errors_as_warnings(out_dir, "curves.png", status):
            draw_curves(tables.read_table(out_dir / "metrics.csv"), config.name, path.with_name("curves.png"))


def draw_evaluation(
    config: ExperimentConfig,
    parts: Parts,
    evaluation: Evaluation,
    explanation: Explanation,
    out_dir: Path,
    status: dict[str, Any] | None,
) -> None:
    """Draw the confusion matrix, the calibration, the gallery of misclassified images and the Grad-CAM maps."""
    if not config.figures:
        return
    test, names, folder = parts.splits.test, parts.class_names, out_dir / "figures"
    with lifecycle.errors_as_warnings(out_dir, "confusion.png", status):
        counts = confusion_matrix(evaluation.labels, evaluation.predictions, len(names))
        title = f"{config.name}: {evaluation.accuracy:.2%} of {len(test):,} test images right"
        draw_confusion(counts, names, title, folder / "confusion.png")
    if np.isfinite(evaluation.probabilities).all():
        with lifecycle.errors_as_warnings(out_dir, "calibration.png", status):
            draw_calibration(evaluation.confidences, evaluation.correct, folder / "calibration.png")
    with lifecycle.errors_as_warnings(out_dir, "misclassified.png", status):
        wrong = evaluation.most_confidently_wrong()
        gallery = classified_images(parts, evaluation, wrong[: config.evaluation.gallery_images])
        draw_misclassified(gallery, len(wrong), len(test), folder / "misclassified.png")
    if is_wanted(config.explain):
        with lifecycle.errors_as_warnings(out_dir, "gradcam.png", status):
            images = classified_images(parts, evaluation, explanation.indices)
            draw_gradcam(images, explanation, folder / "gradcam.png", reason=parts.explained.note)


def draw_augmentations(config: ExperimentConfig, parts: Parts, out_dir: Path, status: dict[str, Any] | None) -> None:
    """Draw some training images as the network sees them in the first epochs."""
    if not config.figures:
        return
    train, names = parts.splits.train, parts.class_names
    shown = spread_evenly(len(train), _AUGMENTED_IMAGES)
    epochs = range(1, min(_AUGMENTED_EPOCHS, config.epochs) + 1)
    with lifecycle.errors_as_warnings(out_dir, "augmentations.png", status):
        draw_augmented(
            train.images[shown],
            [np.stack([parts.batches.as_seen(index, epoch) for index in shown]) for epoch in epochs],
            [names[label] for label in train.labels[shown]],
            config.augment.name,
            out_dir / "figures" / "augmentations.png",
        )


def classified_images(parts: Parts, evaluation: Evaluation, indices: NDArray[np.int64]) -> list[ClassifiedImage]:
    """Collect test images with label, prediction and confidence."""
    names = parts.class_names
    return [
        ClassifiedImage(
            index=int(index),
            image=parts.splits.test.images[index],
            label=names[evaluation.labels[index]],
            prediction=names[evaluation.predictions[index]],
            confidence=float(evaluation.confidences[index]),
        )
        for index in indices
    ]
