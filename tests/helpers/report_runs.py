"""A run directory written by hand, small enough to work its numbers out on paper."""

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from composing import TINY, composed

from cifar_exp.config.parse import as_containers, flatten
from cifar_exp.config.resolved import config_hash, to_yaml
from cifar_exp.evaluation.calibration import calibration_rows
from cifar_exp.evaluation.metrics import confusion_matrix, confusion_rows, per_class_rows
from cifar_exp.evaluation.probability_records import label_issue_rows
from cifar_exp.explain.verdict import verdict
from cifar_exp.run_dir import tables
from cifar_exp.run_dir.arrays import write_arrays
from cifar_exp.run_dir.kept_images import write_images
from cifar_exp.safe_io import atomic

CLASSES = ("cat", "dog", "ship")
# 20 test images: 17 right; one cat is predicted as a dog, two dogs as ships.
LABELS = np.array([0] * 8 + [1] * 6 + [2] * 6)
PREDICTIONS = np.array([0] * 7 + [1] + [1] * 4 + [2, 2] + [2] * 6)
CONFIDENCES = np.array([0.99] * 7 + [0.6] + [0.9] * 4 + [0.95, 0.7] + [0.8] * 6)
WRONG = [12, 13, 7]  # by falling confidence
# Two thirds of what the prediction leaves go to the class after it, one third to the one before.
PROBABILITIES = np.zeros((20, 3), np.float32)
for _shift, _share in ((0, 0.0), (1, 2 / 3), (2, 1 / 3)):
    PROBABILITIES[np.arange(20), (PREDICTIONS + _shift) % 3] = (1 - CONFIDENCES) * _share if _shift else CONFIDENCES
SUSPECTS = [12, 13]  # test images whose label is listed as probably wrong
STEPS_PER_EPOCH = 5

# (epoch, train_loss, train_accuracy, val_loss, val_accuracy)
METRICS = ((1, 1.5, 0.5, 1.0, 0.6), (2, 1.0, 0.8, 0.5, 0.8), (3, 0.2, 0.95, 0.75, 0.78))


@cache
def _config() -> dict[str, Any]:
    return as_containers(composed(*TINY))


