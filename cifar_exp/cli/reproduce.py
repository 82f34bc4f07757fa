"""``cifar-exp reproduce RUN``: run a saved config again and compare the metrics."""

import argparse
import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cifar_exp import data
from cifar_exp.compute import seeding
from cifar_exp.compute.device import Compute
from cifar_exp.config import parse
from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.data.augment.backend import choose
from cifar_exp.data.augment.pipeline import Augmentation
from cifar_exp.errors import DONE, FAILED, DivergedError, RequestError
from cifar_exp.run_dir import tables
from cifar_exp.run_dir.environment import Change, current_environment, list_changes, log_changes
from cifar_exp.run_dir.saved_run import SavedRun, new_output, open_run
from cifar_exp.runner import run
from cifar_exp.safe_io import atomic
from cifar_exp.safe_io.plural import plural
from cifar_exp.training import initial_weights

log = logging.getLogger(__name__)

# The columns of metrics.csv that runs of every version have. Later columns are compared if the run has them.
_NEEDED_COLUMNS = (
    "epoch", "step", "learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss",
    "test_accuracy",
)  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """The first cell in which the reproduction's table differs from the run's."""

    row: str  # ``epoch 3`` or ``step 17``
    column: str | None  # the column; None if the whole row is missing in one of them
    then: float | str | None  # the run's value; None if it has none
    now: float | str | None  # the reproduction's value


def main(options: argparse.Namespace) -> int:
    """Run the command; returns 0 if the numbers are the same, 1 if they differ."""
    if not options.tolerance >= 0:
        raise RequestError(f"--tolerance {options.tolerance}: must be at least 0")
    out_dir = new_output(options.out, "reproductions")
    for override in options.overrides:
        raise RequestError(f"{override}: a reproduction runs the saved config; only trust=[...] can be set")
    saved = open_run(options.run, trust=options.trust)
    config = initial_weights.use_saved_weights(saved.config, saved.path)
    if options.data_root is not None:
        if not hasattr(config.data, "root"):
            raise RequestError(f"--data-root: data={config.data.name} has no root")
        config = parse.changed(config, {"data.root": str(options.data_root.absolute())})
    if not config.deterministic:
        log.warning("The run used deterministic=false: identical bits are not guaranteed.")
    # Read first, so that a damaged table is reported before the training.
    metrics = saved.table("metrics.csv", _NEEDED_COLUMNS, numeric=True)
    predictions_then = None
    if (saved.path / "predictions.csv").exists():
        predictions_then = saved.table("predictions.csv", ("index", "prediction"))
    changed = _changes(saved, config)
    log_changes(changed)
    try:
        run(config, out_dir)
    except DivergedError as error:
        log.warning("The reproduction diverged, the run did not: %s", error)
    path = out_dir / "metrics.csv"
    again = tables.read_table(path) if path.exists() else metrics.iloc[:0]
    first = first_difference(metrics, again, options.tolerance)
    predictions = _compare_predictions(predictions_then, out_dir)
    single_predictions_differ = options.tolerance == 0 and predictions is not None and predictions["changed"] > 0
    verdict: dict[str, Any] = {
        "same": first is None and not single_predictions_differ,
        "run": str(saved.path.absolute()),
        "tolerance": options.tolerance,
        "epochs_compared": min(len(metrics), len(again)),
        "first_difference": None if first is None else {"table": "metrics.csv", **asdict(first)},
        "final_differences": _final_differences(metrics, again),
        "predictions": predictions,
        "changes": [asdict(change) for change in changed],
    }
    atomic.write_json(out_dir / "reproduction.json", verdict)
    _log_verdict(verdict, first, out_dir)
    return DONE if verdict["same"] else FAILED


