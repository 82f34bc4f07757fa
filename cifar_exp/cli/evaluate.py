"""A run's checkpoint measured again, on its own data or on other data."""

import dataclasses
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from cifar_exp import data, outputs
from cifar_exp.build import Parts, build
from cifar_exp.config import parse
from cifar_exp.config.compose import compose_jobs
from cifar_exp.config.resolved import SCHEMA_ERRORS, first_line, resolve, with_schema
from cifar_exp.config.schema import OVERRIDABLE, ExperimentConfig
from cifar_exp.data import Statistics
from cifar_exp.errors import RequestError
from cifar_exp.evaluation.metrics import Evaluation
from cifar_exp.evaluation.probability_records import probability_scores
from cifar_exp.run import explain_run, measure, measure_views
from cifar_exp.run_dir import checkpoint, tables
from cifar_exp.run_dir.environment import describe_environment
from cifar_exp.run_dir.saved_run import SavedRun, new_directory
from cifar_exp.safe_io import atomic

log = logging.getLogger(__name__)

EVALUATION_COLUMNS = (
    "run",
    "weights",
    "epoch",
    "data_fingerprint",
    "images",
    "loss",
    "accuracy",
    "misclassified",
    "changed_predictions",
    "accuracy_tta",
    "ece",
    "brier",
    "temperature",
    "ece_calibrated",
    "top5_accuracy",
    "balanced_accuracy",
    "macro_f1",
)


def evaluate_run(run: SavedRun, overrides: list[str], weights: str | None, out: Path | None) -> dict[str, Any]:
    """Measure a run's checkpoint and write what a run writes about its evaluation.

    Args:
        run: the run.
        overrides: ``KEY=VALUE``; ``data=OPTION`` replaces the whole data node.
        weights: ``last`` or ``best``; None takes the one that the run itself measured.
        out: a new directory; None makes one under ``outputs/evaluations``.

    Returns:
        The row of ``evaluation.csv``.

    Raises:
        RequestError: an override that is not for evaluation, a damaged checkpoint, or data of other classes.
    """
    config = _overridden(run.config, overrides)
    which = weights or config.evaluation.weights
    path = run.path / "checkpoints" / f"{which}.pt"
    parts, state = _with_weights(config, path, run)
    out_dir = new_directory(out, "evaluations")
    try:
        out_dir.mkdir(parents=True)
    except OSError as error:
        raise RequestError(f"--out {out_dir}: cannot be made: {error.strerror}") from error
    evaluation = measure(config, parts, parts.splits.test)
    tta = measure_views(config, parts)
    outputs.write_tables(parts, evaluation, tta, out_dir)
    # The run's own table is of the weights that the run itself measured.
    same_weights = which == run.config.evaluation.weights
    changed = _changed_predictions(run, parts, evaluation) if same_weights else None
    row = {
        "run": run.path.as_posix(),
        "weights": which,
        "epoch": state.get("epoch"),
        "data_fingerprint": parts.fingerprint,
        "images": len(parts.splits.test),
        "loss": evaluation.loss,
        "accuracy": evaluation.accuracy,
        "misclassified": int((~evaluation.correct).sum()),
        "changed_predictions": changed,
        "accuracy_tta": tta.accuracy if tta else None,
        **probability_scores(evaluation, _temperature(run) if same_weights else None),
    }
    tables.write_table(out_dir / "evaluation.csv", EVALUATION_COLUMNS, [row])
    explanation = explain_run(config, parts, evaluation, out_dir)
    outputs.draw_evaluation(config, parts, evaluation, explanation, out_dir, None)
    environment = describe_environment(parts.compute.device, parts.compute.precision, parts.compute.memory_format)
    atomic.write_json(out_dir / "environment.json", environment | {"data_fingerprint": parts.fingerprint})
    log.info(
        "%s of epoch %s: accuracy %.2f%%, loss %.4f, %s of %s images misclassified; written to %s",
        path,
        row["epoch"],
        100 * evaluation.accuracy,
        evaluation.loss,
        f"{row['misclassified']:,}",
        f"{row['images']:,}",
        out_dir,
    )
    if changed is not None:
        log.info(
            "The same data as the run's: %s",
            "every prediction and confidence is the same to the last bit"
            if changed == 0
            else f"{changed:,} images differ",
        )
    elif same_weights:
        log.info("Other test images than the run's.")
    return row