def write_run(
    path: Path,
    *,
    classes: Sequence[str] = CLASSES,
    state: str = "completed",
    name: str = "by hand",
    used_share: float = 1.0,
    attended: float = 0.5,
) -> Path:
    """Write a run of three epochs.

    Args:
        path: made here.
        classes: three names.
        state: how it ended.
        name: of the run.
        used_share: of the schedule's steps.
        attended: the mean drop of layer2 for the predicted class with attended pixels hidden; the control's is 0.2.
    """
    path.mkdir(parents=True)
    config = _config() | {"name": name, "epochs": 3}
    atomic.write_text(path / "config_resolved.yaml", to_yaml(config))
    (path / ".hydra").mkdir()
    atomic.write_text(path / ".hydra" / "overrides.yaml", "- experiment=quickstart\n- epochs=3\n")
    status = {
        "state": state,
        "error": None if state == "completed" else "the disk </script> is full",
        "started_at": "2026-11-22T10:00:00+00:00",
        "epochs_completed": 3,
        "config_hash": config_hash(config),
    }
    atomic.write_json(path / "status.json", status)
    environment = {"device": "cpu", "precision": "float32", "cpu": "a <processor>", "packages": {"torch": "2.15.0"}}
    atomic.write_json(path / "environment.json", environment | {"command_line": ["cifar-exp", "name=a b"]})

    keys = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
    rows = [dict(zip(keys, row, strict=True)) | {"step": STEPS_PER_EPOCH * row[0]} for row in METRICS]
    for row in rows:
        row |= {"train_seconds": 2.0, "eval_seconds": 0.5, "images_per_second": 100.0 + row["epoch"]}
    if state == "completed":
        rows[-1] |= {"test_loss": 0.7, "test_accuracy": 0.85}
    tables.write_table(path / "metrics.csv", tables.METRICS_COLUMNS, rows)
    steps = np.arange(1, 3 * STEPS_PER_EPOCH + 1)
    planned = 0.05 * np.sin(np.pi * steps / 16)
    tables.write_table(
        path / "schedule.csv",
        tables.SCHEDULE_COLUMNS,
        [{"step": step, "learning_rate": float(rate)} for step, rate in zip(steps, planned, strict=True)],
    )
    tables.write_table(
        path / "steps.csv",
        tables.STEPS_COLUMNS,
        [
            {"step": step, "epoch": -(-step // STEPS_PER_EPOCH), "learning_rate": float(rate), "loss": 2 / step}
            for step, rate in zip(steps, planned, strict=True)
        ],
    )
    if state == "completed":
        _write_evaluation(path, classes, attended)
        summary = {
            "run": "outputs/by-hand",
            "state": state,
            "epochs_completed": 3,
            "train_accuracy": 0.95,
            "test_loss": 0.7,
            "test_accuracy": 0.85,
            "generalization_gap": 0.95 - 0.85,
            "misclassified": 3,
            "best_epoch": 2,
            "best_val_accuracy": 0.8,
            "val_accuracy": 0.78,
            "val_images": 50,
            "parameters": 12_345,
            "total_seconds": 9.0,
            "train_seconds": 6.0,
            "images_per_second": 102.0,
            "peak_memory_bytes": 2**30,
            "selection_split": "validation",
            "schedule_steps_planned": len(steps),
            "schedule_steps_used": round(used_share * len(steps)),
            "peak_learning_rate": float(planned.max()) * used_share,
        }
        leaves = {f"config.{key}": value for key, value in flatten(config).items()}
        tables.write_table(path / "summary.csv", [*tables.SUMMARY_COLUMNS, *leaves], [summary | leaves])
    return path


def _write_evaluation(path: Path, classes: Sequence[str], attended: float) -> None:
    counts = confusion_matrix(LABELS, PREDICTIONS, len(classes))
    tables.write_table(path / "per_class.csv", tables.PER_CLASS_COLUMNS, per_class_rows(counts, classes))
    tables.write_table(path / "confusion.csv", ["label", *classes], confusion_rows(counts, classes))
    tables.write_table(
        path / "predictions.csv",
        tables.PREDICTIONS_COLUMNS,
        [
            {
                "index": index,
                "source": f"test/{classes[label]}/{index}.png",
                "label": classes[label],
                "prediction": classes[prediction],
                "confidence": float(confidence),
                "correct": bool(label == prediction),
            }
            for index, (label, prediction, confidence) in enumerate(zip(LABELS, PREDICTIONS, CONFIDENCES, strict=True))
        ],
    )
    write_arrays(
        path / "probabilities.npz", probabilities=PROBABILITIES, labels=LABELS, class_names=np.array(list(classes))
    )
    bins = calibration_rows(CONFIDENCES, LABELS == PREDICTIONS)
    tables.write_table(path / "calibration.csv", tables.CALIBRATION_COLUMNS, bins)
    sources = np.array([f"test/{index}.png" for index in range(20)])
    issues = label_issue_rows(np.array(SUSPECTS), PROBABILITIES, LABELS, sources, classes)
    tables.write_table(path / "label_issues.csv", tables.LABEL_ISSUES_COLUMNS, issues)
    drops = {("layer1", "predicted"): 0.1, ("layer2", "predicted"): attended, ("layer1", "true"): 0.0}
    tables.write_table(
        path / "gradcam.csv",
        tables.GRADCAM_COLUMNS,
        [
            {
                "index": index,
                "label": classes[LABELS[index]],
                "prediction": classes[PREDICTIONS[index]],
                "target": target,
                "layer": layer,
                "map_height": size,
                "map_width": size,
                "peak_row": 1,
                "peak_column": 1,
                "deletion_drop": drops.get((layer, target), 0.05),
                "random_drop": 0.2,
                "attended_drop": drops.get((layer, target), 0.05),
                "control_drop": 0.2,
            }
            for index in WRONG
            for layer, size in (("layer1", 16), ("layer2", 8))
            for target in ("predicted", "true")
        ],
    )
    tables.write_table(
        path / "faithfulness.csv",
        tables.FAITHFULNESS_COLUMNS,
        [
            {
                "layer": layer,
                "target": "predicted",
                "map_height": size,
                "map_width": size,
                "n": 20,
                "infill": "blur",
                "attended_drop": drop,
                "control_drop": 0.2,
                "difference": drop - 0.2,
                "ci_low": drop - 0.25,
                "ci_high": drop - 0.15,
                "verdict": verdict(drop - 0.25, drop - 0.15),
                "rank_correlation_reinitialized": 0.95,
            }
            for layer, size, drop in (("layer1", 16, 0.1), ("layer2", 8, attended))
        ],
    )
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    heat = generator.random((len(WRONG), 2, 2, 8, 8)).astype(np.float32)
    heat[0, 0, 1] = 0  # no positive evidence
    explained = np.array(WRONG)
    write_images(path / "report_images.npz", images, np.arange(20), explained, ["layer1", "layer2"], heat)


def embedded(html: str) -> dict[str, dict[str, object]]:
    """The data that a page carries for its scripts."""
    start = html.index('id="embedded">') + len('id="embedded">')
    content = json.loads(html[start : html.index("</script>", start)])
    assert isinstance(content, dict)
    return content


def visible_text(html: str) -> str:
    """What a reader sees without scripts, roughly: no tags, single spaces."""
    body = html[html.index("<main") : html.index("</main>")]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)).replace("&#39;", "'")
