"""Writes the tables of a run, its summary and the last lines of its log."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_exp.build import Parts
from cifar_exp.compute import memory
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.errors import RequestError
from cifar_exp.evaluation.metrics import Evaluation, confusion_matrix, confusion_rows, per_class_rows, prediction_rows
from cifar_exp.evaluation.probability_records import write_probabilities
from cifar_exp.explain.faithfulness import Explanation, faithfulness_rows
from cifar_exp.explain.gradcam import gradcam_rows
from cifar_exp.explain.verdict import HEADLINES, WRONG_PLACE, finding, sanity
from cifar_exp.network import count_parameters
from cifar_exp.run_dir import lifecycle, run_status, tables
from cifar_exp.run_dir.environment import current_environment, list_changes, log_changes
from cifar_exp.safe_io import atomic
from cifar_exp.safe_io.plural import plural
from cifar_exp.safe_io.untrusted import read_json
from cifar_exp.training import lr_range_test
from cifar_exp.training.fit import FitResult
from cifar_exp.training.schedule import ScheduleUse, measure_use

log = logging.getLogger(__name__)


def write_environment(parts: Parts, out_dir: Path, *, resume: bool = False) -> dict[str, Any]:
    """Write ``environment.json``, and ``code.diff`` where the source tree has uncommitted changes.

    A resumed run keeps the file of its start; the log lists what has changed since then.

    Raises:
        RequestError: the data is not what the run started with.
    """
    environment, diff = current_environment(parts.compute, parts.batches.backend, parts.fingerprint)
    path = out_dir / "environment.json"
    if resume and path.exists():
        changes = list_changes(out_dir, read_json(path), environment, diff)
        if any(change.what == "data_fingerprint" for change in changes):
            raise RequestError(
                f"{out_dir}: cannot be resumed: the data is not what the run started with; start a new run on it"
            )
        if changes:
            log.warning("The numbers may differ from those of a run that was not interrupted:")
            log_changes(changes)
        return environment
    if diff:
        atomic.write_text(out_dir / "code.diff", diff)
    atomic.write_json(path, environment)
    return environment


def write_plan(config: ExperimentConfig, parts: Parts, out_dir: Path, status: dict[str, Any]) -> None:
    """Write what is known before training: the planned learning rates, and with ``max_lr=auto`` the LR range test."""
    result = parts.lr_range_test
    if result is not None:
        tables.write_table(out_dir / lr_range_test.FILE, tables.LR_FIND_COLUMNS, result.rows())
        if config.figures:
            from cifar_exp.reports.figures.lr_range_test import draw_lr_range_test  # loads Matplotlib

            draw_lr_range_test(result, config.name, out_dir / lr_range_test.FIGURE)
    run_status.update_status(out_dir, status, max_lr_used=parts.max_lr, gradcam=parts.explained.note, warnings=[])
    rows = [{"step": step, "learning_rate": float(rate)} for step, rate in enumerate(parts.planned, start=1)]
    tables.write_table(out_dir / "schedule.csv", tables.SCHEDULE_COLUMNS, rows)


def measure_schedule_use(config: ExperimentConfig, parts: Parts, out_dir: Path) -> ScheduleUse:
    """Measure and log how much of the schedule the steps in ``steps.csv`` used."""
    steps = tables.read_table(out_dir / "steps.csv")
    # With early stopping the end of an open-ended schedule is not missed.
    planned = parts.planned if config.early_stopping.patience is None else parts.planned[: len(steps)]
    rates, epochs = steps["learning_rate"].to_numpy(), int(steps["epoch"].iloc[-1])
    use = measure_use(config.scheduler.interval, planned, rates, epochs)
    (log.info if use.complete else log.warning)("Schedule %s: %s", config.scheduler.name, use)
    return use


def write_tables(parts: Parts, evaluation: Evaluation, tta: Evaluation | None, out_dir: Path) -> NDArray[np.int64]:
    """Write all tables of an evaluation; returns the positions of the images whose label is probably wrong.

    ``tta`` is the evaluation with test-time augmentation; None without one.
    """
    names, sources = parts.class_names, parts.splits.test.sources
    counts = confusion_matrix(evaluation.labels, evaluation.predictions, len(names))
    rows = prediction_rows(evaluation, parts.splits.test, names)
    tables.write_table(out_dir / "predictions.csv", tables.PREDICTIONS_COLUMNS, rows)
    tables.write_table(out_dir / "per_class.csv", tables.PER_CLASS_COLUMNS, per_class_rows(counts, names))
    tables.write_table(out_dir / "confusion.csv", ["label", *names], confusion_rows(counts, names))
    return write_probabilities(evaluation, tta, sources, names, out_dir)


def write_gradcam(parts: Parts, evaluation: Evaluation, explanation: Explanation, out_dir: Path) -> None:
    """Write ``gradcam.csv`` and ``faithfulness.csv``, and log their result in a sentence."""
    names = parts.class_names
    labels = {int(index): names[evaluation.labels[index]] for index in explanation.indices}
    predictions = {int(index): names[evaluation.predictions[index]] for index in explanation.indices}
    rows = gradcam_rows(explanation.maps, labels, predictions)
    tables.write_table(out_dir / "gradcam.csv", tables.GRADCAM_COLUMNS, rows)
    tables.write_table(out_dir / "faithfulness.csv", tables.FAITHFULNESS_COLUMNS, faithfulness_rows(explanation.tests))
    for test in explanation.tests:
        name, effect, verdict = test.layer.name, test.effect, test.verdict
        if test.target != "predicted" or name != explanation.read_first or effect is None or verdict is None:
            continue
        text = finding(name, effect.attended_drop, effect.control_drop, effect.low, effect.high, test.n)
        (log.warning if verdict == WRONG_PLACE else log.info)("%s. %s", HEADLINES[verdict], text)
        if test.correlation is not None and (warning := sanity(name, test.correlation)):
            log.warning(warning)


def _find_measured_epoch(config: ExperimentConfig, fitted: FitResult) -> tuple[str, int]:
    """Return the checkpoint whose weights are evaluated at the end, and its epoch."""
    if config.evaluation.weights == "best" and fitted.best.epoch is not None:
        return "best", fitted.best.epoch
    return "last", len(fitted.metrics)


def collect_results(
    config: ExperimentConfig,
    parts: Parts,
    fitted: FitResult,
    evaluation: Evaluation,
    use: ScheduleUse,
    environment: dict[str, Any],
) -> dict[str, Any]:
    """Collect the measured columns of ``summary.csv``, apart from the time that the run takes."""
    row = fitted.metrics[_find_measured_epoch(config, fitted)[1] - 1]
    train_seconds = sum(one["train_seconds"] for one in fitted.metrics)
    selected_on_validation = fitted.selection_split == "validation"
    return {
        "epochs_completed": len(fitted.metrics),
        **{key: row[key] for key in ("train_loss", "train_accuracy", "val_loss", "val_accuracy")},
        "val_images": None if parts.splits.validation is None else len(parts.splits.validation),
        "test_loss": evaluation.loss,
        "test_accuracy": evaluation.accuracy,
        "best_epoch": fitted.best.epoch,
        "best_val_accuracy": fitted.best.accuracy if selected_on_validation else None,
        "generalization_gap": row["train_accuracy"] - evaluation.accuracy,
        "misclassified": int((~evaluation.correct).sum()),
        "parameters": count_parameters(parts.learner.model),
        "train_seconds": train_seconds,
        "images_per_second": len(parts.splits.train) * len(fitted.metrics) / train_seconds,
        "peak_memory_bytes": memory.peak_memory_bytes(parts.compute.device),
        "device": environment["device"],
        "precision": environment["precision"],
        "git_commit": environment["git_commit"],
        "data_fingerprint": parts.fingerprint,
        "selection_split": fitted.selection_split,
        "schedule_steps_planned": use.planned,
        "schedule_steps_used": use.used,
        "peak_learning_rate": use.used_peak,
        "schedule": str(use),
        "test_loss_as_published": evaluation.loss_as_published if config.evaluation.published_loss else None,
        "max_lr_used": parts.max_lr,
    }


def log_results(
    config: ExperimentConfig, parts: Parts, fitted: FitResult, summary: dict[str, Any], out_dir: Path
) -> None:
    """Write the last lines of the log."""
    loss, published, tta = (summary[key] for key in ("test_loss", "test_loss_as_published", "test_accuracy_tta"))
    if published is not None:
        text = (
            "Test loss as the published run printed it: %.4f (means of batches of 128 summed, divided by the number of "
            "images); the loss per image is %.4f, %.0f times that"
        )
        log.warning(text, published, loss, loss / published)
    accuracies = "Train accuracy {train_accuracy:.2%}, test accuracy {test_accuracy:.2%}".format(**summary)
    gap = f"gap {100 * summary['generalization_gap']:.2f} points"
    wrong = f"{summary['misclassified']:,} of {plural(len(parts.splits.test), 'test image')} misclassified"
    weights = Path(lifecycle.run_name(out_dir)) / "checkpoints" / f"{_find_measured_epoch(config, fitted)[0]}.pt"
    log.info("%s, %s; %s; weights in %s", accuracies, gap, wrong, weights)
    if tta is not None:
        views = config.evaluation.test_time_augmentation
        log.info("Test accuracy with test-time augmentation (%s): %.2f%%", views, 100 * tta)