def first_difference(then: pd.DataFrame, now: pd.DataFrame, tolerance: float) -> Difference | None:
    """The first difference between two ``metrics.csv``, row by row; None if they are equal.

    Timing columns are ignored. Two missing values are the same; a missing value and a number differ.
    """
    columns = [name for name in then.columns if name not in tables.TIMING_COLUMNS]
    if absent := [name for name in columns if name not in now.columns]:
        return Difference("header", absent[0], absent[0], None)
    shared = min(len(then), len(now))
    a, b = (table[columns].iloc[:shared].to_numpy(float) for table in (then, now))
    for row, column in np.argwhere(~np.isclose(a, b, rtol=0, atol=tolerance, equal_nan=True)):
        values = (None if math.isnan(table[row, column]) else float(table[row, column]) for table in (a, b))
        return Difference(f"epoch {then['epoch'].iloc[row]}", columns[column], *values)
    if len(then) == len(now):
        return None
    longer, there = (then, ("there", None)) if shared < len(then) else (now, (None, "there"))
    return Difference(f"epoch {longer['epoch'].iloc[shared]}", None, *there)


def _final_differences(then: pd.DataFrame, now: pd.DataFrame) -> dict[str, float]:
    """Difference of the last rows, for each column with a number in both."""
    last = now.tail(1).reset_index(drop=True) - then.tail(1).reset_index(drop=True)
    last = last.drop(columns=list(tables.TIMING_COLUMNS), errors="ignore").dropna(axis=1)
    return {str(name): float(value) for name, values in last.items() for value in values}


def _compare_predictions(then: pd.DataFrame | None, out_dir: Path) -> dict[str, int] | None:
    """Number of images with another prediction; None if a table is missing."""
    if then is None or not (out_dir / "predictions.csv").exists():
        return None
    now = tables.read_table(out_dir / "predictions.csv")["prediction"]
    if len(then) != len(now):
        return {"images": len(then), "changed": max(len(then), len(now))}
    return {"images": len(then), "changed": int((then["prediction"] != now).sum())}


def _changes(saved: SavedRun, config: ExperimentConfig) -> list[Change]:
    """Changes of config, code, packages, machine and data since the run."""
    edited = [Change("config_resolved.yaml", "as the run started", "edited since")] if saved.edited else []
    if not saved.environment:
        log.warning("The run has no environment.json: changes since then are unknown.")
        return edited
    compute = Compute.choose(config.device, config.precision, config.memory_format)
    seeding.set_threads(config.threads)
    dataset = data.load(config.data)
    _, height, width, channels = dataset.train.images.shape
    # The fill colour does not affect the choice of the backend.
    augmentation = Augmentation(config.augment.transforms, (0.0,) * channels, (height, width, channels))
    backend = choose(config.augment_backend, augmentation, compute.device, dataset.train.images.nbytes)
    now, diff = current_environment(compute, backend.name, dataset.fingerprint)
    return edited + list_changes(saved.path, saved.environment, now, diff)


def _log_verdict(verdict: dict[str, Any], first: Difference | None, out_dir: Path) -> None:
    epochs, predictions = verdict["epochs_compared"], verdict["predictions"]
    exactly = "identical to the last bit" if verdict["tolerance"] == 0 else f"the same within {verdict['tolerance']:g}"
    if first is None:
        log.info("Metrics: %s in %s%s.", exactly, "all " if epochs > 1 else "", plural(epochs, "epoch"))
    else:
        where = first.row if first.column is None else f"{first.row}, column {first.column}"
        log.info("Metrics: DIFFERENT, first at %s: %s -> %s", where, first.then, first.now)
        for column in ("train_loss", "val_accuracy", "test_loss", "test_accuracy"):
            if column in verdict["final_differences"]:
                log.info("  last row: %-14s differs by %+g", column, verdict["final_differences"][column])
    if predictions is not None:
        log.info("Predictions: %s of %s images changed.", f"{predictions['changed']:,}", f"{predictions['images']:,}")
    log.info("Verdict: %s; written to %s", "SAME" if verdict["same"] else "DIFFERENT", out_dir / "reproduction.json")
