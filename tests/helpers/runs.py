"""What a run recorded, for tests that look at its state or hold it against another."""

import csv
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

MEASURED = ("metrics.csv", "steps.csv", "predictions.csv", "per_class.csv", "gradcam.csv")
TIMING = ("train_seconds", "eval_seconds", "images_per_second")


def state_of(out_dir: Path) -> dict[str, Any]:
    """The content of a run's ``status.json``."""
    return json.loads((out_dir / "status.json").read_text())


def measured(out_dir: Path) -> dict[str, list[dict[str, str]]]:
    """The rows of a run's tables as text, so that equal means equal bits; timing columns left out."""
    return {name: _rows(out_dir / name) for name in MEASURED if (out_dir / name).exists()}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{key: cell for key, cell in row.items() if key not in TIMING} for row in csv.DictReader(file)]


def metrics_of(run_dir: Path) -> pd.DataFrame:
    return pd.read_csv(run_dir / "metrics.csv", float_precision=None).drop(columns=[*TIMING])


def rows_of(run_dir: Path) -> int:
    path = run_dir / "metrics.csv"
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


def edit(run_dir, **changes):
    """Change values of a saved config, by keys such as ``data__root``."""
    path = run_dir / "config_resolved.yaml"
    config = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        *groups, leaf = key.split("__")
        node = config
        for group in groups:
            node = node[group]
        node[leaf] = value
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def signal_at(patch: pytest.MonkeyPatch, number: int, which: int = signal.SIGINT) -> None:
    """Arrange for a signal in a certain step of the next run."""
    call_at(patch, number, lambda: signal.raise_signal(which))


def call_at(patch: pytest.MonkeyPatch, number: int, action: Callable[[], object]) -> None:
    """Arrange for a call in a certain step, counted from now."""
    from cifar_exp.training.progress import EpochProgress

    steps = []
    update = EpochProgress.update

    def counting(progress: EpochProgress, *arguments: Any) -> None:
        steps.append(1)
        if len(steps) == number:
            action()
        update(progress, *arguments)

    patch.setattr(EpochProgress, "update", counting)