def _overridden(config: ExperimentConfig, overrides: list[str]) -> ExperimentConfig:
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or key.split(".")[0] not in OVERRIDABLE:
            raise RequestError(f"{override}: evaluation takes KEY=VALUE of {', '.join(OVERRIDABLE)}")
    try:
        overridden = with_schema(config)  # wrong types are refused, as in a run
    except SCHEMA_ERRORS as error:
        raise RequestError(first_line(error)) from error
    of_data = [override for override in overrides if override.split("=")[0].split(".")[0] == "data"]
    if any(override.startswith("data=") for override in of_data):
        # The network was trained on images of one size: other data is brought to it.
        overridden.data = compose_jobs([*of_data, f"data.image_size={config.data.image_size}"])[0].data
        of_data = []
    others = [override for override in overrides if override.split("=")[0].split(".")[0] != "data"]
    try:
        for override in (*of_data, *others):
            key = override.partition("=")[0]
            if OmegaConf.select(overridden, key, default=overridden) is overridden:
                raise RequestError(f"{key}: the run's config has no such key")
            OmegaConf.update(overridden, key, OverridesParser.create().parse_override(override).value())
    except HydraException as error:
        raise RequestError(f"cannot read an override: {str(error).splitlines()[0]}") from error
    except SCHEMA_ERRORS as error:
        raise RequestError(first_line(error)) from error
    return resolve(overridden)


def _with_weights(config: ExperimentConfig, path: Path, run: SavedRun) -> tuple[Parts, dict[str, Any]]:
    """The config's data and network, with the checkpoint's weights, class names and statistics."""
    state = checkpoint.load(path, torch.device("cpu"))
    names = state.get("class_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RequestError(f"{path}: holds no class names")
    fingerprint = run.environment.get("data_fingerprint")
    dataset = data.load_to_evaluate(config.data, tuple(names), run.config.data, fingerprint)
    if tuple(names) != dataset.class_names:
        raise RequestError(
            f"the run's classes are not the data's: {_listed(names)} there, {_listed(dataset.class_names)} here"
        )
    test = dataset.test
    statistics = _statistics_of(state, path, channels=test.images.shape[3])
    # Nothing is trained: no split to hold out, nothing to augment, no learning rate to search for. Networks may refuse
    # batches of one image and schedules a single step, so two batches of two images stand for the training split.
    stand_in = test.take(np.zeros(4, np.int64))
    idle = {
        "data.validation_fraction": 0.0,
        "augment": {"name": "none"},
        "batch_size": 2,
        "compile": False,
        "max_lr": 1.0,
    }
    parts = build(parse.changed(config, idle), trained=(dataclasses.replace(dataset, train=stand_in), statistics))
    try:
        parts.learner.model.load_state_dict(state["model"])
    except (RuntimeError, TypeError, AttributeError) as error:
        raise RequestError(f"{path}: does not fit the config's network: {str(error).splitlines()[0]}") from error
    return parts, state


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f", ... ({len(names)})" if len(names) > 4 else "")


def _statistics_of(state: dict[str, Any], path: Path, *, channels: int) -> Statistics:
    """The training images' statistics, which belong to the weights; those of other data would shift every input."""
    numbers = [
        value
        for values in (state.get("mean"), state.get("std"))
        if isinstance(values, list) and len(values) == channels
        for value in values
        if isinstance(value, float) and math.isfinite(value)
    ]
    if len(numbers) != 2 * channels or min(numbers[channels:]) <= 0:
        raise RequestError(f"{path}: the statistics of its training images are missing, damaged or of other channels")
    return Statistics(tuple(numbers[:channels]), tuple(numbers[channels:]))


def _temperature(run: SavedRun) -> float | None:
    """The temperature that the run fitted on its validation split; None if it has none."""
    if not (run.path / "summary.csv").exists():
        return None
    found = run.table("summary.csv", ("run",)).get("temperature")
    if found is None or not pd.api.types.is_numeric_dtype(found) or not 0 < found.iloc[0] < math.inf:
        return None
    return float(found.iloc[0])


def _changed_predictions(run: SavedRun, parts: Parts, evaluation: Evaluation) -> int | None:
    """How many images have another prediction or confidence than in the run's own table.

    None where the images are not the run's, or the run has no such table.
    """
    if parts.fingerprint != run.environment.get("data_fingerprint") or not (run.path / "predictions.csv").exists():
        return None
    before = run.table("predictions.csv", ("source", "prediction", "confidence"))
    if before["source"].tolist() != parts.splits.test.sources.tolist():
        return None
    names = np.array(parts.class_names)
    same = before["prediction"].to_numpy() == names[evaluation.predictions]
    same &= before["confidence"].to_numpy() == evaluation.confidences
    return int((~same).sum())
