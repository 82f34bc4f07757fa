"""Run directories made by hand, for tests of what compares them: every number in them is the test's own."""

import csv
import json
from pathlib import Path
from typing import Any

FINGERPRINT = "f" * 64
CONFIG = {
    "name": "made",
    "seed": 0,
    "epochs": 2,
    "max_lr": 0.1,
    "device": "auto",
    "precision": "auto",
    "threads": "",
    "figures": True,
    "model._target_": "cifar_exp.models.resnet9",
    "model.name": "resnet9",
    "data._target_": "cifar_exp.data.mnist5k",
    "data.name": "mnist5k",
    "data.cache": "",
    "optimizer.weight_decay": 0.0005,
    "explain.images": 10,
}


def make_run(
    directory: Path,
    correct: str = "1110",
    *,
    state: str = "completed",
    error: str | None = None,
    without: tuple[str, ...] = (),
    measured: dict[str, Any] | None = None,
    **config: Any,
) -> Path:
    """Make a run directory.

    Args:
        directory: to make.
        correct: for each test image, 1 or 0: whether it is right. Image i is of class "cat" or "dog" by turns.
        state: of the run.
        error: what the run recorded.
        without: columns that its summary lacks.
        measured: measured columns of the summary, beside or instead of the usual ones.
        config: keys of the config, with ``__`` for the dot.
    """
    directory.mkdir(parents=True)
    status = {"state": state, "error": error, "started_at": "2026-01-01T00:00:00+00:00", "epochs_completed": 2}
    (directory / "status.json").write_text(json.dumps(status))
    right = [letter == "1" for letter in correct]
    row: dict[str, Any] = {"run": "wherever/it/was", "state": state, "epochs_completed": 2}
    if state == "completed":
        row |= {
            "train_loss": 0.5,
            "val_accuracy": sum(right) / len(right),  # orders the runs as the test accuracy does
            "test_loss": 1 - sum(right) / len(right),
            "test_accuracy": sum(right) / len(right),
            "misclassified": right.count(False),
            "precision": "float32",
            "device": "cpu",
            "data_fingerprint": FINGERPRINT,
            "selection_split": "validation",
        }
        write_predictions(directory, right)
        rows = [f"{epoch},{epoch * 5},0.1,{1 / epoch},0.5,,0.5,,,1,1,1" for epoch in (1, 2)]
        header = "epoch,step,learning_rate,train_loss,train_accuracy,val_loss,val_accuracy,test_loss,test_accuracy,"
        (directory / "metrics.csv").write_text("\n".join([header + "a,b,c", *rows]) + "\n")
    keys = CONFIG | {key.replace("__", "."): value for key, value in config.items()}
    row |= (measured or {}) | {f"config.{key}": value for key, value in keys.items()}
    row = {key: value for key, value in row.items() if key not in without}
    with (directory / "summary.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, row, lineterminator="\n")
        writer.writeheader()
        writer.writerow(row)
    return directory


def write_predictions(directory: Path, right: list[bool], source: str = "image") -> None:
    """Write ``predictions.csv``."""
    names = ("cat", "dog")
    lines = ["index,source,label,prediction,confidence,correct"]
    for index, good in enumerate(right):
        lines.append(f"{index},{source}[{index}],{names[index % 2]},{names[(index + (not good)) % 2]},0.75,{good}")
    (directory / "predictions.csv").write_text("\n".join(lines) + "\n")
