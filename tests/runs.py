"""What a run measured, for tests that hold one run against another."""

import csv
from pathlib import Path

MEASURED = ("metrics.csv", "steps.csv", "predictions.csv", "per_class.csv", "gradcam.csv")
TIMING = ("train_seconds", "eval_seconds", "images_per_second")


def measured(out_dir: Path) -> dict[str, list[dict[str, str]]]:
    """The rows of a run's tables as text, so that equal means equal bits; timing columns left out."""
    return {name: _rows(out_dir / name) for name in MEASURED if (out_dir / name).exists()}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{key: cell for key, cell in row.items() if key not in TIMING} for row in csv.DictReader(file)]
